"""Run by the Python that has helm-sdkpy (`scripts/helm`): one action of real Helm, told and answered as JSON.

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
            return asyncio.run(Install(config).run(release, chart, values, **(options or {})))
        case "upgrade":
            return asyncio.run(Upgrade(config).run(release, chart, values, **(options or {})))
        case "uninstall":
            return asyncio.run(Uninstall(config).run(release, **(options or {})))
    raise ValueError(asked["do"])


try:
    print(json.dumps({"done": done(json.load(sys.stdin))}))
except HelmError as error:
    print(json.dumps({"refused": str(error)}))
