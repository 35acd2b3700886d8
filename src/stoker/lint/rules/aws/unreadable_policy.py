"""An embedded policy is none.

IAM, S3 and SQS take the text as it is and refuse what is no JSON with a Statement. The object is accepted by the API
server and never gets synchronised: the controller writes the reason in its conditions.

Symptom: MalformedPolicyDocument: Syntax errors in policy; ACK.Terminal is True

Wrong:

    apiVersion: iam.services.k8s.aws/v1alpha1
    kind: Policy
    metadata: {name: worker}
    spec:
      name: worker
      policyDocument: |
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow",}]}

Right:

    apiVersion: iam.services.k8s.aws/v1alpha1
    kind: Policy
    metadata: {name: worker}
    spec:
      name: worker
      policyDocument: |
        {"Version": "2012-10-17", "Statement": [
          {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::models/*"}]}

Source: AWS documentation, IAM: JSON policy elements
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._iam import policies


def check(cluster: Cluster) -> Iterator[Problem]:
    for policy in policies(cluster):
        if policy.fault:
            yield Problem(
                policy.manifest,
                policy.path,
                f"{policy.fault}: AWS refuses it, and the object never gets synchronised",
                hint='{"Version": "2012-10-17", "Statement": [...]}',
            )


RULE = Rule("STK-AWS-016", Severity.ERROR, "An embedded policy is none", check, __name__)
