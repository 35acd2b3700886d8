"""The images that a platform.yaml asks for, a line each: what, and the name that its pods have.

.venv/bin/python scripts/image_names.py platform.yaml
"""

import sys
from pathlib import Path
from typing import get_args

from stoker.render.plan import Image, Plan
from stoker.spec import load


def main() -> None:
    spec = load(Path(sys.argv[1]))
    plan = Plan(spec, spec.global_.cluster.mode)
    for part in get_args(Image):
        print(part, plan.image(part))


if __name__ == "__main__":
    main()
