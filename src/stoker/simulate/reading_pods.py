"""Pod templates as `policy.cluster` shapes: what the scheduler and Karpenter look at beside requests and taints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stoker.manifests.node_pools import pod_view
from stoker.manifests.objects import Manifest, look, sections, texts, whole
from stoker.manifests.workloads import Workload
from stoker.policy.cluster import NodeTerm, PodShape, PodTerm, Spread
from stoker.policy.placement import PodView
from stoker.policy.requirements import Requirement, Requirements, all_of, of_labels, requirement

_SYSTEM = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
"""Priority classes that every cluster has."""
_NEVER_DISRUPTED = ("karpenter.sh/do-not-disrupt", "karpenter.sh/do-not-evict")
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_REQUIRED, _PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


@dataclass(frozen=True)
class Priorities:
    """The PriorityClasses in sight: value and whether it may preempt, by name; and the one for pods that name none."""

    known: Mapping[str, tuple[int, bool]]
    default: str = ""

    def of(self, name: str) -> tuple[int, bool] | None:
        name = name or self.default
        if name in self.known:
            return self.known[name]
        return (_SYSTEM[name], True) if name in _SYSTEM else None


def priorities(manifests: Sequence[Manifest]) -> Priorities:
    known, default = {}, ""
    for each in manifests:
        value = whole(each.get("value"))
        if each.kind == "PriorityClass" and value is not None:
            known[each.name] = value, each.get("preemptionPolicy") != "Never"
            default = each.name if each.get("globalDefault") is True else default
    return Priorities(known, default)


def view_of(workload: Workload, known: Priorities) -> PodView:
    """With the priority that its class gives; the API server writes it into pods."""
    view = pod_view(workload)
    found = known.of(view.priority_class)
    return view if found is None or view.priority is not None else replace(view, priority=found[0])


def shape_of(workload: Workload, known: Priorities, namespaces: tuple[str, ...]) -> PodShape:
    """`namespaces`: all that are in sight, for terms that look at every one."""
    spec, owner = workload.spec, str(workload.manifest)
    view = view_of(workload, known)
    found = known.of(view.priority_class)
    grace = whole(spec.get("terminationGracePeriodSeconds"))
    policy = spec.get("preemptionPolicy")
    affinity = spec.get("affinity")
    return PodShape(
        view=view,
        namespace=workload.namespace,
        labels=workload.labels,
        owner=owner,
        replica_set=owner,
        spread=tuple(_spread(spec.get("topologySpreadConstraints"), workload.labels)),
        affinity=tuple(_terms(look(affinity, "podAffinity"), workload.namespace, namespaces)),
        anti_affinity=tuple(_terms(look(affinity, "podAntiAffinity"), workload.namespace, namespaces)),
        preferred=tuple(_node_terms(look(affinity, "nodeAffinity"))),
        grace_s=30.0 if grace is None or grace < 0 else float(grace),
        do_not_disrupt=any(workload.annotations.get(key) == "true" for key in _NEVER_DISRUPTED),
        deletion_cost=_number(workload.annotations.get(_DELETION_COST)),
        may_preempt=policy != "Never" if policy is not None else found is None or found[1],
    )


def selector_of(tree: Any) -> Requirements | None:
    """A label selector. None where nothing is written, which selects no pod; an empty one selects all."""
    if not isinstance(tree, dict):
        return None
    lines = [*of_labels(texts(tree.get("matchLabels"))).values()]
    return all_of([*lines, *_expressions(tree.get("matchExpressions"))])


def _expressions(tree: Any) -> list[Requirement]:
    found = []
    for _, each in sections(tree):
        key, operator, values = each.get("key"), each.get("operator"), each.get("values", [])
        if isinstance(key, str) and isinstance(values, list):
            try:
                found.append(requirement(key, operator, [str(value) for value in values]))  # type: ignore[arg-type]
            except ValueError:
                continue  # the API server would refuse it; lint says so
    return found


def _spread(tree: Any, labels: Mapping[str, str]) -> list[Spread]:
    found = []
    for _, each in sections(tree):
        key, selector, skew = each.get("topologyKey"), selector_of(each.get("labelSelector")), each.get("maxSkew", 1)
        if not isinstance(key, str) or selector is None or whole(skew) is None:
            continue  # without a selector it counts no pod, and so keeps none away
        same = each.get("matchLabelKeys")
        also = {one: labels[one] for one in same if one in labels} if isinstance(same, list) else {}
        found.append(
            Spread(
                key=key,
                max_skew=skew,
                selector=all_of([*selector.values(), *of_labels(also).values()]),
                is_required=each.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
                min_domains=whole(each.get("minDomains")) or 1,
                honor_affinity=each.get("nodeAffinityPolicy", "Honor") != "Ignore",
                honor_taints=each.get("nodeTaintsPolicy", "Ignore") == "Honor",
            )
        )
    return found


def _terms(tree: Any, namespace: str, every: tuple[str, ...]) -> list[PodTerm]:
    """Of pod affinity or anti-affinity."""
    found = []
    weighted = [(each.get("podAffinityTerm"), each.get("weight", 1)) for _, each in sections(look(tree, _PREFERRED))]
    for term, weight in [*((each, None) for _, each in sections(look(tree, _REQUIRED))), *weighted]:
        key, selector = look(term, "topologyKey"), selector_of(look(term, "labelSelector"))
        if not isinstance(key, str) or selector is None:
            continue
        named = look(term, "namespaces")
        within = every if look(term, "namespaceSelector") is not None else (namespace,)
        if isinstance(named, list) and named:
            within = tuple(str(one) for one in named)
        found.append(PodTerm(key, selector, within, weight is None, whole(weight) or 1))
    return found


def _node_terms(tree: Any) -> list[NodeTerm]:
    found = []
    for _, each in sections(look(tree, _PREFERRED)):
        asked = all_of(_expressions(look(each, "preference", "matchExpressions")))
        if asked:
            found.append(NodeTerm(asked, whole(each.get("weight")) or 1))
    return found


def _number(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0


def storage_classes(manifests: Sequence[Manifest]) -> dict[str, str]:
    """Who provides volumes, by the class's name; the default class goes by the empty name, too."""
    found = {}
    for each in manifests:
        provisioner = each.get("provisioner")
        if each.kind == "StorageClass" and isinstance(provisioner, str):
            found[each.name] = provisioner
            if each.annotations.get("storageclass.kubernetes.io/is-default-class") == "true":
                found[""] = provisioner
    return found


def has_zonal_claims(manifest: Manifest, classes: Mapping[str, str]) -> bool:
    """Whether each pod has a volume of its own that is in one zone: EBS, as a class that is not in sight is taken to
    be; files of EFS and FSx are reached from every zone."""
    claims = [each for _, each in sections(manifest.get("spec", "volumeClaimTemplates"))]
    providers = [classes.get(str(look(each, "spec", "storageClassName") or ""), "ebs.csi.aws.com") for each in claims]
    return any("ebs" in each for each in providers)
