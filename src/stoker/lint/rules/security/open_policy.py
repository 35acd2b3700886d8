"""A policy lets anybody in.

A trust policy whose principal is `*` lets every account of AWS be the role; a bucket's or queue's policy with `*` makes
it public. A Condition may narrow that.

Symptom: a bill for somebody else's work; files of a bucket in a search engine

Wrong:

    apiVersion: iam.services.k8s.aws/v1alpha1
    kind: Role
    metadata: {name: worker}
    spec:
      name: worker
      assumeRolePolicyDocument: |
        {"Version": "2012-10-17", "Statement": [
          {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}

Right:

    apiVersion: iam.services.k8s.aws/v1alpha1
    kind: Role
    metadata: {name: worker}
    spec:
      name: worker
      assumeRolePolicyDocument: |
        {"Version": "2012-10-17", "Statement": [
          {"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"},
           "Action": ["sts:AssumeRole", "sts:TagSession"]}]}

Source: AWS documentation, IAM: JSON policy elements, Principal
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._iam import PERMISSIONS, TRUST, allows, listed, open_to_all, policies


def check(cluster: Cluster) -> Iterator[Problem]:
    for policy in policies(cluster):
        for statement in policy.statements:
            what = _open(statement, policy.use)
            if what:
                yield Problem(policy.manifest, policy.path, what, hint="the accounts, roles or services that are meant")
                break


def _open(statement: dict[str, Any], use: str) -> str:
    if use == PERMISSIONS or not allows(statement):
        return ""
    if open_to_all(statement) and not statement.get("Condition"):
        if use == TRUST:
            return "Principal * without a Condition: every account of AWS can be this role"
        return "Principal * without a Condition: everybody may do what it allows"
    principal = statement.get("Principal")
    federated = listed(principal.get("Federated")) if isinstance(principal, dict) else []
    if any("oidc" in each for each in federated) and not statement.get("Condition"):
        return "any ServiceAccount of the cluster (and of whoever uses that provider) can be this role: no Condition"
    return ""


RULE = Rule("STK-SECURITY-020", Severity.WARNING, "A policy lets anybody in", check, __name__)
