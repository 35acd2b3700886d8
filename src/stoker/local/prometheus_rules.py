"""`python -m stoker.local.prometheus_rules SPEC OUT`: rules.yml for a Prometheus beside `stoker up`, and next to it
dashboard-NAME.json for a Grafana.

A process of its own, for a second at the start: what renders rules knows clouds and clusters, which the supervisor
does not carry around.
"""

import json
import sys
from pathlib import Path

from stoker.render import dashboards, monitoring_rules
from stoker.render.plan import Plan
from stoker.spec import load


def main() -> None:
    spec, out = map(Path, sys.argv[1:])
    plan = Plan(load(spec), "karpenter")
    for name, text in dashboards.texts(plan, is_local=True).items():
        _write(out.with_name(f"dashboard-{name}.json"), text)
    _write(out, json.dumps(monitoring_rules.local(plan), indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


if __name__ == "__main__":
    main()
