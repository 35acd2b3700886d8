"""What the stand-in refuses of one object: our own validators (`lint.structural`, `lint.core_validation`), names, and
changes of what Kubernetes lets nobody change."""

from collections.abc import Iterator
from typing import Any

from stoker.lint import core_validation, names, structural
from stoker.lint.structural import Fault
from stoker.spec.faults import written
from stoker.testing.kubernetes.resources import Resource
from stoker.testing.kubernetes.statuses import ApiError

Tree = dict[str, Any]

_REASONS = {
    structural.MISSING_FIELD: "FieldValueRequired",
    structural.WRONG_TYPE: "FieldValueTypeInvalid",
    structural.NOT_IN_ENUM: "FieldValueNotSupported",
    structural.DUPLICATE_KEY: "FieldValueDuplicate",
    structural.TOO_MANY: "FieldValueTooMany",
}
_FIXED: dict[tuple[str, str], tuple[tuple[str, ...], ...]] = {
    ("apps", "Deployment"): (("spec", "selector"),),
    ("apps", "DaemonSet"): (("spec", "selector"),),
    ("apps", "ReplicaSet"): (("spec", "selector"),),
    ("apps", "StatefulSet"): (
        ("spec", "selector"),
        ("spec", "serviceName"),
        ("spec", "volumeClaimTemplates"),
        ("spec", "podManagementPolicy"),
    ),
    ("batch", "Job"): (("spec", "selector"), ("spec", "template"), ("spec", "completionMode")),
    ("", "Secret"): (("type",),),
    ("rbac.authorization.k8s.io", "RoleBinding"): (("roleRef",),),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): (("roleRef",),),
    ("storage.k8s.io", "StorageClass"): (
        ("provisioner",),
        ("parameters",),
        ("reclaimPolicy",),
        ("volumeBindingMode",),
    ),
    ("scheduling.k8s.io", "PriorityClass"): (("value",), ("preemptionPolicy",)),
}
"""Fields that are as they were made. A field that was not there may be written once only where it has a default; what
defaults there are is not known here, so that a field which appears or goes counts as changed only for `template`."""


def check(obj: Tree, resource: Resource, version: str, strict: bool) -> list[str]:
    """Raises ApiError with every fault. The answer is a warning for each field that is not known, unless `strict`:
    then they are refused, too."""
    schema = resource.schema(version)
    faults: list[Fault] = [] if schema is None else structural.faults(obj, schema)
    if resource.core:
        faults += core_validation.core_faults(obj, (resource.group, version, resource.kind))
    elif schema is None:
        faults += structural.name_faults(obj.get("metadata"), ("metadata",), structural.never_open)
    unknown = [each for each in faults if each.kind == structural.UNKNOWN_FIELD]
    wrong = [each for each in faults if each.kind not in (structural.UNKNOWN_FIELD, structural.NOT_EVALUATED)]
    if unknown and strict:
        raise ApiError(
            400,
            "strict decoding error: " + ", ".join(f'unknown field "{_dotted(each)}"' for each in unknown),
            details={"causes": [_cause(each) for each in unknown]},
        )
    if wrong:
        raise invalid(resource, obj, [_cause(each) for each in wrong])
    return [f'unknown field "{_dotted(each)}"' for each in unknown]


def check_change(old: Tree, new: Tree, resource: Resource) -> None:
    """Raises ApiError where a field changes that Kubernetes does not let change."""
    causes = [
        {"reason": "FieldValueInvalid", "message": "Invalid value: field is immutable", "field": ".".join(path)}
        for path in _changed(old, new, resource)
    ]
    if causes:
        raise invalid(resource, new, causes)


def check_place(obj: Tree, resource: Resource, version: str, namespace: str, name: str | None) -> None:
    """Kind, version, name and namespace are those of the path that is written to."""
    meta = obj.get("metadata")
    if not isinstance(meta, dict):
        raise ApiError(400, "metadata must be an object")
    if obj.get("kind") != resource.kind or obj.get("apiVersion") != resource.api_version(version):
        raise ApiError(
            400,
            f"{obj.get('apiVersion')}, Kind={obj.get('kind')} does not match the path's"
            f" {resource.api_version(version)}, Kind={resource.kind}",
        )
    here = meta.get("namespace")
    if here and here != namespace:
        said = "the namespace of the provided object does not match the namespace sent on the request"
        raise ApiError(400, f"{said}: {here} and {namespace or 'none'}")
    if name is not None and meta.get("name") != name:
        raise ApiError(400, f"the name of the object ({meta.get('name')}) does not match the name on the URL ({name})")
    if namespace and names.dns_label(namespace):
        raise ApiError(400, f'the namespace "{namespace}" {names.dns_label(namespace)}')


def invalid(resource: Resource, obj: Tree, causes: list[Tree]) -> ApiError:
    """422 as Kubernetes words it."""
    name = str(obj.get("metadata", {}).get("name", ""))
    said = [f"{each['field']}: {each['message']}" for each in causes]
    listed = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    what = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = {"name": name, "group": resource.group, "kind": resource.kind, "causes": causes}
    return ApiError(422, f'{what} "{name}" is invalid: {listed}', details=details)


def _changed(old: Tree, new: Tree, resource: Resource) -> Iterator[tuple[str, ...]]:
    id = (resource.group, resource.kind)
    for path in _FIXED.get(id, ()):
        before, after = _look(old, path), _look(new, path)
        if before != after and before is not None:
            yield path
    if id == ("", "Service"):
        before, after = _look(old, ("spec", "clusterIP")), _look(new, ("spec", "clusterIP"))
        if before and before != after and _look(new, ("spec", "type")) != "ExternalName":
            yield ("spec", "clusterIP")
    if id in {("", "ConfigMap"), ("", "Secret")} and old.get("immutable") is True:
        yield from ((each,) for each in ("data", "binaryData", "immutable") if old.get(each) != new.get(each))
    if id == ("", "PersistentVolumeClaim") and _claim(old) != _claim(new):
        yield ("spec",)


def _claim(obj: Tree) -> Tree:
    """What of a claim may not change: all but what it asks for, which may grow, and the volume that it was given."""
    free = ("resources", "volumeName", "volumeAttributesClassName")
    return {key: each for key, each in (obj.get("spec") or {}).items() if key not in free}


def _look(obj: Tree, path: tuple[str, ...]) -> Any:
    found: Any = obj
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _dotted(fault: Fault) -> str:
    return written(fault.path)


def _cause(fault: Fault) -> Tree:
    return {
        "reason": _REASONS.get(fault.kind, "FieldValueInvalid"),
        "message": fault.message + (f" ({fault.hint})" if fault.hint else ""),
        "field": written(fault.path),
    }
