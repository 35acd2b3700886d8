"""Run by the Python that has helm-sdkpy (`scripts/helm`): actions of real Helm, a line of JSON each.

In: {"do", "release", "chart", "namespace", "kubeconfig", "values", "options"}. Out: {"done": ...} or {"refused": text}.
"""

import asyncio
import json
import sys
from typing import Any

from helm_sdkpy import Configuration, Install, Uninstall, Upgrade
from helm_sdkpy.chart import Lint
from helm_sdkpy.exceptions import HelmError


def done(asked: dict[str, Any]) -> Any:
    config = Configuration(namespace=asked.get("namespace", "default"), kubeconfig=asked.get("kubeconfig"))
    release, chart, values, options = (asked.get(key) for key in ("release", "chart", "values", "options"))
    match asked["do"]:
        case "lint":
            return asyncio.run(Lint(config).run(chart))
        case "install":
            return asyncio.run(Install(config).run(release, chart, values, **options))["info"]
        case "upgrade":
            return asyncio.run(Upgrade(config).run(release, chart, values, **options))["info"]
        case "uninstall":
            return asyncio.run(Uninstall(config).run(release, **options))
    raise ValueError(asked["do"])


for line in sys.stdin:
    try:
        answer = {"done": done(json.loads(line))}
    except HelmError as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer), flush=True)  # noqa: T201
