"""What Kubernetes' API server refuses of its own kinds though their schema allows it: rules that are Go code there.

Only what is certain in every supported minor. What the schema says already (types, unknown and missing fields, enums)
is `structural`'s. It says nothing of what would be accepted and then not work: that is what rules are for.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any

from stoker.lint import names
from stoker.lint.notes import Notes, Tree
from stoker.lint.pod_validation import pod_faults, selector_faults
from stoker.lint.structural import (
    BAD_NAME,
    MISSING_FIELD,
    OUT_OF_RANGE,
    Fault,
    metadata_faults,
    name_faults,
    never_open,
)
from stoker.manifests import quantities
from stoker.manifests.objects import look, sections, texts
from stoker.policy import cron
from stoker.spec.faults import Path, shown

Kind = tuple[str, str, str]
"""Group, version, kind; the core group is the empty text."""

_PERCENT = re.compile(r"\d+%", re.ASCII)
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_MAX_DATA = 1 << 20
_SECRET_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
_MAX_CRON_NAME = 52  # the Jobs that it makes get eleven characters more
_NAME_RULES: dict[str, Callable[[str], str]] = {
    "Namespace": names.dns_label,
    "Service": names.dns_1035_label,
    **dict.fromkeys(("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"), names.path_segment),
}


def core_faults(obj: Any, gvk: Kind, *, is_open: Callable[[object], bool] = never_open) -> list[Fault]:
    """The faults of one object of a core kind; none for kinds that have no rules here. Never raises."""
    group, _, kind = gvk
    if not isinstance(obj, dict):
        return []
    notes = Notes(is_open)
    meta = obj.get("metadata")
    notes.found.extend(name_faults(meta, ("metadata",), is_open, _NAME_RULES.get(kind, names.dns_subdomain)))
    notes.found.extend(metadata_faults(meta, ("metadata",), is_open))
    check = _CHECKS.get((group, kind))
    if check is not None:
        check(notes, obj)
    return notes.found


def pod_spec_faults(
    spec: Any, path: Path, *, claims: Iterable[str] = (), is_open: Callable[[object], bool] = never_open
) -> list[Fault]:
    """The faults of a pod's spec wherever it stands: in a PyTorchJob, a JobSet, a step of a Workflow. `claims` are the
    volumes that whoever makes the pods adds by name."""
    notes = Notes(is_open)
    pod_faults(notes, spec, path, claims=claims)
    return notes.found


def _spec(obj: Tree) -> Tree:
    spec = obj.get("spec")
    return spec if isinstance(spec, dict) else {}


# pods and what makes them


def _pod(notes: Notes, obj: Tree) -> None:
    pod_faults(notes, obj.get("spec"), ("spec",))


def _template(notes: Notes, template: Any, path: Path, claims: tuple[str, ...] = ()) -> Tree:
    if not isinstance(template, dict):
        return {}
    notes.found.extend(metadata_faults(template.get("metadata"), (*path, "metadata"), notes.is_open))
    pod_faults(notes, template.get("spec"), (*path, "spec"), claims=claims)
    spec = template.get("spec")
    return spec if isinstance(spec, dict) else {}


def _runs_always(notes: Notes, spec: Tree, path: Path, kind: str) -> None:
    policy = notes.text(spec.get("restartPolicy"))
    if policy in ("OnFailure", "Never"):
        hint = "a Job runs to its end"
        notes.bad((*path, "restartPolicy"), f"the pods of a {kind} must have restartPolicy Always, not {policy}", hint)
    if spec.get("activeDeadlineSeconds") is not None:
        notes.bad((*path, "activeDeadlineSeconds"), f"the pods of a {kind} have no activeDeadlineSeconds")


def _workload(kind: str) -> Callable[[Notes, Tree], None]:
    def check(notes: Notes, obj: Tree) -> None:
        spec = _spec(obj)
        notes.whole(spec, "replicas", ("spec",))
        notes.whole(spec, "minReadySeconds", ("spec",))
        notes.whole(spec, "revisionHistoryLimit", ("spec",))
        claims = _claims(notes, spec) if kind == "StatefulSet" else ()
        pod = _template(notes, spec.get("template"), ("spec", "template"), claims)
        _runs_always(notes, pod, ("spec", "template", "spec"), kind)
        _selects_its_pods(notes, spec, kind)
        if kind == "Deployment":
            _deployment(notes, spec)
        elif kind == "DaemonSet":
            _rolling(notes, look(spec, "updateStrategy"), ("spec", "updateStrategy"))

    return check


def _selects_its_pods(notes: Notes, spec: Tree, kind: str) -> None:
    selector = spec.get("selector")
    if not isinstance(selector, dict):
        return
    path = ("spec", "selector")
    selector_faults(notes, selector, path)
    labels = selector.get("matchLabels")
    expressions = selector.get("matchExpressions")
    if not labels and not expressions:
        notes.bad(path, f"the selector of a {kind} must not be empty", "write matchLabels with a label of the template")
        return
    if not isinstance(spec.get("template"), dict):
        return
    pods = look(spec, "template", "metadata", "labels")
    have = pods if isinstance(pods, dict) else {}
    for key, value in texts(labels).items():
        given = have.get(key)
        if given == value or notes.is_open(value) or notes.is_open(given) or any(notes.is_open(k) for k in have):
            continue
        said = f"has {shown(given)}" if key in have else "does not have it"
        where = ("spec", "template", "metadata", "labels")
        message = f"the selector wants the label {key}: {value}, and the pod template {said}"
        notes.bad((*where, key) if key in have else where, message, f"write {key}: {value} in {'.'.join(where)}")
    for i, each in sections(expressions):
        _expression_fits(notes, each, (*path, "matchExpressions", i), have)


def _expression_fits(notes: Notes, each: Tree, path: Path, have: Tree) -> None:
    key, operator = notes.text(each.get("key")), each.get("operator")
    listed = each.get("values")
    values = listed if isinstance(listed, list) else []
    if key is None or any(notes.is_open(v) for v in (*values, have.get(key))):
        return
    fits = {
        "In": key in have and have[key] in values,
        "NotIn": key not in have or have[key] not in values,
        "Exists": key in have,
        "DoesNotExist": key not in have,
    }
    if isinstance(operator, str) and fits.get(operator) is False:
        notes.bad(path, f"the labels of the pod template do not fit {key} {operator}")


def _deployment(notes: Notes, spec: Tree) -> None:
    strategy = spec.get("strategy")
    path = ("spec", "strategy")
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds")
    notes.whole(spec, "progressDeadlineSeconds", ("spec",))
    if isinstance(deadline, int) and isinstance(ready, int) and deadline <= ready:
        where = ("spec", "progressDeadlineSeconds")
        notes.bad(where, f"progressDeadlineSeconds ({deadline}) must be more than minReadySeconds ({ready})")
    if not isinstance(strategy, dict):
        return
    if strategy.get("type") == "Recreate" and strategy.get("rollingUpdate") is not None:
        notes.bad((*path, "rollingUpdate"), "type Recreate has no rollingUpdate")
        return
    _rolling(notes, strategy, path)


def _rolling(notes: Notes, strategy: Any, path: Path) -> None:
    rolling = look(strategy, "rollingUpdate")
    if not isinstance(rolling, dict):
        return
    path = (*path, "rollingUpdate")
    for key in ("maxUnavailable", "maxSurge"):
        _share(notes, rolling, key, path)
    surge_default = 0 if path[1] == "updateStrategy" else 1
    surge = rolling.get("maxSurge")
    if _is_zero(rolling.get("maxUnavailable")) and _is_zero(surge_default if surge is None else surge):
        message = "maxUnavailable and maxSurge cannot both be 0: nothing could ever move"
        notes.bad((*path, "maxUnavailable"), message)


def _is_zero(value: Any) -> bool:
    return value in (0, "0%") and not isinstance(value, bool)


def _share(notes: Notes, tree: Tree, key: str, path: Path) -> None:
    """A count or a percentage."""
    value = tree.get(key)
    if isinstance(value, str):
        if notes.text(value) and not _PERCENT.fullmatch(value):
            notes.bad((*path, key), f"{key} must be a whole number or a percentage such as 25%, not {shown(value)}")
        elif _PERCENT.fullmatch(value) and key == "maxUnavailable" and int(value[:-1][:9]) > 100:
            notes.bad((*path, key), f"{key} cannot be more than 100%")
    else:
        notes.whole(tree, key, path)


def _claims(notes: Notes, spec: Tree) -> tuple[str, ...]:
    found = []
    for i, claim in sections(spec.get("volumeClaimTemplates")):
        name = look(claim, "metadata", "name")
        _claim_spec(notes, claim.get("spec"), ("spec", "volumeClaimTemplates", i, "spec"))
        found.append(notes.text(name) or "*")
    return tuple(found)


def _job(notes: Notes, obj: Tree) -> None:
    _job_spec(notes, _spec(obj), ("spec",))


def _job_spec(notes: Notes, spec: Tree, path: Path) -> None:
    for key in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        notes.whole(spec, key, path)
    template = spec.get("template")
    pod = _template(notes, template, (*path, "template"))
    where = (*path, "template", "spec", "restartPolicy")
    policy = pod.get("restartPolicy")
    if isinstance(look(template, "spec"), dict):
        if notes.absent(policy):
            message = "the pods of a Job need restartPolicy: the default, Always, is not allowed there"
            notes.say(MISSING_FIELD, where, message, "write Never or OnFailure", key=True)
        elif policy == "Always":
            notes.bad(where, "the pods of a Job cannot have restartPolicy Always", "write Never or OnFailure")
    indexed = spec.get("completionMode") == "Indexed"
    if indexed and spec.get("completions") is None:
        notes.missing(path, "completions", ": completionMode is Indexed")
    if spec.get("backoffLimitPerIndex") is not None and not indexed and not notes.is_open(spec.get("completionMode")):
        notes.bad((*path, "backoffLimitPerIndex"), "backoffLimitPerIndex needs completionMode Indexed")
    if spec.get("podFailurePolicy") is not None and policy == "OnFailure":
        notes.bad((*path, "podFailurePolicy"), "podFailurePolicy needs restartPolicy Never")
    if spec.get("selector") is not None and spec.get("manualSelector") is not True:
        notes.bad((*path, "selector"), "a Job makes its own selector", "leave the selector out")


def _cron_job(notes: Notes, obj: Tree) -> None:
    spec = _spec(obj)
    schedule = notes.text(spec.get("schedule"))
    if schedule:
        if "TZ=" in schedule:
            notes.bad(("spec", "schedule"), "a schedule names no time zone", "write it in spec.timeZone")
        elif wrong := cron.fault(schedule):
            notes.bad(("spec", "schedule"), f"the schedule {shown(schedule)} cannot be read: {wrong}")
    for key in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        notes.whole(spec, key, ("spec",))
    name = notes.text(look(obj, "metadata", "name"))
    if name and len(name) > _MAX_CRON_NAME:
        message = f"the name of a CronJob has at most {_MAX_CRON_NAME} characters, not {len(name)}"
        notes.say(BAD_NAME, ("metadata", "name"), message)
    job = look(spec, "jobTemplate", "spec")
    if isinstance(job, dict):
        _job_spec(notes, job, ("spec", "jobTemplate", "spec"))


# services, configuration, storage


def _service(notes: Notes, obj: Tree) -> None:
    spec = _spec(obj)
    path = ("spec",)
    kind = spec.get("type") or "ClusterIP"
    headless = spec.get("clusterIP") == "None"
    ports = spec.get("ports")
    if (
        not ports
        and not headless
        and kind != "ExternalName"
        and not notes.is_open(kind)
        and isinstance(obj.get("spec"), dict)
    ):
        notes.missing(path, "ports", ": only a headless Service and an ExternalName have none")
    if kind == "ExternalName" and notes.absent(spec.get("externalName")):
        notes.missing(path, "externalName", ": its type is ExternalName")
    if headless and kind in ("NodePort", "LoadBalancer"):
        notes.bad(("spec", "clusterIP"), f"a Service of type {kind} cannot be headless")
    named: list[tuple[Path, Any]] = []
    numbers: list[tuple[Path, Any]] = []
    entries = sections(ports)
    for i, port in entries:
        here = ("spec", "ports", i)
        number = notes.whole(port, "port", here, 1, 65535)
        notes.port(port, "targetPort", here)
        notes.whole(port, "nodePort", here, 0, 65535)
        if port.get("nodePort") and kind == "ClusterIP":
            notes.bad((*here, "nodePort"), "a Service of type ClusterIP has no nodePort")
        name = notes.text(port.get("name"))
        notes.name(name, (*here, "name"), "the port name")
        if len(entries) > 1 and notes.absent(port.get("name")):
            notes.missing(here, "name", ": a Service of several ports names each")
        named.append(((*here, "name"), name))
        numbers.append((here, (port.get("protocol") or "TCP", number) if number else None))
    notes.twice(named, "port name")
    notes.twice(numbers, "port")
    for key, value in texts(spec.get("selector")).items():
        if not notes.is_open(key) and (wrong := names.label_key(key)):
            notes.say(BAD_NAME, ("spec", "selector", key), f"the label {shown(key)} {wrong}", key=True)
        notes.name(value, ("spec", "selector", key), "the label value", names.label_value)


def _data(notes: Notes, obj: Tree) -> None:
    seen: list[tuple[Path, Any]] = []
    size = 0
    for part in ("data", "binaryData"):
        tree = obj.get(part)
        for key, value in tree.items() if isinstance(tree, dict) else ():
            if not isinstance(key, str) or notes.is_open(key):
                continue
            seen.append(((part, key), key))
            size += len(value) if isinstance(value, str) else 0
            if not _DATA_KEY.fullmatch(key) or key in (".", "..") or key.startswith("../"):
                notes.say(
                    BAD_NAME, (part, key), f"the key {shown(key)} must be letters, digits, '-', '_' and '.'", key=True
                )
    notes.twice(seen, "key")
    if size > _MAX_DATA and obj.get("kind") == "ConfigMap":
        notes.bad(("data",), f"holds {size} bytes; {_MAX_DATA} is the most")


def _secret(notes: Notes, obj: Tree) -> None:
    _data(notes, obj)
    kind = notes.text(obj.get("type"))
    have = {key for part in ("data", "stringData") if isinstance(obj.get(part), dict) for key in obj[part]}
    for key in _SECRET_KEYS.get(kind or "", ()):
        if key not in have:
            notes.missing(("data",), key, f": the type is {kind}")


def _claim(notes: Notes, obj: Tree) -> None:
    _claim_spec(notes, obj.get("spec"), ("spec",))


def _claim_spec(notes: Notes, spec: Any, path: Path) -> None:
    if not isinstance(spec, dict):
        return
    modes = spec.get("accessModes")
    if modes == []:
        notes.say(MISSING_FIELD, (*path, "accessModes"), "accessModes needs at least one mode")
    elif isinstance(modes, list) and "ReadWriteOncePod" in modes and len(modes) > 1:
        notes.bad((*path, "accessModes"), "ReadWriteOncePod must be the only access mode")
    resources = spec.get("resources")
    if not isinstance(resources, dict):
        return
    requests = resources.get("requests")
    if requests is None or (isinstance(requests, dict) and requests.get("storage") is None):
        notes.missing((*path, "resources", "requests"), "storage")
    elif isinstance(requests, dict):
        amount = None if notes.is_open(requests["storage"]) else quantities.amount(requests["storage"])
        if amount is not None and amount <= 0:
            notes.say(OUT_OF_RANGE, (*path, "resources", "requests", "storage"), "storage must be more than 0")


# autoscaling and disruption


def _autoscaler(notes: Notes, obj: Tree) -> None:
    spec = _spec(obj)
    most = notes.whole(spec, "maxReplicas", ("spec",), 1)
    least = notes.whole(spec, "minReplicas", ("spec",))
    if most is not None and least is not None and most >= 1 and most < least:
        notes.bad(("spec", "maxReplicas"), f"maxReplicas ({most}) must be at least minReplicas ({least})")
    for i, metric in sections(spec.get("metrics")):
        _metric(notes, metric, ("spec", "metrics", i))
    for word in ("scaleUp", "scaleDown"):
        rules = look(spec, "behavior", word)
        if not isinstance(rules, dict):
            continue
        here = ("spec", "behavior", word)
        notes.whole(rules, "stabilizationWindowSeconds", here, 0, 3600)
        for i, policy in sections(rules.get("policies")):
            notes.whole(policy, "value", (*here, "policies", i), 1)
            notes.whole(policy, "periodSeconds", (*here, "policies", i), 1, 1800)


_METRICS = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_TARGETS = {"Utilization": "averageUtilization", "Value": "value", "AverageValue": "averageValue"}


def _metric(notes: Notes, metric: Tree, path: Path) -> None:
    kind = metric.get("type")
    field = _METRICS.get(kind) if isinstance(kind, str) else None
    if field is None:
        return
    if not isinstance(metric.get(field), dict):
        if metric.get(field) is None:
            notes.missing(path, field, f": its type is {kind}")
        return
    for other in _METRICS.values():
        if other != field and metric.get(other) is not None:
            notes.bad((*path, other), f"a metric of type {kind} has {field} alone")
    target = metric[field].get("target")
    if not isinstance(target, dict):
        return
    here = (*path, field, "target")
    form = target.get("type")
    wanted = _TARGETS.get(form) if isinstance(form, str) else None
    if wanted and kind in ("Resource", "ContainerResource") and target.get(wanted) is None:
        notes.missing(here, wanted, f": the type of the target is {form}")
    notes.whole(target, "averageUtilization", here, 1)


def _disruption_budget(notes: Notes, obj: Tree) -> None:
    spec = _spec(obj)
    notes.one_of(spec, ("minAvailable", "maxUnavailable"), ("spec",), "a PodDisruptionBudget", needed=False)
    for key in ("minAvailable", "maxUnavailable"):
        value = spec.get(key)
        if isinstance(value, str) and _PERCENT.fullmatch(value) and int(value[:-1][:9]) > 100:
            notes.bad(("spec", key), f"{key} cannot be more than 100%")
        else:
            _share(notes, spec, key, ("spec",))
    selector_faults(notes, spec.get("selector"), ("spec", "selector"))


# the net and rights


def _network_policy(notes: Notes, obj: Tree) -> None:
    spec = _spec(obj)
    selector_faults(notes, spec.get("podSelector"), ("spec", "podSelector"))
    for way, peers in (("ingress", "from"), ("egress", "to")):
        for i, rule in sections(spec.get(way)):
            here: Path = ("spec", way, i)
            for j, port in sections(rule.get("ports")):
                first, last = port.get("port"), port.get("endPort")
                if isinstance(last, int) and not (isinstance(first, int) and first <= last):
                    notes.bad((*here, "ports", j, "endPort"), f"endPort {last} must be at least port, a number")
            for j, peer in sections(rule.get(peers)):
                _ip_block(notes, peer.get("ipBlock"), (*here, peers, j, "ipBlock"))


def _ip_block(notes: Notes, block: Any, path: Path) -> None:
    if not isinstance(block, dict):
        return
    excepted = block.get("except")
    listed = [((*path, "except", i), each) for i, each in enumerate(excepted if isinstance(excepted, list) else ())]
    for at, value in [((*path, "cidr"), block.get("cidr")), *listed]:
        text = notes.text(value)
        if text is None:
            continue
        try:
            ipaddress.ip_network(text if "/" in text else "", strict=False)
        except ValueError:
            notes.bad(at, f"{shown(text)} is no CIDR", "an address and a length, such as 10.0.0.0/16")


def _ingress(notes: Notes, obj: Tree) -> None:
    spec = _spec(obj)
    if isinstance(obj.get("spec"), dict) and not spec.get("rules") and spec.get("defaultBackend") is None:
        notes.bad(("spec",), "an Ingress needs rules or defaultBackend")
    if isinstance(spec.get("defaultBackend"), dict):
        _backend(notes, spec["defaultBackend"], ("spec", "defaultBackend"))
    for i, rule in sections(spec.get("rules")):
        here = ("spec", "rules", i)
        host = notes.text(rule.get("host"))
        if host:
            notes.name(host.removeprefix("*."), (*here, "host"), "the host", names.dns_subdomain)
        for k, each in sections(look(rule, "http", "paths")):
            at = (*here, "http", "paths", k)
            path = each.get("path")
            absolute = (isinstance(path, str) and path.startswith("/")) or notes.is_open(path)
            if each.get("pathType") in ("Exact", "Prefix") and not absolute:
                notes.bad((*at, "path") if path is not None else at, "the path must begin with /")
            if isinstance(each.get("backend"), dict):
                _backend(notes, each["backend"], (*at, "backend"))


def _backend(notes: Notes, backend: Tree, path: Path) -> None:
    notes.one_of(backend, ("service", "resource"), path, "a backend")
    port = look(backend, "service", "port")
    service = backend.get("service")
    if isinstance(service, dict):
        if not isinstance(port, dict):
            if port is None:
                notes.missing((*path, "service"), "port")
            return
        notes.one_of(port, ("name", "number"), (*path, "service", "port"), "the port of a service")
        notes.whole(port, "number", (*path, "service", "port"), 1, 65535)


def _binding(notes: Notes, obj: Tree) -> None:
    group = look(obj, "roleRef", "apiGroup")
    if notes.text(group) and group != "rbac.authorization.k8s.io":
        notes.bad(("roleRef", "apiGroup"), f"apiGroup must be rbac.authorization.k8s.io, not {shown(group)}")
    for i, subject in sections(obj.get("subjects")):
        kind = subject.get("kind")
        if kind == "ServiceAccount":
            if obj.get("kind") == "ClusterRoleBinding" and notes.absent(subject.get("namespace")):
                notes.missing(("subjects", i), "namespace", ": a ServiceAccount stands in one")
            if notes.text(subject.get("apiGroup")):
                notes.bad(("subjects", i, "apiGroup"), "a ServiceAccount is of the core group: apiGroup is empty")
        if subject.get("name") == "":
            notes.missing(("subjects", i), "name")


def _role(notes: Notes, obj: Tree) -> None:
    for i, rule in sections(obj.get("rules")):
        if rule.get("verbs") == []:
            notes.say(MISSING_FIELD, ("rules", i, "verbs"), "verbs needs at least one verb")
        if rule.get("nonResourceURLs"):
            if rule.get("resources") or rule.get("apiGroups"):
                notes.bad(("rules", i), "a rule is of resources or of nonResourceURLs, not of both")
            elif obj.get("kind") == "Role":
                notes.bad(("rules", i, "nonResourceURLs"), "a Role has no nonResourceURLs; a ClusterRole has")
        else:
            for key in ("apiGroups", "resources"):
                if not rule.get(key):
                    notes.missing(("rules", i), key)


def _priority_class(notes: Notes, obj: Tree) -> None:
    value, name = obj.get("value"), notes.text(look(obj, "metadata", "name"))
    if name and name.startswith("system-") and name not in ("system-node-critical", "system-cluster-critical"):
        notes.say(BAD_NAME, ("metadata", "name"), "names that begin with system- are Kubernetes' own")
    elif isinstance(value, int) and value > 10**9 and not (name or "").startswith("system-"):
        notes.say(OUT_OF_RANGE, ("value",), f"value must be at most 1000000000, not {shown(value)}")


_CHECKS: dict[tuple[str, str], Callable[[Notes, Tree], None]] = {
    ("", "ConfigMap"): _data,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Pod"): _pod,
    ("", "Secret"): _secret,
    ("", "Service"): _service,
    ("apps", "DaemonSet"): _workload("DaemonSet"),
    ("apps", "Deployment"): _workload("Deployment"),
    ("apps", "ReplicaSet"): _workload("ReplicaSet"),
    ("apps", "StatefulSet"): _workload("StatefulSet"),
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("batch", "CronJob"): _cron_job,
    ("batch", "Job"): _job,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("networking.k8s.io", "NetworkPolicy"): _network_policy,
    ("policy", "PodDisruptionBudget"): _disruption_budget,
    ("rbac.authorization.k8s.io", "ClusterRole"): _role,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _binding,
    ("rbac.authorization.k8s.io", "Role"): _role,
    ("rbac.authorization.k8s.io", "RoleBinding"): _binding,
    ("scheduling.k8s.io", "PriorityClass"): _priority_class,
}
