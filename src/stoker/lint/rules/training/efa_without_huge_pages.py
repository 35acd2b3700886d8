"""EFA is asked for without huge pages.

The EFA provider of libfabric takes its buffers from huge pages unless FI_EFA_USE_HUGE_PAGE is 0, and a pod that
requests none may use none. AWS's instructions ask for `hugepages-2Mi: 5120Mi` beside the devices; Karpenter launches
nodes for such a request only with a NodeOverlay, which needs its feature gate. With the variable at 0 the provider
takes ordinary pages, which is a little slower and needs neither.

Symptom: libfabric logs that it could not allocate huge pages

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        resources: {limits: {nvidia.com/gpu: 8, memory: 900Gi, vpc.amazonaws.com/efa: 4}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        env: [{name: FI_EFA_USE_HUGE_PAGE, value: "0"}]
        resources: {limits: {nvidia.com/gpu: 8, memory: 900Gi, vpc.amazonaws.com/efa: 4}}

Source: awsdocs/amazon-eks-user-guide@main latest/ug/ml/node-efa.adoc; ofiwg/libfabric, man/fi_efa.7.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import environment
from stoker.lint.pools import EFA
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.node_pools import container_requests

_SWITCH = "FI_EFA_USE_HUGE_PAGE"
_OFF = ("0", "false", "no", "off")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for path, container in workload.containers():
            asked = container_requests(container)
            has_pages = any(name.startswith("hugepages-") for name in asked)
            _, said = environment(container).get(_SWITCH, (0, ""))
            if asked.get(EFA) and not has_pages and str(said).lower() not in _OFF:
                yield Problem(
                    workload.manifest,
                    (*path, "resources", "limits", "hugepages-2Mi"),
                    "EFA without huge pages, which libfabric takes its buffers from",
                    hint="FI_EFA_USE_HUGE_PAGE=0 in env, or hugepages-2Mi: 5120Mi in requests and limits",
                )


RULE = Rule("STK-TRAINING-003", Severity.INFO, "EFA is asked for without huge pages", check, __name__)
