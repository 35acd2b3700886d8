"""What a chart says to people: README.md, and the notes after an installation."""

from collections.abc import Iterable

from stoker.render.chart_live import PLAIN, LiveKey
from stoker.render.chart_probing import Probed
from stoker.render.chart_templates import defined_kinds
from stoker.render.items import ON_DEMAND

_CONTROLLERS = {
    "argoproj.io": "Argo (Workflows, Rollouts, CD: whose kinds there are)",
    "eks.amazonaws.com": "EKS Auto Mode",
    "external-secrets.io": "External Secrets Operator",
    "gateway.networking.k8s.io": "a controller of the Gateway API",
    "inference.networking.k8s.io": "the inference extension of the Gateway API",
    "inference.networking.x-k8s.io": "the inference extension of the Gateway API",
    "karpenter.k8s.aws": "Karpenter",
    "karpenter.sh": "Karpenter",
    "keda.sh": "KEDA",
    "kro.run": "kro",
    "kubeflow.org": "Kubeflow Training Operator",
    "kueue.x-k8s.io": "Kueue",
    "leaderworkerset.x-k8s.io": "LeaderWorkerSet",
    "monitoring.coreos.com": "Prometheus Operator",
    "trainer.kubeflow.org": "Kubeflow Trainer",
}
"""Who knows the kinds of an API group that Kubernetes does not. ACK has a group for each service of AWS."""


def readme(probed: Probed) -> str:
    plan = probed.rendered.plan
    rows = "\n".join(f"| `{'.'.join(key.path)}` | {_may_be(key)} |" for key in probed.keys)
    namespaces = ", ".join(_namespaces(probed))
    return f"""\
# The platform {plan.cluster} as a Helm chart

Made by `stoker render --helm`, for nodes by {plan.mode}. Its values are platform.yaml; its objects are those of
`stoker render`.

    helm install agentic-ai . -f platform.yaml
    helm upgrade agentic-ai . -f platform.yaml

Every object names its own namespace, and the chart makes these: {namespaces}.
The record of the release is where Helm is told to keep it: `--namespace`, or the namespace of the current context.
To keep it in {plan.namespace}, which is the chart's own, say (with Helm 4)
`--namespace {plan.namespace} --create-namespace`; where that namespace is there already, `--take-ownership`, too.

## What has to be in the cluster

Kinds that Kubernetes does not know belong to controllers, which this chart does not bring; Helm makes nothing while one
of them is missing:

{_bullets(controllers(probed))}
{_LATER.format(kinds=_kinds(probed)) if defined_kinds(probed) else ""}
## Values that may be changed at installation

| key | may be |
|---|---|
{rows}

Every other value has to be what the chart was rendered for: what follows from it (instance types, numbers of nodes,
which objects there are) was computed then. Another one is refused with its key, and a new chart is made by
`stoker render --helm -f YOUR-VALUES.yaml -o CHART`.
{_left_out(probed)}"""


_LATER = """
{kinds}: its kind is made by kro of a definition in this chart. It is installed by the first `helm upgrade` after that.
"""


def _kinds(probed: Probed) -> str:
    return ", ".join(sorted(kind.rpartition("/")[2] for kind in defined_kinds(probed)))


def notes(probed: Probed) -> str:
    plan = probed.rendered.plan
    again = ""
    if defined_kinds(probed):
        again = f"\nWhen kro has made {_kinds(probed)}, the same `helm upgrade` once more installs the object of it.\n"
    return f"""\
{plan.cluster}: the platform is in the namespace {plan.namespace}. It answers once its pods are ready and a model has a
replica, which may first need a node:

    kubectl get pods --namespace {plan.namespace}
    kubectl port-forward --namespace {plan.namespace} service/gateway 8080 &
    curl http://127.0.0.1:8080/ready
{again}
What works on these objects, and has to run: {", ".join(controllers(probed))}.
"""


def controllers(probed: Probed) -> list[str]:
    """Who has to be in the cluster, by name."""
    groups = {each.object["apiVersion"].rpartition("/")[0] for each in probed.rendered.resources}
    ack = sorted(each.partition(".")[0] for each in groups if each.endswith(".services.k8s.aws"))
    known = {_CONTROLLERS[each] for each in groups if each in _CONTROLLERS}
    return sorted(known | ({f"ACK ({', '.join(ack)})"} if ack else set()))


def _left_out(probed: Probed) -> str:
    if not probed.rendered.left_out:
        return ""
    return f"""
## What is not in the chart

`stoker render -o DIR` writes these, too: what ACK has no kind for, as Terraform, and what costs money by being applied
({ON_DEMAND}).

{_bullets(f"`{each}`" for each in probed.rendered.left_out)}
"""


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {each}" for each in lines)


def _namespaces(probed: Probed) -> list[str]:
    objects = (each.object for each in probed.rendered.resources)
    return [each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"]


def _may_be(key: LiveKey) -> str:
    if key.bounds.most is not None:
        return f"a whole number from {key.bounds.least} to {key.bounds.most}"
    if key.bounds.pattern == PLAIN:
        return "letters, digits and `. _ / : @ + % = -`, as far as the schema lets them through"
    return f"text that matches `{key.bounds.pattern}`".replace("|", "\\|")
