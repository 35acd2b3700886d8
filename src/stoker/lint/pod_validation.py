"""What the API server's code demands of a pod, beyond its schema. Only what is certain in every supported minor.

Works on any pod's spec: of a Deployment, of a PyTorchJob, of a step of a Workflow. Faults of type, unknown and missing
fields are the schema's.
"""

import re
from collections.abc import Iterable
from typing import Any

from stoker.lint import names
from stoker.lint.notes import Notes, Tree
from stoker.lint.structural import BAD_NAME, BAD_VALUE, MISSING_FIELD, OUT_OF_RANGE
from stoker.manifests import quantities
from stoker.manifests.objects import look, sections, texts
from stoker.spec.faults import Path, shown

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOKS = ("exec", "httpGet", "tcpSocket", "sleep")
_STANDARD = ("cpu", "memory", "ephemeral-storage")
_ENV_NAME = re.compile(r"[ -<>-~]+")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def pod_faults(notes: Notes, spec: Any, path: Path, *, claims: Iterable[str] = ()) -> None:
    """Everything about one pod's spec. `claims` are the volumes that a StatefulSet adds by name."""
    if not isinstance(spec, dict):
        return
    if spec.get("containers") == []:
        notes.say(MISSING_FIELD, (*path, "containers"), "a pod needs at least one container")
    volumes = _volumes(notes, spec, path) | set(claims)
    _containers(notes, spec, path, volumes)
    _placement(notes, spec, path)
    notes.whole(spec, "terminationGracePeriodSeconds", path)
    notes.whole(spec, "activeDeadlineSeconds", path, 1)
    notes.name(spec.get("hostname"), (*path, "hostname"), "the host name")
    notes.name(spec.get("serviceAccountName"), (*path, "serviceAccountName"), "the name", names.dns_subdomain)
    notes.name(spec.get("priorityClassName"), (*path, "priorityClassName"), "the name", names.dns_subdomain)
    if spec.get("ephemeralContainers"):
        notes.bad((*path, "ephemeralContainers"), "ephemeral containers can only be added to a pod that runs")
    if spec.get("dnsPolicy") == "None" and not look(spec, "dnsConfig", "nameservers"):
        notes.bad((*path, "dnsPolicy"), "dnsPolicy None needs dnsConfig.nameservers")
    if spec.get("shareProcessNamespace") is True and spec.get("hostPID") is True:
        notes.bad((*path, "shareProcessNamespace"), "shareProcessNamespace and hostPID cannot both be true")


# volumes


def _volumes(notes: Notes, spec: Tree, path: Path) -> set[str]:
    named = []
    for i, volume in sections(spec.get("volumes")):
        here = (*path, "volumes", i)
        name = notes.text(volume.get("name"))
        notes.name(name, (*here, "name"), "the volume name")
        named.append(((*here, "name"), name))
        sources = [key for key, value in volume.items() if key != "name" and value is not None]
        if len(sources) > 1:  # one that says none is an emptyDir
            notes.bad((*here, str(sources[1])), f"a volume has one source, not {' and '.join(map(str, sources))}")
        medium = notes.text(look(volume, "emptyDir", "medium"))
        if medium and medium != "Memory" and not medium.startswith("HugePages"):
            notes.bad((*here, "emptyDir", "medium"), f"{shown(medium)} is not one of Memory, HugePages or nothing")
    notes.twice(named, "volume")
    any_name = any(name is None for _, name in named)
    return {name for _, name in named if name} | ({"*"} if any_name else set())


# containers


def _containers(notes: Notes, spec: Tree, path: Path, volumes: set[str]) -> None:
    named: list[tuple[Path, Any]] = []
    host = spec.get("hostNetwork") is True
    for key in ("initContainers", "containers"):
        for i, container in sections(spec.get(key)):
            here = (*path, key, i)
            named.append(((*here, "name"), notes.text(container.get("name"))))
            container_faults(notes, container, here, volumes=volumes, host_network=host)
            if key == "initContainers" and container.get("restartPolicy") != "Always":
                for field in (*_PROBES, "lifecycle"):
                    if container.get(field) is not None:
                        notes.bad(
                            (*here, field), f"an init container has no {field} unless its restartPolicy is Always"
                        )
    notes.twice(named, "container name")


def container_faults(
    notes: Notes, container: Tree, path: Path, *, volumes: set[str] | None = None, host_network: bool = False
) -> None:
    """One container. Without `volumes`, nothing is said of what its mounts name."""
    notes.name(container.get("name"), (*path, "name"), "the container name")
    image = container.get("image")
    if isinstance(image, str) and image.strip() != image and not notes.is_open(image):
        notes.bad((*path, "image"), "the image begins or ends with a blank")
    if image == "":
        notes.missing(path, "image")
    _ports(notes, container, path, host_network)
    _environment(notes, container, path)
    _mounts(notes, container, path, volumes)
    resource_faults(notes, container.get("resources"), (*path, "resources"))
    for field in _PROBES:
        _probe(notes, container.get(field), (*path, field))
    for hook in ("postStart", "preStop"):
        handler = look(container, "lifecycle", hook)
        if isinstance(handler, dict):
            notes.one_of(handler, _HOOKS, (*path, "lifecycle", hook), hook)
            _handler(notes, handler, (*path, "lifecycle", hook))
    security = container.get("securityContext")
    privileged = look(security, "privileged") is True
    if privileged and look(security, "allowPrivilegeEscalation") is False:
        where = (*path, "securityContext", "allowPrivilegeEscalation")
        notes.bad(where, "a privileged container cannot have allowPrivilegeEscalation false")


def _ports(notes: Notes, container: Tree, path: Path, host_network: bool) -> None:
    named = []
    for i, port in sections(container.get("ports")):
        here = (*path, "ports", i)
        number = notes.whole(port, "containerPort", here, 1, 65535)
        host = notes.whole(port, "hostPort", here, 0, 65535)
        if host_network and host and number and host != number:
            notes.bad((*here, "hostPort"), "with hostNetwork, hostPort must be containerPort")
        name = notes.text(port.get("name"))
        notes.name(name, (*here, "name"), "the port name", names.port_name)
        named.append(((*here, "name"), name))
    notes.twice(named, "port name")


def _environment(notes: Notes, container: Tree, path: Path) -> None:
    for i, entry in sections(container.get("env")):
        here = (*path, "env", i)
        name = entry.get("name")
        if name == "":
            notes.missing(here, "name")
        text = notes.text(name)
        if text and not _ENV_NAME.fullmatch(text):
            notes.say(BAD_NAME, (*here, "name"), f"{shown(text)} must be printable ASCII without '='")
        source = entry.get("valueFrom")
        if isinstance(source, dict):
            if not notes.absent(entry.get("value")):
                notes.bad((*here, "valueFrom"), "value and valueFrom cannot both be set")
            notes.one_of(source, _SOURCES, (*here, "valueFrom"), "valueFrom")
    for i, entry in sections(container.get("envFrom")):
        notes.one_of(entry, ("configMapRef", "secretRef"), (*path, "envFrom", i), "an item of envFrom")


def _mounts(notes: Notes, container: Tree, path: Path, volumes: set[str] | None) -> None:
    places = []
    for i, mount in sections(container.get("volumeMounts")):
        here = (*path, "volumeMounts", i)
        name, place = notes.text(mount.get("name")), notes.text(mount.get("mountPath"))
        if name and volumes is not None and name not in volumes and "*" not in volumes:
            known = ", ".join(sorted(volumes))
            hint = f"the pod has the volumes {known}" if known else "the pod has no volumes"
            notes.bad((*here, "name"), f"no volume of the pod is called {name}", hint)
        if mount.get("mountPath") == "":
            notes.missing(here, "mountPath")
        places.append(((*here, "mountPath"), place))
        if not notes.absent(mount.get("subPath")) and not notes.absent(mount.get("subPathExpr")):
            notes.bad((*here, "subPathExpr"), "subPath and subPathExpr cannot both be set")
        sub = notes.text(mount.get("subPath"))
        if sub and (sub.startswith("/") or ".." in sub.split("/")):
            notes.bad((*here, "subPath"), f"{shown(sub)} must be a path below the volume, without '..'")
    notes.twice(places, "mount path")


def resource_faults(notes: Notes, resources: Any, path: Path) -> None:
    """Requests and limits of a container: names, signs, and what a request may be beside its limit."""
    if not isinstance(resources, dict):
        return
    amounts: dict[str, Tree] = {}
    for part in ("limits", "requests"):
        tree = resources.get(part)
        amounts[part] = {}
        for name, value in tree.items() if isinstance(tree, dict) else ():
            here = (*path, part, str(name))
            if not isinstance(name, str) or notes.is_open(name) or value is None or notes.is_open(value):
                amounts[part][str(name)] = None
                continue
            _resource_name(notes, name, here)
            amount = quantities.amount(value)
            amounts[part][name] = amount
            if amount is None:
                continue
            if amount < 0:
                notes.say(OUT_OF_RANGE, here, f"{name} must not be negative")
            elif _is_extended(name) and amount.denominator != 1:
                notes.say(BAD_VALUE, here, f"{name} is counted in whole numbers, not {shown(value)}")
    if not isinstance(resources.get("requests"), dict):
        return
    for name, request in amounts["requests"].items():
        here = (*path, "requests", name)
        limit = amounts["limits"].get(name)
        strict = _is_extended(name) or name.startswith("hugepages-")
        if name not in amounts["limits"]:
            if strict and request is not None:
                notes.bad(
                    here, f"{name} cannot be shared: a limit of the same amount must be set", "write it in limits"
                )
            continue
        if request is None or limit is None:
            continue
        if strict and request != limit:
            notes.bad(here, f"the request of {name} must be its limit")
        elif request > limit:
            said = f"the request of {name}, {resources['requests'][name]}, is more than its limit"
            notes.bad(here, f"{said}, {resources['limits'][name]}")


def _resource_name(notes: Notes, name: str, path: Path) -> None:
    if "/" in name:
        wrong = names.label_key(name)
        if wrong:
            notes.say(BAD_NAME, path, f"the resource {shown(name)} {wrong}", key=True)
    elif name not in _STANDARD and not name.startswith("hugepages-"):
        hint = "nvidia.com/gpu" if name in ("gpu", "gpus", "nvidia") else f"{', '.join(_STANDARD)}, or domain/name"
        notes.say(BAD_NAME, path, f"{shown(name)} is no resource of a container", f"write {hint}", key=True)


def _is_extended(name: str) -> bool:
    domain = name.partition("/")[0] if "/" in name else ""
    return bool(domain) and domain != "kubernetes.io" and not domain.endswith(".kubernetes.io")


def _probe(notes: Notes, probe: Any, path: Path) -> None:
    if not isinstance(probe, dict):
        return
    notes.one_of(probe, _HANDLERS, path, "a probe")
    _handler(notes, probe, path)
    for key in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        notes.whole(probe, key, path)
    threshold = probe.get("successThreshold")
    if path[-1] != "readinessProbe" and isinstance(threshold, int) and threshold > 1:
        notes.bad((*path, "successThreshold"), f"the successThreshold of a {path[-1]} must be 1")
    if probe.get("terminationGracePeriodSeconds") is not None:
        if path[-1] == "readinessProbe":
            where = (*path, "terminationGracePeriodSeconds")
            notes.bad(where, "a readinessProbe ends nothing: it has no terminationGracePeriodSeconds")
        else:
            notes.whole(probe, "terminationGracePeriodSeconds", path, 1)


def _handler(notes: Notes, handler: Tree, path: Path) -> None:
    for key in ("httpGet", "tcpSocket", "grpc"):
        action = handler.get(key)
        if isinstance(action, dict):
            notes.port(action, "port", (*path, key))
    command = look(handler, "exec")
    if isinstance(command, dict) and not command.get("command"):
        notes.missing((*path, "exec"), "command")


# where the pod may run


def _placement(notes: Notes, spec: Tree, path: Path) -> None:
    selector = spec.get("nodeSelector")
    for key, value in texts(selector).items():
        here = (*path, "nodeSelector", key)
        if not notes.is_open(key) and (wrong := names.label_key(key)):
            notes.say(BAD_NAME, here, f"the label {shown(key)} {wrong}", key=True)
        notes.name(value, here, "the label value", names.label_value)
    for i, toleration in sections(spec.get("tolerations")):
        _toleration(notes, toleration, (*path, "tolerations", i))
    _spread(notes, spec, path)
    node = ("affinity", "nodeAffinity")
    required = look(spec, *node, "requiredDuringSchedulingIgnoredDuringExecution")
    here = (*path, *node, "requiredDuringSchedulingIgnoredDuringExecution")
    if isinstance(required, dict):
        if required.get("nodeSelectorTerms") == []:
            notes.say(MISSING_FIELD, (*here, "nodeSelectorTerms"), "nodeSelectorTerms needs at least one term")
        for i, term in sections(required.get("nodeSelectorTerms")):
            _requirements(notes, term.get("matchExpressions"), (*here, "nodeSelectorTerms", i, "matchExpressions"))
    here = (*path, *node, "preferredDuringSchedulingIgnoredDuringExecution")
    for i, each in sections(look(spec, *node, "preferredDuringSchedulingIgnoredDuringExecution")):
        notes.whole(each, "weight", (*here, i), 1, 100)
        _requirements(notes, look(each, "preference", "matchExpressions"), (*here, i, "preference", "matchExpressions"))
    for word in ("podAffinity", "podAntiAffinity"):
        here = (*path, "affinity", word)
        for i, term in sections(look(spec, "affinity", word, "requiredDuringSchedulingIgnoredDuringExecution")):
            _pod_term(notes, term, (*here, "requiredDuringSchedulingIgnoredDuringExecution", i))
        for i, each in sections(look(spec, "affinity", word, "preferredDuringSchedulingIgnoredDuringExecution")):
            at = (*here, "preferredDuringSchedulingIgnoredDuringExecution", i)
            notes.whole(each, "weight", at, 1, 100)
            if isinstance(each.get("podAffinityTerm"), dict):
                _pod_term(notes, each["podAffinityTerm"], (*at, "podAffinityTerm"))


def _pod_term(notes: Notes, term: Tree, path: Path) -> None:
    if term.get("topologyKey") == "":
        notes.missing(path, "topologyKey")
    selector_faults(notes, term.get("labelSelector"), (*path, "labelSelector"))


def _toleration(notes: Notes, toleration: Tree, path: Path) -> None:
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists" and not notes.absent(toleration.get("value")):
        notes.bad((*path, "value"), "operator Exists takes no value", "leave the value out, or write operator: Equal")
    if notes.absent(toleration.get("key")) and operator == "Equal":
        notes.bad((*path, "operator"), "a toleration without a key must have operator Exists")
    effect = toleration.get("effect")
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute" and not notes.is_open(effect):
        notes.bad((*path, "tolerationSeconds"), "tolerationSeconds needs effect NoExecute")
    notes.name(toleration.get("key"), (*path, "key"), "the taint key", names.label_key)
    if operator == "Equal":
        notes.name(toleration.get("value"), (*path, "value"), "the taint value", names.label_value)


def _spread(notes: Notes, spec: Tree, path: Path) -> None:
    pairs = []
    for i, spread in sections(spec.get("topologySpreadConstraints")):
        here = (*path, "topologySpreadConstraints", i)
        notes.whole(spread, "maxSkew", here, 1)
        notes.whole(spread, "minDomains", here, 1)
        what = spread.get("whenUnsatisfiable")
        if spread.get("minDomains") is not None and what == "ScheduleAnyway":
            notes.bad((*here, "minDomains"), "minDomains needs whenUnsatisfiable DoNotSchedule")
        if spread.get("topologyKey") == "":
            notes.missing(here, "topologyKey")
        key = notes.text(spread.get("topologyKey"))
        pairs.append((here, (key, what) if key and isinstance(what, str) else None))
        selector_faults(notes, spread.get("labelSelector"), (*here, "labelSelector"))
    notes.twice(pairs, "pair of topologyKey and whenUnsatisfiable")


def selector_faults(notes: Notes, selector: Any, path: Path) -> None:
    """A label selector: its labels and its expressions."""
    if not isinstance(selector, dict):
        return
    for key, value in texts(selector.get("matchLabels")).items():
        here = (*path, "matchLabels", key)
        if not notes.is_open(key) and (wrong := names.label_key(key)):
            notes.say(BAD_NAME, here, f"the label {shown(key)} {wrong}", key=True)
        notes.name(value, here, "the label value", names.label_value)
    _requirements(notes, selector.get("matchExpressions"), (*path, "matchExpressions"))


def _requirements(notes: Notes, expressions: Any, path: Path) -> None:
    for i, each in sections(expressions):
        here = (*path, i)
        operator, values = each.get("operator"), each.get("values")
        size = len(values) if isinstance(values, list) else 0
        if operator in ("In", "NotIn") and not size:
            notes.missing(here, "values", f": operator {operator} has at least one")
        elif operator in ("Exists", "DoesNotExist") and size:
            notes.bad((*here, "values"), f"operator {operator} takes no values")
        elif operator in ("Gt", "Lt"):
            first = values[0] if isinstance(values, list) and values else None
            if size != 1 or (notes.text(first) and not re.fullmatch(r"[-+]?\d+", str(first), re.ASCII)):
                notes.bad((*here, "values"), f"operator {operator} takes one whole number, as text")
        notes.name(each.get("key"), (*here, "key"), "the label", names.label_key)
