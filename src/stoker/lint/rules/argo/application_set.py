"""The template of an ApplicationSet is not filled in.

There are two kinds of tags: `{{name}}`, and with `goTemplate: true` `{{.name}}`. The other kind stays as it is, or
fails. A template whose name has no tag gives every Application the same name.

Symptom: function "name" not defined; ApplicationSet contains applications with duplicate name: chat

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: ApplicationSet
    metadata: {name: chat, namespace: argocd}
    spec:
      goTemplate: true
      generators:
      - clusters: {}
      template:
        metadata: {name: "chat-{{name}}"}
        spec:
          project: default
          source: {repoURL: "https://github.com/example/configs", path: chat}
          destination: {server: "{{.server}}", namespace: ai}

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: ApplicationSet
    metadata: {name: chat, namespace: argocd}
    spec:
      goTemplate: true
      generators:
      - clusters: {}
      template:
        metadata: {name: "chat-{{.name}}"}
        spec:
          project: default
          source: {repoURL: "https://github.com/example/configs", path: chat}
          destination: {server: "{{.server}}", namespace: ai}

Source: Argo CD documentation, ApplicationSet: Go Template
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._applications import GROUP
from stoker.lint.rules.argo._flows import texts_in
from stoker.manifests.objects import Manifest, sections

_GIVEN = (
    "name|nameNormalized|server|path|url|branch|branch_slug|number|cluster|repository|organization|sha|head_sha|"
    r"values\.[\w.-]+|metadata\.[\w./-]+|path\.[\w.]+|path\[\d+\]"
)
_PLAIN_TAG = re.compile(r"\{\{\s*(" + _GIVEN + r")\s*\}\}")
_GO_TAG = re.compile(r"\{\{-?\s*(\.[A-Za-z][\w.]*|index \.|if |range |with |end)[^{}]*\}\}")


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("ApplicationSet", group=GROUP):
        yield from _tags(manifest)
        yield from _one_name(manifest)


def _tags(manifest: Manifest) -> Iterator[Problem]:
    with_go = manifest.get("spec", "goTemplate") is True
    tag = _PLAIN_TAG if with_go else _GO_TAG
    for path, text in texts_in(manifest.get("spec", "template"), ("spec", "template")):
        match = tag.search(text)
        if match:
            name = match[1].strip()
            yield Problem(
                manifest,
                path,
                f"{match[0]} is {'not a tag of Go templates' if with_go else 'a tag of Go templates'}:"
                f" it is not filled in{'' if with_go else ' without goTemplate: true'}",
                hint=f"{{{{.{name}}}}}" if with_go else "goTemplate: true under spec",
            )


def _one_name(manifest: Manifest) -> Iterator[Problem]:
    name = manifest.get("spec", "template", "metadata", "name")
    if not isinstance(name, str) or not name or "{{" in name or manifest.get("spec", "templatePatch") is not None:
        return
    many = [
        key
        for _i, generator in sections(manifest.get("spec", "generators"))
        for key, value in generator.items()
        if key not in ("selector", "template")
        and (key != "list" or not isinstance(value, dict) or _more_than_one(value.get("elements")))
    ]
    if many:
        yield Problem(
            manifest,
            ("spec", "template", "metadata", "name"),
            f"every Application is called {name}: the second one that {many[0]} gives is refused",
            hint=f"{name}-{{{{.name}}}} with goTemplate: true, or another tag that differs",
        )


def _more_than_one(elements: object) -> bool:
    return not isinstance(elements, list) or len(elements) > 1


RULE = Rule("STK-ARGO-021", Severity.ERROR, "The template of an ApplicationSet is not filled in", check, __name__)
