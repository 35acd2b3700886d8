"""Labels and taints of nodes that no NodePool has to give: Kubernetes, Karpenter, agents or node groups set them."""

from collections.abc import Iterator

from stoker.catalog.labels import HOSTNAME, OLD_NAMES, WELL_KNOWN, domain_of
from stoker.lint.cluster import Cluster
from stoker.manifests.objects import sections, texts

_KNOWN = frozenset({key for known in WELL_KNOWN.values() for key in known} | {HOSTNAME} | set(OLD_NAMES))
_SET_LATER = (
    "nvidia.com",
    "amd.com",
    "feature.node.kubernetes.io",
    "aws.amazon.com",
    "k8s.amazonaws.com",
    "vpc.amazonaws.com",
)
"""Domains of what feature discovery and device plugins set once the node is there."""
_OF_OTHERS = (
    "kubernetes.io",
    "k8s.io",
    "k8s.aws",
    "karpenter.sh",
    "eks.amazonaws.com",
    "eksctl.io",
    "cilium.io",
    "csi.aws.com",
    "gke.io",
    "azure.com",
)
_OF_SYSTEM = ("CriticalAddonsOnly", "nvidia.com/gpu", "amd.com/gpu", "aws.amazon.com/neuron", "vpc.amazonaws.com/efa")
_INITIALIZED = ("karpenter.sh/registered", "karpenter.sh/initialized")


def is_known(key: str) -> bool:
    """Whether something other than a pool may give the label: of Kubernetes, of Karpenter, of node groups."""
    if is_set_later(key):
        return False
    return key in _KNOWN or _is_in(domain_of(key), _OF_OTHERS)


def is_set_later(key: str) -> bool:
    """Whether the label comes to be when the node has joined, and so after Karpenter had to know it."""
    return key in _INITIALIZED or _is_in(domain_of(key), _SET_LATER)


def labels_of_node_groups(cluster: Cluster) -> Iterator[str]:
    """The labels that node groups in sight give: of ACK, and of eksctl."""
    for group in cluster.of("Nodegroup", group="eks.services.k8s.aws"):
        yield from texts(group.get("spec", "labels"))
    for config in cluster.of("ClusterConfig", group="eksctl.io"):
        for key in ("nodeGroups", "managedNodeGroups"):
            for _, each in sections(config.get(key)):
                yield from texts(each.get("labels"))


def is_of_system(taint: str) -> bool:
    """Whether a taint is one that others than pools commonly set."""
    return taint in _OF_SYSTEM or _is_in(domain_of(taint), (*_OF_OTHERS, *_SET_LATER))


def _is_in(domain: str, domains: tuple[str, ...]) -> bool:
    return any(domain == each or domain.endswith(f".{each}") for each in domains)
