"""`render_chart`: a spec into a Helm chart of the same objects, whose values are platform.yaml.

A chart cannot do what `render` does with a changed value: choose instance types, count nodes, leave objects out. So its
values are of two kinds. Live ones are put in by templates (`chart_live`, found by `chart_probing`); all others have to
be those that the chart was rendered for, and the chart refuses the rest with what to do (`chart_templates.CHECK`).
"""

import json
from typing import Any

from stoker import __version__
from stoker.manifests.writing import to_yaml
from stoker.render import chart_pages, chart_templates
from stoker.render.chart_probing import Probed, probe
from stoker.render.plan import Maker
from stoker.spec import Mode, Platform, json_schema
from stoker.spec.yaml import dump as yaml_text

NAME = "platform"
"""Of the chart, as the guide calls it: `helm install agentic-ai agentic-ai/platform`."""
_KUBERNETES = ">=1.30.0-0"
"""The first with `preStop.sleep` on by default (KEP-3960). -0: EKS has versions such as v1.34.1-eks-3025e55."""
_DRAFT = "http://json-schema.org/draft-07/schema#"
"""Helm before 3.18 knows no later one (helm/helm pull request 12743); the schema uses nothing that came after it."""
_IGNORED = ".stoker-render.json\n"
_ABOUT_VALUES = """\
# The whole of platform.yaml, every key with its value; docs/spec.md of Stoker says what each is.
# Only the keys that README.md lists may be changed at installation. Another value of any other key is refused:
# `stoker render --helm -f YOUR-VALUES.yaml -o CHART` makes a chart for it.
"""


def render_chart(platform: Platform, *, mode: Mode | None = None, aws: Maker = "ack") -> dict[str, str]:
    """Texts by file name: the objects of `render` with the same arguments, without those of on-demand/ and without
    Terraform's files. The same spec gives the same bytes. Raises what `render` raises."""
    if mode is not None:
        cluster = platform.global_.cluster.model_copy(update={"mode": mode})
        platform = platform.model_copy(update={"global_": platform.global_.model_copy(update={"cluster": cluster})})
    probed = probe(platform, aws)
    files = {
        ".helmignore": _IGNORED,
        "Chart.yaml": chart_templates.HEAD + to_yaml(_chart()),
        "README.md": chart_pages.readme(probed),
        "files/live.json": _json({".".join(key.path): chart_templates.bounds(key) for key in probed.keys}),
        "files/values.json": _json(probed.rendered.values),
        "templates/NOTES.txt": chart_pages.notes(probed),
        "templates/_check.tpl": chart_templates.CHECK,
        "templates/_platform.tpl": chart_templates.platform(probed),
        "templates/_text.tpl": chart_templates.HELPERS,
        "templates/check.yaml": _CHECKED,
        "values.schema.json": _json({**json_schema(), "$schema": _DRAFT}),
        "values.yaml": _ABOUT_VALUES + yaml_text(probed.rendered.values),
    }
    return dict(sorted((files | _templates(probed)).items()))


_CHECKED = '{{- include "stoker.check" . -}}\n'


def _templates(probed: Probed) -> dict[str, str]:
    """By name. A file with expressions begins with the check, so that none of them meets a value that is not there."""
    documents: dict[str, list[str]] = {}
    for resource in probed.rendered.resources:
        documents.setdefault(f"templates/{resource.file}", []).append(chart_templates.document(probed, resource))
    texts = {name: "".join(each) for name, each in documents.items()}
    return {
        name: (_CHECKED if chart_templates.is_template(text) else "") + chart_templates.HEAD + text
        for name, text in texts.items()
    }


def _chart() -> dict[str, Any]:
    return {
        "apiVersion": "v2",
        "name": NAME,
        "description": "An agentic-AI platform on EKS, from one platform.yaml.",
        "type": "application",
        "version": __version__,
        "appVersion": __version__,
        "kubeVersion": _KUBERNETES,
    }


def _json(tree: Any) -> str:
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"
