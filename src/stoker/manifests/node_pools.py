"""NodePools and pods as the views that `policy.placement` decides on.

Broken objects are read, too: what is of the wrong type, or what the API server would refuse, is left out. It is
for others to say so.
"""

from collections.abc import Callable, Iterable
from typing import Any

from stoker.catalog.ec2 import region_of
from stoker.catalog.labels import AUTO_MODE, AWS, Domain, present_name
from stoker.manifests.objects import Manifest, look, sections, texts, whole
from stoker.manifests.quantities import bytes_of, in_base_units
from stoker.manifests.workloads import Workload
from stoker.policy.placement import NodePoolView, PodView
from stoker.policy.pod_resources import Init, pod_requests, requested
from stoker.policy.requirements import Requirement, Requirements, all_of, both, of_labels, requirement
from stoker.policy.taints import Taint, Toleration

_GIB = 1024**3
_ROOT_BYTES = 20 * _GIB
"""The root volume of a node class that names none."""
_RESERVED_BYTES = _GIB
"""Ephemeral storage that the kubelet keeps; a tenth of the volume is kept free besides."""


def is_auto_mode(pool: Manifest) -> bool:
    """Whether EKS Auto Mode runs this NodePool, and not a Karpenter of the user's own."""
    group = look(pool.data, "spec", "template", "spec", "nodeClassRef", "group")
    return isinstance(group, str) and group == AUTO_MODE


def node_pool_view(pool: Manifest, node_class: Manifest | None = None) -> NodePoolView:
    """A NodePool of `karpenter.sh/v1` or `v1beta1`. `node_class` is the EC2NodeClass that it refers to, where known: it
    says how much local storage and how many pods a node has."""
    template = ("spec", "template", "spec")
    spec = look(pool.data, *template, default={})
    domain: Domain = AUTO_MODE if is_auto_mode(pool) else AWS
    labels = texts(pool.get("spec", "template", "metadata", "labels"))
    name = look(spec, "nodeClassRef", "name")
    if domain == AWS and isinstance(name, str):
        labels.setdefault(f"{AWS}/ec2nodeclass", name)
    if domain == AUTO_MODE:
        labels.setdefault(f"{AUTO_MODE}/compute-type", "auto")
    lines = sections(look(spec, "requirements"))
    weight, replicas = pool.get("spec", "weight"), pool.get("spec", "replicas")
    return NodePoolView(
        name=pool.name,
        requirements=all_of(_requirements(each for _, each in lines)),
        labels={present_name(key): value for key, value in labels.items()},
        taints=_taints(look(spec, "taints")),
        limits=amounts(pool.get("spec", "limits")),
        weight=weight if whole(weight) is not None else 0,
        replicas=replicas if whole(replicas) is not None else None,
        min_values={
            present_name(each["key"]): each["minValues"]
            for _, each in lines
            if isinstance(each.get("key"), str) and whole(each.get("minValues")) is not None
        },
        domain=domain,
        storage_bytes=_storage(node_class),
        max_pods=_max_pods(spec, node_class),
    )


def pod_view(workload: Workload) -> PodView:
    """The pods of a workload. Preferred affinity, spreading and volumes say nothing here."""
    spec = workload.spec
    priority, priority_class = spec.get("priority"), spec.get("priorityClassName")
    return PodView(
        name=str(workload),
        requirements=pod_requirements(spec),
        tolerations=_tolerations(spec.get("tolerations")),
        requests=requests_of(workload),
        priority=priority if whole(priority) is not None else None,
        priority_class=priority_class if isinstance(priority_class, str) else "",
    )


def pod_requirements(spec: dict[str, Any]) -> tuple[Requirements, ...]:
    """`nodeSelector` with each term of the required node affinity: one of these must hold. A term that is empty matches
    no node, as in Kubernetes."""
    selector = of_labels({present_name(key): value for key, value in texts(spec.get("nodeSelector")).items()})
    path = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
    terms = look(spec, *path)
    if not isinstance(terms, list):
        return (selector,)
    found = []
    for _, term in sections(terms):
        lines = [each for key in ("matchExpressions", "matchFields") for _, each in sections(term.get(key))]
        if lines:
            found.append(both(selector, all_of(_requirements(lines))))
    return tuple(found)


def requests_of(workload: Workload) -> dict[str, int]:
    """What one pod of a workload requests, in base units."""
    spec = workload.spec
    containers = [container_requests(each) for _, each in workload.containers()]
    inits = [
        Init(container_requests(each), each.get("restartPolicy") == "Always")
        for _, each in sections(spec.get("initContainers"))
    ]
    return pod_requests(containers, inits, amounts(spec.get("overhead")), container_requests(spec))


def amounts(tree: Any) -> dict[str, int]:
    """A section of quantities by resource, in base units. What is no quantity, or below 0, is left out."""
    found = {}
    for resource, value in tree.items() if isinstance(tree, dict) else ():
        amount = _or_none(in_base_units, resource, value) if isinstance(resource, str) else None
        if amount is not None and amount >= 0:
            found[resource] = amount
    return found


def region_of_pool(view: NodePoolView) -> str | None:
    """The region that the pool's zones are in; None where it names no zones, or of several regions."""
    found = {region_of(zone) for zone in view.zones}
    return found.pop() if len(found) == 1 else None


def _requirements(lines: Iterable[dict[str, Any]]) -> list[Requirement]:
    found = []
    for each in lines:
        key, operator, values = each.get("key"), each.get("operator"), each.get("values", [])
        if isinstance(key, str) and isinstance(operator, str) and isinstance(values, list):
            asked = _or_none(requirement, present_name(key), operator, [str(v) for v in values if not _is_tree(v)])
            if asked is not None:
                found.append(asked)
    return found


def _taints(tree: Any) -> tuple[Taint, ...]:
    return tuple(
        Taint(each["key"], _text(each, "value"), _text(each, "effect"))
        for _, each in sections(tree)
        if isinstance(each.get("key"), str)
    )


def _tolerations(tree: Any) -> tuple[Toleration, ...]:
    return tuple(
        Toleration(_text(each, "key"), _text(each, "operator") or "Equal", _text(each, "value"), _text(each, "effect"))
        for _, each in sections(tree)
    )


def container_requests(container: dict[str, Any]) -> dict[str, int]:
    """What a container requests, in base units: a limit without a request is one."""
    return requested(amounts(look(container, "resources", "requests")), amounts(look(container, "resources", "limits")))


def _storage(node_class: Manifest | None) -> int | None:
    """Allocatable ephemeral storage. None where instance storage is used for it, which differs from type to type, or
    where a volume's size cannot be read."""
    if node_class is None or node_class.get("spec", "instanceStorePolicy") is not None:
        return None
    volumes = [each for _, each in sections(node_class.get("spec", "blockDeviceMappings"))]
    size = _ROOT_BYTES
    if volumes:
        root = next((each for each in volumes if each.get("rootVolume") is True), volumes[-1])
        read = _or_none(bytes_of, look(root, "ebs", "volumeSize"))
        if read is None:
            return None
        size = read
    return max(size - _RESERVED_BYTES - -(-size // 10), 0)


def _max_pods(spec: Any, node_class: Manifest | None) -> int | None:
    """`kubelet.maxPods`: in the node class since v1, in the pool before."""
    places = [look(spec, "kubelet", "maxPods")]
    if node_class is not None:
        places.insert(0, node_class.get("spec", "kubelet", "maxPods"))
    return next((each for each in places if whole(each) is not None), None)


def _or_none(read: Callable[..., Any], *values: Any) -> Any:
    try:
        return read(*values)
    except ValueError:
        return None


def _text(section: dict[str, Any], key: str) -> str:
    value = section.get(key)
    return value if isinstance(value, str) else ""


def _is_tree(value: Any) -> bool:
    return isinstance(value, dict | list)
