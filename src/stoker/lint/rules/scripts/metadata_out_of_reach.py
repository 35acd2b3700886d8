"""A container asks the metadata service, which is one hop too far.

The answer of the metadata service may pass `httpPutResponseHopLimit` hops. A container that is not on the host's
network is one hop behind the node, so it needs 2; Karpenter's v1 sets 1 unless told otherwise (v1beta1 set 2). The
token never arrives, and the request hangs. Better than raising the limit is not to ask from pods: Pod Identity or
IRSA for credentials, the interruption queue for notices.

Symptom: curl of 169.254.169.254 hangs in a pod, and works on the node
Symptom: "Unable to locate credentials" after the move to v1

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: listener}
    spec:
      containers:
      - name: listener
        image: example.com/shell:v1
        env: [{name: IMDS, value: "http://169.254.169.254/latest"}]
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: spot}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: spot}
          requirements: [{key: karpenter.sh/capacity-type, operator: In, values: [spot]}]
    ---
    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: spot}
    spec:
      role: node-role
      amiSelectorTerms: [{alias: al2023@v20260801}]
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: listener}
    spec:
      hostNetwork: true
      containers:
      - name: listener
        image: example.com/shell:v1
        env: [{name: IMDS, value: "http://169.254.169.254/latest"}]
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: spot}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: spot}
          requirements: [{key: karpenter.sh/capacity-type, operator: In, values: [spot]}]
    ---
    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: spot}
    spec:
      role: node-role
      amiSelectorTerms: [{alias: al2023@v20260801}]
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/concepts/nodeclasses.md (metadataOptions)
Source: aws/karpenter-provider-aws@v1.0.0 website/content/en/docs/upgrading/v1-migration.md
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.pools import Pool, pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.scripts._views import IMDS, OTHER_CLOUDS
from stoker.manifests.objects import look, sections
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        if workload.spec.get("hostNetwork") is True:
            continue
        places = list(_places(workload))
        classes = _too_near(pools(cluster).of(workload)) if places else []
        for path in places if classes else ():
            yield Problem(
                workload.manifest,
                path,
                f"asks 169.254.169.254 from a pod, and nodes of {', '.join(classes)} answer one hop only: it hangs",
                hint="Pod Identity and the interruption queue instead; or hostNetwork; or httpPutResponseHopLimit: 2",
            )


def _places(workload: Workload) -> Iterator[Path]:
    """The values of containers that name the service's address."""
    for path, container in workload.containers(init=True):
        for key in ("command", "args"):
            words = look(container, key)
            for i, word in enumerate(words) if isinstance(words, list) else ():
                if _asks(word):
                    yield (*path, key, i)
        for i, each in sections(container.get("env")):
            if _asks(each.get("value")):
                yield (*path, "env", i, "value")


def _asks(text: Any) -> bool:
    return isinstance(text, str) and bool(IMDS.search(text)) and not OTHER_CLOUDS.search(text)


def _too_near(found: tuple[Pool, ...]) -> list[str]:
    """The node classes of pools whose nodes answer one hop only; v1beta1 is taken as what it becomes."""
    names = []
    for pool in found:
        if pool.node_class is not None:
            limit = pool.node_class.get("spec", "metadataOptions", "httpPutResponseHopLimit", default=1)
            if limit == 1 and pool.node_class.get("spec", "metadataOptions", "httpEndpoint") != "disabled":
                names.append(pool.node_class.name)
    return sorted(set(names))


RULE = Rule(
    "STK-SCRIPTS-009",
    Severity.WARNING,
    "A container asks the metadata service, one hop too far",
    check,
    __name__,
    guide=("R20",),
)
