"""Grafana dashboards: panels as rows of a table, laid out from left to right, as the JSON that Grafana reads.

Like the rules, a panel is there only where what its expressions name is published. Source of the fields: Grafana docs,
dashboard JSON model.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from stoker.render.dashboard_panels import Panel, boards
from stoker.render.metric_names import LOCAL, names_in, published
from stoker.render.monitoring_rules import recorded
from stoker.render.plan import Plan

SCHEMA_VERSION = 41  # Grafana 12
COLUMNS = 24
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def texts(plan: Plan, *, is_local: bool = False) -> dict[str, str]:
    """The JSON of each dashboard by name; one without any panel left is left out. `is_local`: of one machine."""
    has_rules = is_local or plan.spec.global_.observability.prometheus
    known = published(plan, recorded(plan, is_local=is_local) if has_rules else (), by=LOCAL if is_local else None)
    found = {}
    for name, (title, panels) in boards(plan).items():
        kept = [panel for panel in panels if panel.needs.union(*(names_in(expr) for expr, _ in panel.queries)) <= known]
        if kept:
            found[name] = json.dumps(_dashboard(name, title, kept), indent=1) + "\n"
    return found


def _dashboard(name: str, title: str, panels: Sequence[Panel]) -> dict[str, Any]:
    used = {each for panel in panels for expr, _ in panel.queries for each in ("model", "node") if f"${each}" in expr}
    variables = [_datasource(), *(_values_of(each) for each in sorted(used))]
    return {
        "uid": f"stoker-{name}",
        "title": title,
        "tags": ["stoker"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "title": "Stoker", "tags": ["stoker"], "asDropdown": True, "keepTime": True}],
        "templating": {"list": variables},
        "panels": _laid_out(panels),
    }


def _datasource() -> dict[str, Any]:
    return {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "hide": 0}


def _values_of(label: str) -> dict[str, Any]:
    metric = {"model": "stoker_replicas", "node": "DCGM_FI_DEV_FB_USED"}[label]
    return {
        "type": "query",
        "name": label,
        "datasource": _DATASOURCE,
        "query": {"query": f"label_values({metric}, {label})", "refId": label},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def _laid_out(panels: Iterable[Panel]) -> list[dict[str, Any]]:
    """From left to right; one that has no room left begins the next row, below the highest of this one."""
    found: list[dict[str, Any]] = []
    x = y = row = 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > COLUMNS:
            x, y, row = 0, y + row, 0
        found.append(_panel(number, panel, {"x": x, "y": y, "w": panel.width, "h": panel.height}))
        x, row = x + panel.width, max(row, panel.height)
    return found


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    is_instant = panel.kind != "timeseries"
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": _DATASOURCE,
            "expr": expr,
            "legendFormat": legend,
            **({"instant": True, "range": False} if is_instant else {"range": True}),
            **({"format": "table"} if panel.kind == "table" else {}),
        }
        for index, (expr, legend) in enumerate(panel.queries)
    ]
    drawn = {"stacking": {"mode": "normal"}, "fillOpacity": 20} if panel.stacked else {"fillOpacity": 5}
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.kind == "timeseries":
        defaults |= {"min": 0, "custom": {"showPoints": "never", **drawn}}
    return {
        "id": number,
        "title": panel.title,
        "description": panel.about,
        "type": panel.kind,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if panel.kind == "timeseries" else {},
    }
