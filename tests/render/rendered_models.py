"""What components make of a spec, as a test looks at it, and a namespace with all that they refer to."""

from collections.abc import Iterable
from typing import Any

from stoker.lint.findings import Finding
from stoker.lint.run import lint
from stoker.manifests.reading import read_text
from stoker.render import models, nodes, scaling, workers
from stoker.render.items import Resource
from stoker.render.plan import Plan
from stoker.render.writing import files
from stoker.spec import Mode, loads

Object = dict[str, Any]
COMPONENTS = (models, workers, scaling)


def plan(text: str = "", mode: Mode = "karpenter") -> Plan:
    return Plan(loads(text), mode)


def objects(made_of: Plan) -> dict[str, Object]:
    """By `Kind name`."""
    found = [item for component in COMPONENTS for item in component.render(made_of) if isinstance(item, Resource)]
    return {f"{item.object['kind']} {item.object['metadata']['name']}": item.object for item in found}


def comments(made_of: Plan) -> dict[str, str]:
    found = [item for component in COMPONENTS for item in component.render(made_of) if isinstance(item, Resource)]
    return {f"{item.object['kind']} {item.object['metadata']['name']}": item.comment for item in found}


def pod_of(workload: Object) -> Object:
    pod: Object = workload["spec"]["template"]["spec"]
    return pod


def container(pod: Object, name: str) -> Object:
    return next(each for each in pod["containers"] if each["name"] == name)


def env(of: Object) -> dict[str, Any]:
    """A value, or `secret/key` of where it comes from, or the path of a field."""
    return {each["name"]: each.get("value", _source(each.get("valueFrom", {}))) for each in of["env"]}


def _source(said: Object) -> str:
    secret, field = said.get("secretKeyRef"), said.get("fieldRef")
    return f"{secret['name']}/{secret['key']}" if secret else field["fieldPath"] if field else ""


def findings(made_of: Plan) -> list[Finding]:
    """What the linter says, of any level, about what the three components made, among the pools and what base makes."""
    made = files(item for component in (*COMPONENTS, nodes) for item in component.render(made_of))
    text = "---\n".join([*(each for name, each in made.items() if _is_objects(name)), *_context(made_of)])
    return [each for each in lint(read_text(text, "all.yaml")).findings if not _is_of_others(each)]


def _is_objects(file: str) -> bool:
    return file.endswith(".yaml") and file != "kustomization.yaml"


def _is_of_others(finding: Finding) -> bool:
    of = (finding.object or "").split(" ")[0]
    return of in ("NodePool", "EC2NodeClass", "NodeClass", "ExternalSecret", "ConfigMap")


def _context(made_of: Plan) -> Iterable[str]:
    namespace = made_of.namespace
    yield f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: platform, namespace: {namespace}}}, data: {{a: b}}}}\n"
    for name in ("stoker-serving", "stoker-platform"):
        yield f"{{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {{name: {name}}}, value: 1000}}\n"
    secrets = {"redis": "password url address", "engine": "key", **{f"engine-{name}": "key" for name in made_of.hosted}}
    for name, keys in secrets.items():
        data = "".join(f"  - {{secretKey: {key}, remoteRef: {{key: x, property: {key}}}}}\n" for key in keys.split())
        yield (
            f"apiVersion: external-secrets.io/v1\nkind: ExternalSecret\n"
            f"metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  refreshInterval: 1h\n"
            f"  secretStoreRef: {{kind: ClusterSecretStore, name: aws}}\n  target: {{name: {name}}}\n  data:\n{data}"
        )
