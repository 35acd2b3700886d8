"""The kubelet's settings stand in the pool.

v1 moved `kubelet` from the NodePool to the EC2NodeClass. In the pool it is an unknown field: refused, or dropped, and
then nodes come with other reserves and another number of pods than written.

Symptom: strict decoding error: unknown field "spec.template.spec.kubelet"
Symptom: maxPods of the NodePool has no effect

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
          kubelet: {maxPods: 40}

Right:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms:
      - alias: al2023@v20260801
      role: nodes
      subnetSelectorTerms:
      - tags: {karpenter.sh/discovery: atelier}
      securityGroupSelectorTerms:
      - tags: {karpenter.sh/discovery: atelier}
      kubelet: {maxPods: 40}

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds/karpenter.k8s.aws_ec2nodeclasses.yaml
Source: Karpenter documentation, v1 migration
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import NODE, pools, section


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        node = section(pool, *NODE)
        if "kubelet" in node:
            ref = pool.get(*NODE, "nodeClassRef", "name", default="the node class")
            yield Problem(
                pool,
                (*NODE, "kubelet"),
                "v1 has no kubelet in a NodePool: its settings count for nothing",
                hint=f"spec.kubelet of EC2NodeClass {ref}",
                key=True,
            )


RULE = Rule("STK-KARPENTER-007", Severity.ERROR, "kubelet settings in a NodePool", check, __name__)
