"""What a chart says to people: README.md, and the notes after an installation."""

from stoker.render.chart_live import LiveKey
from stoker.render.chart_probing import Probed


def readme(probed: Probed) -> str:
    plan = probed.rendered.plan
    rows = "\n".join(f"| `{'.'.join(key.path)}` | {_may_be(key)} |" for key in probed.keys)
    return f"""\
# The platform {plan.cluster} as a Helm chart

Made by `stoker render --helm`. Its values are platform.yaml; its objects are those of `stoker render`.

    helm install agentic-ai . -f platform.yaml
    helm upgrade agentic-ai . -f platform.yaml

Every object names its own namespace, and the chart makes the namespaces {", ".join(_namespaces(probed))}. So the release
itself belongs into a namespace that is there, such as `default`. To have it in {plan.namespace}, let the chart adopt what
Helm has made: `--namespace {plan.namespace} --create-namespace --take-ownership`.

## Values that may be changed at installation

| key | may be |
|---|---|
{rows}

Every other value has to be what the chart was rendered for: what follows from it (instance types, numbers of nodes, which
objects there are) was computed then. Another one is refused with its key, and a new chart is made by
`stoker render --helm -f YOUR-VALUES.yaml -o CHART`.
"""


def notes(probed: Probed) -> str:
    plan = probed.rendered.plan
    return f"""\
{plan.cluster}: the platform is in the namespace {plan.namespace}.

    kubectl get pods --namespace {plan.namespace}
    kubectl get pods --namespace {plan.namespace} --selector app.kubernetes.io/name=gateway
"""


def _namespaces(probed: Probed) -> list[str]:
    objects = (each.object for each in probed.rendered.resources)
    return [each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"]


def _may_be(key: LiveKey) -> str:
    if key.bounds.most is not None:
        return f"a whole number from {key.bounds.least} to {key.bounds.most}"
    return f"text that matches `{key.bounds.pattern}`".replace("|", "\\|")
