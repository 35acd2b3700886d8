"""What `stoker render` wrote, as one thing: its objects, its Terraform, and what refers to what.

The checks of `whole_references`, `whole_names` and `whole_terraform` walk over this, and know nothing of the linter.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from stoker.render.run import render
from stoker.spec import Mode, Platform, loads

Tree = dict[str, Any]
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CLUSTER_WIDE = frozenset(
    (
        *("Namespace", "NodePool", "EC2NodeClass", "NodeClass", "PriorityClass", "StorageClass", "PersistentVolume"),
        *("ClusterRole", "ClusterRoleBinding", "ClusterSecretStore", "ClusterTriggerAuthentication", "CSIDriver"),
        *("ClusterQueue", "ResourceFlavor", "WorkloadPriorityClass", "Topology", "ResourceGraphDefinition"),
        *("ClusterTrainingRuntime", "GatewayClass", "ClusterWorkflowTemplate", "RuntimeClass", "CapacityBuffer"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "DeviceClass", "AdmissionCheck"),
    )
)
OUTSIDE_NAMESPACES = frozenset(
    (
        *("kube-system", "argocd", "argo", "keda", "monitoring", "karpenter", "kro", "ack-system", "amazon-cloudwatch"),
        *("external-secrets", "kueue-system", "kubeflow", "argo-rollouts", "kgateway-system", "istio-system"),
        "metrics",  # where the Prometheus of some specs of the tests is
    )
)
"""Of controllers, which are in the cluster before."""


@dataclass(frozen=True, eq=False)
class Object:
    """One object of the output, and the file that it stands in."""

    file: str
    data: Tree

    @property
    def kind(self) -> str:
        return str(self.data["kind"])

    @property
    def group(self) -> str:
        group, slash, _ = str(self.data["apiVersion"]).partition("/")
        return group if slash else ""

    @property
    def name(self) -> str:
        return str(self.data["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.data["metadata"].get("namespace", ""))

    @property
    def labels(self) -> Mapping[str, str]:
        return self.data["metadata"].get("labels", {})

    @property
    def spec(self) -> Tree:
        return self.data.get("spec") or {}

    def __str__(self) -> str:
        return f"{self.file}: {self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, eq=False)
class Pod:
    """One pod template, wherever it stands: the spec, and the labels that its pods have."""

    owner: Object
    spec: Tree
    labels: Mapping[str, str]

    @property
    def containers(self) -> list[Tree]:
        return [*self.spec.get("initContainers", ()), *self.spec.get("containers", ())]

    @property
    def namespace(self) -> str:
        return self.owner.namespace

    def __str__(self) -> str:
        return str(self.owner)


@dataclass(frozen=True, eq=False)
class Output:
    texts: Mapping[str, str]

    @cached_property
    def objects(self) -> list[Object]:
        return [
            Object(name, each)
            for name, text in self.texts.items()
            if name.endswith(".yaml") and name != "kustomization.yaml"
            for each in yaml.load_all(text, _Loader)
        ]

    @cached_property
    def terraform(self) -> str:
        return "\n".join(text for name, text in self.texts.items() if name.endswith(".tf"))

    @cached_property
    def by_name(self) -> dict[tuple[str, str, str], Object]:
        """By kind, namespace and name."""
        return {(each.kind, each.namespace, each.name): each for each in self.objects}

    @cached_property
    def namespaces(self) -> set[str]:
        return {each.name for each in self.of("Namespace")}

    @cached_property
    def pods(self) -> list[Pod]:
        return [pod for each in self.objects if each.kind != "ResourceGraphDefinition" for pod in _pods(each)]

    def of(self, *kinds: str) -> list[Object]:
        return [each for each in self.objects if each.kind in kinds]

    def has(self, kind: str, namespace: str, name: str) -> bool:
        return (kind, "" if kind in CLUSTER_WIDE else namespace, name) in self.by_name


def rendered(text: str, mode: Mode | None = None) -> Output:
    return Output(render(loads(text), mode=mode))


def rendered_platform(platform: Platform, mode: Mode | None = None) -> Output:
    return Output(render(platform, mode=mode))


def _pods(owner: Object) -> Iterator[Pod]:
    """Whatever has a list of containers with images is a pod's spec; its labels stand beside it."""
    for tree in sections(owner.data):
        spec = tree.get("spec")
        if isinstance(spec, dict) and _is_pod_spec(spec):
            yield Pod(owner, spec, (tree.get("metadata") or {}).get("labels") or {})
        single = tree.get("container", tree.get("script"))
        if owner.group == "argoproj.io" and isinstance(single, dict) and "image" in single:
            # A template of a Workflow is half a pod's spec, with its container beside the rest.
            account = tree.get("serviceAccountName", owner.spec.get("serviceAccountName"))
            outer = {"volumes": owner.spec.get("volumes", []), "serviceAccountName": account}
            whole = {**outer, **{key: value for key, value in tree.items() if value is not None}}
            volumes = [*outer["volumes"], *tree.get("volumes", ())]
            labels = (tree.get("metadata") or {}).get("labels") or {}
            yield Pod(owner, {**whole, "containers": [single], "volumes": volumes}, labels)


def _is_pod_spec(spec: Tree) -> bool:
    containers = spec.get("containers")
    return isinstance(containers, list) and any(isinstance(each, dict) and "image" in each for each in containers)


def sections(tree: Any) -> Iterator[Tree]:
    """The dicts of a tree, itself among them."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from sections(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from sections(value)


def strings(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a tree with the key that it stands under."""
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, dict):
        for name, value in tree.items():
            yield from strings(value, str(name))
    elif isinstance(tree, list):
        for value in tree:
            yield from strings(value, key)


def matches(selector: Tree | None, labels: Mapping[str, str]) -> bool:
    """As Kubernetes has it: an empty selector takes all, None takes none."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_meets(each, labels.get(each["key"])) for each in selector.get("matchExpressions", ()))


def _meets(expression: Tree, value: str | None) -> bool:
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case _:
            return value is None


def found(problems: Iterable[str]) -> list[str]:
    """What checks say, each once."""
    return sorted(set(problems))


BLOCK = re.compile(r'^(resource|data|variable|module|output|provider) "([^"]+)"(?: "([^"]+)")?', re.MULTILINE)
