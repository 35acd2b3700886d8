"""`python -m stoker.local.prometheus_rules SPEC OUT`: rules.yml for a Prometheus beside `stoker up`.

A process of its own, for a second at the start: what renders rules knows clouds and clusters, which the supervisor
does not carry around.
"""

import json
import sys
from pathlib import Path

from stoker.render import monitoring_rules
from stoker.render.plan import Plan
from stoker.spec import load


def main() -> None:
    spec, out = map(Path, sys.argv[1:])
    part = out.with_suffix(".part")
    part.write_text(json.dumps(monitoring_rules.local(Plan(load(spec), "karpenter")), indent=1) + "\n")
    part.replace(out)


if __name__ == "__main__":
    main()
