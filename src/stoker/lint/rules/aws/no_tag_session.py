"""A role for Pod Identity does not let its session be tagged.

EKS assumes the role with tags of the session (cluster, namespace, ServiceAccount). The trust policy must allow
sts:TagSession beside sts:AssumeRole, or the pods get no credentials.

Symptom: AccessDenied when a pod with Pod Identity asks for its credentials

Wrong:

    apiVersion: iam.services.k8s.aws/v1alpha1
    kind: Role
    metadata: {name: chat}
    spec:
      name: chat
      assumeRolePolicyDocument: |
        {"Version": "2012-10-17", "Statement": [
          {"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"}, "Action": "sts:AssumeRole"}]}

Right:

    apiVersion: iam.services.k8s.aws/v1alpha1
    kind: Role
    metadata: {name: chat}
    spec:
      name: chat
      assumeRolePolicyDocument: |
        {"Version": "2012-10-17", "Statement": [
          {"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"},
           "Action": ["sts:AssumeRole", "sts:TagSession"]}]}

Source: awsdocs/amazon-eks-user-guide latest/ug/security/iam/pod-id-role.adoc
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._iam import TRUST, allows, listed, policies
from stoker.manifests.objects import look

_SERVICE = "pods.eks.amazonaws.com"


def check(cluster: Cluster) -> Iterator[Problem]:
    for policy in policies(cluster):
        if policy.use != TRUST:
            continue
        ours = [
            each
            for each in policy.statements
            if allows(each) and _SERVICE in listed(look(each.get("Principal"), "Service"))
        ]
        actions = {action.lower() for each in ours for action in listed(each.get("Action"))}
        missing = [name for name in ("sts:AssumeRole", "sts:TagSession") if not actions & {name.lower(), "sts:*", "*"}]
        if ours and missing:
            yield Problem(
                policy.manifest,
                policy.path,
                f"{_SERVICE} may not {' and '.join(missing)}: pods with this role get no credentials",
                hint='"Action": ["sts:AssumeRole", "sts:TagSession"]',
            )


RULE = Rule(
    "STK-AWS-013",
    Severity.WARNING,
    "A role for Pod Identity does not let its session be tagged",
    check,
    __name__,
)
