"""An expression reads a field that the resource does not have.

kro checks each expression against the definition of the resource's kind when the graph is created. With an unknown
field the graph stays Inactive, with the reason in its conditions: the API server has stored it, and nothing works.

Symptom: ResourceGraphDefinition is Inactive: undefined field 'bucketName'

Wrong:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
      resources:
      - id: bucket
        template:
          apiVersion: s3.services.k8s.aws/v1alpha1
          kind: Bucket
          metadata: {name: "${schema.spec.name}"}
          spec: {name: "${schema.spec.name}"}
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}
          data: {bucket: "${bucket.status.bucketName}"}

Right:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
      resources:
      - id: bucket
        template:
          apiVersion: s3.services.k8s.aws/v1alpha1
          kind: Bucket
          metadata: {name: "${schema.spec.name}"}
          spec: {name: "${schema.spec.name}"}
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}
          data: {bucket: "${bucket.spec.name}"}

Source: kubernetes-sigs/kro@v0.9.3 website/docs: static analysis of expressions
Source: aws-controllers-k8s/s3-controller@v1.10.0 Bucket CRD
"""

import difflib
from collections.abc import Iterator
from typing import Any

from stoker.catalog import schemas
from stoker.catalog.schemas import Schema
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import Graph, Reference, Resource, graphs


def check(cluster: Cluster) -> Iterator[Problem]:
    for graph in graphs(cluster):
        by_id = graph.by_id
        said = set()
        for reference in graph.reads:
            resource = by_id.get(reference.root)
            schema = _schema(cluster, resource) if resource is not None else None
            problem = _problem(graph, reference, resource, schema) if resource is not None and schema else None
            if problem is not None and (place := (id(problem.manifest), problem.path, str(reference))) not in said:
                said.add(place)
                yield problem


def _schema(cluster: Cluster, resource: Resource) -> Schema | None:
    api_version, kind = resource.template.get("apiVersion"), resource.template.get("kind")
    if not isinstance(api_version, str) or not isinstance(kind, str):
        return None
    return schemas.find(api_version, kind, cluster.kubernetes)


def _problem(graph: Graph, reference: Reference, resource: Resource, schema: Schema) -> Problem | None:
    fields = reference.fields
    if reference.is_optional:
        fields = fields[:-1]
    if resource.is_collection or not fields or fields[0] in ("metadata", "apiVersion", "kind"):
        return None  # a collection is a list of such objects; the rest every object has
    if isinstance(fields[0], int):
        return None
    missing, known = _missing(schema, fields)
    if missing is None:
        return None
    where = ".".join(map(str, fields[:missing])) or "it"
    kind = resource.template.get("kind")
    near = difflib.get_close_matches(str(fields[missing]), known, 1)
    return Problem(
        reference.manifest,
        reference.path,
        f"{reference}: {kind} has no {'.'.join(map(str, fields[: missing + 1]))}, and the graph stays Inactive",
        hint=_hint(reference.root, fields, missing, known, near, where),
    )


def _hint(root: str, fields: tuple[str | int, ...], missing: int, known: list[str], near: list[str], where: str) -> str:
    if near:
        return f"{'.'.join([root, *map(str, fields[:missing])])}.{near[0]}"
    listed = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
    return f"{where} has: {listed}; what was written to it is under {root}.spec" if known else f"{root}.spec"


def _missing(schema: Schema, fields: tuple[str | int, ...]) -> tuple[int | None, list[str]]:
    """The index of the first field that is not there, and what is there instead."""
    tree: Any = schema.resolve(schema.tree)
    for i, name in enumerate(fields):
        if not isinstance(tree, dict) or tree.get("x-kubernetes-preserve-unknown-fields"):
            return None, []
        tree = schema.resolve(tree)
        if isinstance(name, int):
            tree = tree.get("items")
            continue
        properties = tree.get("properties")
        if not isinstance(properties, dict):
            tree = tree.get("additionalProperties")
        elif name in properties:
            tree = properties[name]
        elif "additionalProperties" in tree:
            tree = tree["additionalProperties"]
        else:
            return i, sorted(properties)
    return None, []


RULE = Rule(
    "STK-KRO-004",
    Severity.ERROR,
    "An expression reads a field that the resource does not have",
    check,
    __name__,
    guide=("E22",),
)
