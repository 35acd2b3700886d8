"""What the stand-in does with a request for objects: get, list, create, replace, patch, delete. No HTTP, no threads.

Not as Kubernetes: a strategic merge patch merges lists by the keys of the schema and knows `$patch: delete` of items,
and no other directive; nothing is converted between versions.
"""

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from stoker.testing.kubernetes import apply, defaults, patches, selecting, validation
from stoker.testing.kubernetes.apply import ConflictError, Manager
from stoker.testing.kubernetes.resources import Registry, Resource, defined_by
from stoker.testing.kubernetes.statuses import ApiError, not_found, status
from stoker.testing.kubernetes.storage import Id, Storage

Tree = dict[str, Any]

APPLY_TYPES = ("application/apply-patch+yaml", "application/apply-patch+cbor")
_NAMESPACE = ("", "Namespace")
_DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")
_CLUSTER_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


@dataclass(frozen=True)
class Target:
    """What a path names: a collection, or the object `name` in it, or its `subresource`."""

    resource: Resource
    version: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def id(self) -> Id:
        return (self.resource.group, self.resource.kind, self.namespace, self.name)

    @property
    def api_version(self) -> str:
        return self.resource.api_version(self.version)


@dataclass(frozen=True)
class Query:
    """Of a URL, as far as verbs read it."""

    manager: str = ""
    agent: str = ""
    """The program that asks: the manager of its writes where it names none. An apply has to name one."""
    force: bool = False
    dry_run: bool = False
    validation: str = "Warn"
    labels: str = ""
    fields: str = ""
    limit: int = 0
    after: str = ""
    warnings: list[str] = field(default_factory=list)
    """Filled by verbs: the headers `Warning` of the answer."""


class Verbs:
    """`written` is told of every object that was written or removed, outside a dry run: for controllers."""

    def __init__(self, registry: Registry, storage: Storage, written: Callable[[Id], None]) -> None:
        self.registry = registry
        self.storage = storage
        self._written = written
        for name in _CLUSTER_NAMESPACES:
            obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {}}
            self._labelled(obj)
            storage.create(("", "Namespace", "", name), {**obj, "status": {"phase": "Active"}})

    # reading

    def get(self, target: Target) -> Tree:
        return self.shown(self._there(target), target)

    def collection(self, target: Target, query: Query) -> Tree:
        matches = selecting.selector(query.labels, query.fields)
        found = [obj for _, obj in self.storage.of(target.resource, target.namespace) if matches(obj)]
        meta: Tree = {"resourceVersion": str(self.storage.version)}
        start = int(query.after) if query.after.isdecimal() else 0
        if query.limit and len(found) > start + query.limit:
            meta["continue"] = str(start + query.limit)
            meta["remainingItemCount"] = len(found) - start - query.limit
        page = found[start : start + query.limit] if query.limit else found[start:]
        return {
            "kind": f"{target.resource.kind}List",
            "apiVersion": target.api_version,
            "metadata": meta,
            "items": [self.shown(each, target) for each in page],
        }

    def shown(self, obj: Tree, target: Target) -> Tree:
        """A copy in the version that was asked for."""
        return {**copy.deepcopy(obj), "apiVersion": target.api_version}

    def _there(self, target: Target) -> Tree:
        found = self.storage.get(target.id)
        if found is None:
            raise not_found(target.resource.plural, target.resource.group, target.name)
        return found

    # writing

    def create(self, target: Target, body: Tree, query: Query) -> Tree:
        validation.check_place(body, target.resource, target.version, target.namespace, None)
        body = copy.deepcopy(body)
        meta = body["metadata"]
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = f"{meta['generateName']}{self.storage.version:05d}"
        target = Target(target.resource, target.version, target.namespace, str(meta.get("name", "")))
        if target.name and self.storage.get(target.id) is not None:
            details = {"name": target.name, "group": target.resource.group, "kind": target.resource.plural}
            raise ApiError(409, f'{target.resource.full_name} "{target.name}" already exists', "AlreadyExists", details)
        return self._write(target, {}, body, query)

    def replace(self, target: Target, body: Tree, query: Query) -> Tree:
        validation.check_place(body, target.resource, target.version, target.namespace, target.name)
        old = self._there(target)
        self._same_version(target, old, body)
        return self._write(target, old, body, query)

    def patch(self, target: Target, content: str, body: bytes, query: Query) -> Tree:
        if content in APPLY_TYPES:
            return self._apply(target, body, query)
        old = self._there(target)
        change = _read(body)
        shape = target.resource.shape(target.version)
        if content == "application/json-patch+json":
            new = patches.json_patch(old, change)
        elif content == "application/merge-patch+json":
            new = patches.merge_patch(old, change)
        elif content == "application/strategic-merge-patch+json":
            if not target.resource.core:
                raise ApiError(
                    415,
                    "the body of the request was in an unknown format - accepted media types include:"
                    " application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
                )
            new = patches.strategic_merge_patch(old, change, shape)
        else:
            raise ApiError(415, f"the body of the request was in an unknown format: {content}")
        if not isinstance(new, dict):
            raise ApiError(422, "the patch leaves no object")
        new = {**new, "apiVersion": target.api_version, "kind": target.resource.kind}
        validation.check_place(new, target.resource, target.version, target.namespace, target.name)
        self._same_version(target, old, new)
        return self._write(target, old, new, query)

    def _apply(self, target: Target, body: bytes, query: Query) -> Tree:
        if not query.manager:
            raise ApiError(
                400, 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
            )
        config = _read(body)
        if not isinstance(config, dict):
            raise ApiError(400, "the body of an apply must be an object")
        validation.check_place(config, target.resource, target.version, target.namespace, target.name)
        if config["metadata"].get("managedFields"):
            raise ApiError(400, "metadata.managedFields must be nil")
        old = self.storage.get(target.id) or {}
        self._same_version(target, old, config)
        shape = target.resource.shape(target.version)
        manager = Manager(query.manager, "Apply", subresource=target.subresource)
        config = apply.without_nulls(config)
        config = self._part(target, config)
        query.warnings.extend(self._check(target, config if not old else merged_for_check(old, config), query))
        try:
            new, owners = apply.apply(old, apply.owners_of(old), config, manager, shape, force=query.force)
        except ConflictError as error:
            raise ApiError(409, str(error), details={"causes": error.causes()}) from error
        return self._store(target, old, new, owners, query)

    def _write(self, target: Target, old: Tree, new: Tree, query: Query) -> Tree:
        """By anything but an apply."""
        new = copy.deepcopy(new)
        if old:
            new = self._kept(target, old, new)
        else:
            new = self._part(target, new)
            new["metadata"].pop("managedFields", None)
        new = defaults.fill(new, target.resource, target.version)
        query.warnings.extend(self._check(target, new, query))
        shape = target.resource.shape(target.version)
        manager = Manager(query.manager or query.agent or "unknown", "Update", target.api_version, target.subresource)
        owners = apply.updated(old, new, apply.owners_of(new), manager, shape)
        return self._store(target, old, new, owners, query)

    def _store(self, target: Target, old: Tree, new: Tree, owners: apply.Owners, query: Query) -> Tree:
        new = defaults.fill(new, target.resource, target.version)
        meta = new["metadata"]
        if target.resource.namespaced:
            meta["namespace"] = target.namespace
        self._labelled(new)
        _secret_text(new)
        if old:
            for name in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "resourceVersion"):
                if name in old["metadata"]:
                    meta[name] = old["metadata"][name]
            validation.check_change(old, new, target.resource)
        else:
            self._namespace_is_there(target)
        before = (old.get("metadata") or {}).get("managedFields") or []
        entries = apply.managed_fields(owners, before, target.api_version, "")
        if entries:
            meta["managedFields"] = entries
        else:
            meta.pop("managedFields", None)
        new["apiVersion"] = target.api_version
        if old and _told(old) == _told(new):
            return self.shown(old, target)
        self._validate_final(target, new)
        now = "" if query.dry_run else self.storage.now()
        for each in entries:
            each["time"] = each["time"] or now or _then(old)
        if old and _intent(old) != _intent(new):
            meta["generation"] = old["metadata"].get("generation", 1) + 1
        if query.dry_run:
            if not old:
                meta.update(uid="00000000-0000-0000-0000-000000000000", creationTimestamp=_then(old), generation=1)
            return self.shown(new, target)
        stored = self.storage.replace(target.id, new) if old else self.storage.create(target.id, new)
        answer = self.shown(stored, target)
        if old and meta.get("deletionTimestamp") and not meta.get("finalizers"):
            self._gone(target.id, "Background")
        else:
            self._written(target.id)
        return answer

    def _validate_final(self, target: Target, obj: Tree) -> None:
        if target.resource.kind == "CustomResourceDefinition":
            try:
                defined = defined_by(obj)
            except (KeyError, TypeError, IndexError) as error:
                raise ApiError(422, f"the definition lacks {error}") from error
            if obj["metadata"]["name"] != defined.full_name:
                cause = {
                    "reason": "FieldValueInvalid",
                    "field": "metadata.name",
                    "message": f'Invalid value: must be spec.names.plural+"."+spec.group: {defined.full_name}',
                }
                raise validation.invalid(target.resource, obj, [cause])

    def _check(self, target: Target, obj: Tree, query: Query) -> list[str]:
        found = validation.check(obj, target.resource, target.version, query.validation == "Strict")
        return found if query.validation != "Ignore" else []

    def _part(self, target: Target, obj: Tree) -> Tree:
        """What of a written object counts: all but the status, or on `/status` nothing but that."""
        if target.subresource == "status":
            return {key: each for key, each in obj.items() if key in ("apiVersion", "kind", "metadata", "status")}
        if target.resource.status:
            return {key: each for key, each in obj.items() if key != "status"}
        return obj

    def _kept(self, target: Target, old: Tree, new: Tree) -> Tree:
        """A replacement with what its path does not write as it was."""
        if target.subresource == "status":
            kept = {key: each for key, each in old.items() if key != "status"}
            return copy.deepcopy({**kept, **({"status": new["status"]} if "status" in new else {})})
        meta = new["metadata"]
        if "managedFields" not in meta and "managedFields" in old["metadata"]:
            meta["managedFields"] = copy.deepcopy(old["metadata"]["managedFields"])
        if target.resource.status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = copy.deepcopy(old["status"])
        return new

    def _same_version(self, target: Target, old: Tree, new: Tree) -> None:
        wanted = new["metadata"].get("resourceVersion")
        if wanted and (not old or str(wanted) != old["metadata"]["resourceVersion"]):
            raise ApiError(
                409,
                f'Operation cannot be fulfilled on {target.resource.full_name} "{target.name}": the object has been'
                " modified; please apply your changes to the latest version and try again",
                details={"name": target.name, "group": target.resource.group, "kind": target.resource.plural},
            )
        uid = new["metadata"].get("uid")
        if uid and old and uid != old["metadata"]["uid"]:
            raise ApiError(
                409, f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata']['uid']}"
            )

    def _namespace_is_there(self, target: Target) -> None:
        if not target.resource.namespaced:
            return
        namespace = self.storage.get(("", "Namespace", "", target.namespace))
        if namespace is None:
            raise not_found("namespaces", "", target.namespace)
        if namespace["metadata"].get("deletionTimestamp"):
            raise ApiError(
                403,
                f'{target.resource.full_name} "{target.name}" is forbidden: unable to create new content in namespace'
                f" {target.namespace} because it is being terminated",
                details={
                    "causes": [
                        {
                            "reason": "NamespaceTerminating",
                            "field": "metadata.namespace",
                            "message": f"namespace {target.namespace} is being terminated",
                        }
                    ]
                },
            )

    def _labelled(self, obj: Tree) -> None:
        if (obj["kind"], obj["apiVersion"]) == ("Namespace", "v1"):
            obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
            obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])

    # deleting

    def delete(self, target: Target, options: Tree, query: Query) -> Tree:
        """What it owns goes with it, unless the policy is Orphan; what has finalizers stays until they are gone."""
        obj = self._there(target)
        asked = options.get("preconditions") or {}
        for key in ("uid", "resourceVersion"):
            if asked.get(key) and asked[key] != obj["metadata"][key]:
                raise ApiError(
                    409,
                    f"Precondition failed: {key} in precondition: {asked[key]}, in object meta: {obj['metadata'][key]}",
                )
        dry = query.dry_run or options.get("dryRun") == ["All"]
        if not dry:
            self._delete(target.id, str(options.get("propagationPolicy") or "Background"))
        details = {"name": target.name, "kind": target.resource.plural, "uid": obj["metadata"]["uid"]}
        if target.resource.group:
            details["group"] = target.resource.group
        left = self.storage.get(target.id)
        return self.shown(left, target) if left is not None and not dry else status("Success", 200, details=details)

    def delete_all(self, target: Target, options: Tree, query: Query) -> Tree:
        listed = self.collection(target, query)
        for each in listed["items"]:
            id = (
                target.resource.group,
                target.resource.kind,
                each["metadata"].get("namespace", ""),
                each["metadata"]["name"],
            )
            if not query.dry_run and self.storage.get(id) is not None:
                self._delete(id, str(options.get("propagationPolicy") or "Background"))
        return listed

    def _delete(self, id: Id, policy: str) -> None:
        obj = self.storage.get(id)
        if obj is None:
            return
        new = copy.deepcopy(obj)
        if not new["metadata"].get("deletionTimestamp"):
            new["metadata"]["deletionTimestamp"] = self.storage.now()
            new["metadata"]["deletionGracePeriodSeconds"] = 0
        if id[:2] == _NAMESPACE:
            new.setdefault("status", {})["phase"] = "Terminating"
        holds = _held_by(new)
        if holds is not None:
            self.storage.replace(id, new)
            for inside in [each for each in self.storage.ids() if holds(each)]:
                self._delete(inside, policy)
            self._may_go(id)
        elif new["metadata"].get("finalizers"):
            self.storage.replace(id, new)
            self._written(id)
        else:
            self._gone(id, policy)

    def _gone(self, id: Id, policy: str) -> None:
        """An object is taken out, what only it owns, and what waited for it to go."""
        obj = self.storage.remove(id)
        self._written(id)
        if policy != "Orphan":
            for owned in list(self._owned(obj["metadata"]["uid"])):
                self._delete(owned, policy)
        for waiting in [each for each in self.storage.ids() if each[:2] in (_NAMESPACE, _DEFINITION)]:
            self._may_go(waiting)

    def _may_go(self, id: Id) -> None:
        """A namespace, or a definition, that is being deleted goes with the last object that it holds."""
        obj = self.storage.get(id)
        if obj is None or not obj["metadata"].get("deletionTimestamp") or obj["metadata"].get("finalizers"):
            return
        holds = _held_by(obj)
        if holds is not None and not any(holds(each) for each in self.storage.ids()):
            self._gone(id, "Background")

    def _owned(self, uid: str) -> Iterator[Id]:
        """What nothing but the object that had this uid owns."""
        uids = {obj["metadata"]["uid"] for _, obj in self.storage.all()}
        for id, obj in self.storage.all():
            owners = [each.get("uid") for each in obj["metadata"].get("ownerReferences") or []]
            if uid in owners and not uids & set(owners):
                yield id


def _held_by(obj: Tree) -> Callable[[Id], bool] | None:
    """What goes with a namespace or a CustomResourceDefinition; None for what holds nothing."""
    if obj["kind"] == "Namespace":
        name = obj["metadata"]["name"]
        return lambda id: id[2] == name
    if obj["kind"] == "CustomResourceDefinition":
        of = (obj["spec"]["group"], obj["spec"]["names"]["kind"])
        return lambda id: id[:2] == of
    return None


def merged_for_check(old: Tree, config: Tree) -> Tree:
    """What is applied to an object may be a part of it: checked is the whole of it, field by field of the first two
    levels."""
    found = {**old, **config}
    for key in ("metadata", "spec"):
        if isinstance(old.get(key), dict) and isinstance(config.get(key), dict):
            found[key] = {**old[key], **config[key]}
    return found


def _read(body: bytes) -> Any:
    """JSON, which is YAML and read sooner, or YAML."""
    with contextlib.suppress(ValueError):
        return json.loads(body)
    try:
        return yaml.load(body, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    except yaml.YAMLError as error:
        raise ApiError(400, f"error decoding the body: {error}") from error


def _secret_text(obj: Tree) -> None:
    """`stringData` of a Secret is written into `data`, and not kept."""
    if (obj.get("kind"), obj.get("apiVersion")) == ("Secret", "v1") and obj.get("stringData"):
        obj["data"] = {**(obj.get("data") or {}), **patches.encoded(obj.pop("stringData"))}


def _told(obj: Tree) -> Tree:
    """All but what a write that changes nothing would change."""
    meta = {key: each for key, each in obj["metadata"].items() if key != "managedFields"}
    entries = [{**each, "time": ""} for each in obj["metadata"].get("managedFields") or []]
    return {**obj, "metadata": {**meta, "managedFields": entries}}


def _intent(obj: Tree) -> Tree:
    return {key: each for key, each in obj.items() if key not in ("metadata", "status", "apiVersion", "kind")}


def _then(old: Tree) -> str:
    return str((old.get("metadata") or {}).get("creationTimestamp", "2026-01-01T00:00:00Z"))
