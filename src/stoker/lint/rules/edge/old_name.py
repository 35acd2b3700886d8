"""The ALB Ingress Controller has another name now.

Since version 2 it is the AWS Load Balancer Controller. What is written for the old one (version 1,
`aws-alb-ingress-controller`) does not fit: version 1 does not run on Kubernetes 1.22 or newer.

Symptom: a search for the ALB Ingress Controller finds instructions that no longer work

Wrong:

    # for the ALB Ingress Controller
    apiVersion: networking.k8s.io/v1
    kind: IngressClass
    metadata: {name: alb}
    spec:
      controller: ingress.k8s.aws/alb

Right:

    # for the AWS Load Balancer Controller
    apiVersion: networking.k8s.io/v1
    kind: IngressClass
    metadata: {name: alb}
    spec:
      controller: ingress.k8s.aws/alb

Source: AWS Load Balancer Controller documentation, Migrate from v1 to v2
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import text

_OLD = re.compile(r"\bALB[ -]?Ingress[ -]?Controller\b", re.IGNORECASE)
_SAYS_SO = re.compile(r"\b(former\w*|was|old|ex|renamed|no longer|not)\b", re.IGNORECASE)
_IMAGE = re.compile(r"aws-alb-ingress-controller")
_NEW = "AWS Load Balancer Controller"


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for path, container in workload.containers():
            if _IMAGE.search(text(container.get("image"))):
                told = "aws-alb-ingress-controller is version 1, which does not run on Kubernetes 1.22 or newer"
                at = (*path, "image")
                yield Problem(workload.manifest, at, told, hint=f"the {_NEW}", severity=Severity.WARNING)
    seen: set[int] = set()
    for manifest in cluster.of("Ingress", "IngressClass", "IngressClassParams", "TargetGroupBinding", "Service"):
        document = manifest.document
        if id(document) in seen:
            continue
        seen.add(id(document))
        if any(_OLD.search(each) and not _SAYS_SO.search(each) for each in document.comments.values()):
            told = "a comment says ALB Ingress Controller, which is the name of version 1"
            yield Problem(manifest, (), told, hint=_NEW)


RULE = Rule(
    "STK-EDGE-004", Severity.INFO, "The ALB Ingress Controller has another name now", check, __name__, guide=("W09",)
)
