"""An instance does not fit the schema of its graph.

The graph becomes a kind of the cluster with a schema: fields that it does not declare, values of another type or out of
their range, and required fields that are missing are refused.

Symptom: strict decoding error: unknown field "spec.replicas"

Wrong:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string, least: integer | default=1}}
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}
          data: {least: "${string(schema.spec.least)}"}
    ---
    apiVersion: kro.run/v1alpha1
    kind: Stack
    metadata: {name: a}
    spec: {name: a, least: "2"}

Right:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string, least: integer | default=1}}
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}
          data: {least: "${string(schema.spec.least)}"}
    ---
    apiVersion: kro.run/v1alpha1
    kind: Stack
    metadata: {name: a}
    spec: {name: a, least: 2}

Source: kubernetes-sigs/kro@v0.9.3 website/docs: simple schema
"""

import difflib
from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import graphs, instances
from stoker.lint.rules.kro._simple_schema import Leaf, leaf, value_fits
from stoker.manifests.objects import Manifest
from stoker.spec.faults import Path, shown, written

_DEPTH = 40


def check(cluster: Cluster) -> Iterator[Problem]:
    for graph in graphs(cluster):
        declared = graph.schema.get("spec")
        if not isinstance(declared, dict):
            continue
        for manifest in instances(cluster, graph):
            spec = manifest.get("spec")
            if isinstance(spec, dict) or spec is None:
                yield from _section(manifest, ("spec",), declared, spec or {})


def _section(manifest: Manifest, path: Path, declared: dict[str, Any], given: dict[str, Any]) -> Iterator[Problem]:
    for key, value in given.items():
        here = (*path, key)
        if key not in declared:
            near = difflib.get_close_matches(str(key), [each for each in declared if isinstance(each, str)], 1)
            yield Problem(
                manifest,
                here,
                f"{manifest.kind} has no field {written(here)}",
                hint=near[0] if near else f"one of: {', '.join(map(str, declared))}",
                key=True,
            )
        elif isinstance(declared[key], dict):
            if isinstance(value, dict) and len(path) < _DEPTH:
                yield from _section(manifest, here, declared[key], value)
            elif value is not None:
                yield Problem(manifest, here, f"{key} is {shown(value)}; a section with fields is wanted")
        elif value is not None:
            yield from _value(manifest, here, leaf(declared[key]), value)
    for key, value in declared.items():
        if not isinstance(value, dict) and leaf(value).required and given.get(key) is None:
            yield Problem(manifest, (*path, key), f"{key} is missing, which the graph requires", hint=f"{key}: ...")


def _value(manifest: Manifest, path: Path, field: Leaf, value: Any) -> Iterator[Problem]:
    name = path[-1]
    if not value_fits(field.type, value):
        yield Problem(manifest, path, f"{name} is {shown(value)}, which is no {field.type}", hint=f"a {field.type}")
        return
    if field.enum and field.type == "string" and value not in field.enum:
        yield Problem(manifest, path, f"{name} is {shown(value)}", hint=f"one of: {', '.join(field.enum)}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        least, most = field.number("minimum"), field.number("maximum")
        if (least is not None and value < least) or (most is not None and value > most):
            ends = " and ".join(
                [f"at least {least:g}"] * (least is not None) + [f"at most {most:g}"] * (most is not None)
            )
            yield Problem(manifest, path, f"{name} is {value}", hint=ends)


RULE = Rule("STK-KRO-010", Severity.ERROR, "An instance does not fit the schema of its graph", check, __name__)
