"""The role of a ServiceAccount is no ARN of a role.

The webhook of EKS copies the annotation into the pods, and AWS refuses to assume it: every call of AWS fails. A name
without the ARN, an instance profile, or a space is enough.

Symptom: ValidationError: Request ARN is invalid, when calling the AssumeRoleWithWebIdentity operation

Wrong:

    apiVersion: v1
    kind: ServiceAccount
    metadata:
      name: worker
      namespace: ai
      annotations: {eks.amazonaws.com/role-arn: worker-role}

Right:

    apiVersion: v1
    kind: ServiceAccount
    metadata:
      name: worker
      namespace: ai
      annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::111122223333:role/worker-role"}

Source: awsdocs/amazon-eks-user-guide latest/ug/security/iam/iam-reference/associate-service-account-role.adoc
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._placeholders import placeholder
from stoker.manifests.objects import filled_in_later

ANNOTATION = "eks.amazonaws.com/role-arn"
_ARN = re.compile(r"arn:aws(-[a-z]+)*:iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII)


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("ServiceAccount", group=""):
        arn = manifest.get("metadata", "annotations", ANNOTATION)
        if not isinstance(arn, str) or filled_in_later(arn) or placeholder(arn) or _ARN.fullmatch(arn):
            continue
        yield Problem(
            manifest,
            ("metadata", "annotations", ANNOTATION),
            f"{arn!r} is no ARN of a role: AWS refuses to assume it, and the pods have no rights in AWS",
            hint="arn:aws:iam::ACCOUNT:role/NAME, with the twelve digits of the account",
        )


RULE = Rule("STK-SECURITY-018", Severity.ERROR, "The role of a ServiceAccount is no ARN of a role", check, __name__)
