"""A comment counts GPUs that the types do not have.

The number of GPUs goes with the type: all of g5 and g6 from xlarge to 8xlarge, and 16xlarge, have one; 12xlarge and
24xlarge have four, 48xlarge eight. Who believes the comment asks for pods that never fit.

Symptom: a pod that requests 4 GPUs stays Pending

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: code}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5, g6]}
          - key: karpenter.k8s.aws/instance-size
            operator: In
            values: [4xlarge, 8xlarge]  # 4-8 GPUs

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: code}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5, g6]}
          - key: karpenter.k8s.aws/instance-size
            operator: In
            values: [12xlarge, 48xlarge]  # 4-8 GPUs

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/reference/instance-types.md
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import REQUIREMENTS, denies, is_known, listed, pools, remarks, types_of

_COUNT = re.compile(r"\b(\d{1,2})(?:\s*(?:-|–|—|to|or|and|/)\s*(\d{1,2}))?\s*x?\s*GPUs?\b", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        types = types_of(pool) if is_known(pool) else ()
        there = {each.gpu_count or each.accelerator_count for each in types}
        for remark in remarks(pool) if types else ():
            match = _COUNT.search(remark.text)
            if match is None or not remark.is_about(*REQUIREMENTS) or denies(remark.text):
                continue
            said = [int(each) for each in match.groups() if each is not None]
            if all(each in there for each in said):
                continue
            counts = " or ".join(str(each) for each in sorted(there))
            yield Problem(
                pool,
                remark.path,
                f"the comment says {match[0].strip()}; the types of this pool have {counts}",
                hint=f"{counts} GPU{'' if there == {1} else 's'} ({listed([each.name for each in types], 3)})",
            )


RULE = Rule(
    "STK-KARPENTER-022", Severity.WARNING, "A comment counts GPUs wrongly", check, __name__, guide=("F01", "F02")
)
