"""An IAM policy that allows everything.

`*` on every resource is the whole account; `s3:*` on every bucket includes deleting them; iam:PassRole for every role
is a way to any role. What an agent's tool can be talked into, it can then do.

Symptom: a prompt that deletes a bucket

Wrong:

    apiVersion: iam.services.k8s.aws/v1alpha1
    kind: Policy
    metadata: {name: worker}
    spec:
      name: worker
      policyDocument: |
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}

Right:

    apiVersion: iam.services.k8s.aws/v1alpha1
    kind: Policy
    metadata: {name: worker}
    spec:
      name: worker
      policyDocument: |
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject",
         "Resource": "arn:aws:s3:::models/*"}]}

Source: AWS documentation, IAM: security best practices, least privilege
Source: aws-controllers-k8s/iam-controller@v1.8.1 Policy and Role CRD
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._iam import PERMISSIONS, allows, listed, policies
from stoker.manifests.objects import Manifest

_MANAGED = ("AdministratorAccess", "PowerUserAccess", "IAMFullAccess")
# The console and the SDK need these on every resource: they only read, or take no resource at all.
_HARMLESS = ("Describe", "Get", "List")


def check(cluster: Cluster) -> Iterator[Problem]:
    for policy in policies(cluster):
        if policy.use != PERMISSIONS:
            continue
        for statement in policy.statements:
            what = _too_much(statement)
            if what:
                yield Problem(
                    policy.manifest,
                    policy.path,
                    what,
                    hint="the actions that it calls, on the ARNs that it calls them for",
                )
                break
    for manifest in cluster.of("Role", "User", "Group", group="iam.services.k8s.aws"):
        yield from _managed(manifest)


def _too_much(statement: dict[str, Any]) -> str:
    if not allows(statement):
        return ""
    if "NotAction" in statement:
        return "Allow with NotAction allows all that is not named, services of the future included"
    if "*" not in listed(statement.get("Resource")):
        return ""
    for action in listed(statement.get("Action")):
        service, _, name = action.partition(":")
        if action == "*":
            return "it allows every action on every resource of the account"
        if action.lower() == "iam:passrole" and "Condition" not in statement:
            return "iam:PassRole for every role: its holder can have any role of the account"
        if name == "*" and "Condition" not in statement:
            return f"it allows every action of {service} on every resource"
    return ""


def _managed(manifest: Manifest) -> Iterator[Problem]:
    attached = manifest.get("spec", "policies")
    for i, arn in enumerate(attached if isinstance(attached, list) else ()):
        name = arn.rpartition("/")[2] if isinstance(arn, str) and ":iam::aws:policy/" in arn else ""
        if name in _MANAGED:
            yield Problem(
                manifest,
                ("spec", "policies", i),
                f"{name} is attached: it allows nearly everything in the account",
                hint="a policy with the actions that it calls",
            )


RULE = Rule("STK-SECURITY-019", Severity.WARNING, "An IAM policy that allows everything", check, __name__)
