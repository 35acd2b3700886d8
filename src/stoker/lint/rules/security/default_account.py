"""A pod that uses AWS has the default ServiceAccount.

Rights in AWS come to a pod by its ServiceAccount: by Pod Identity or by a role in its annotation. The default one
should have none, since every pod of the namespace has it; what is left is the node's role, which hop limit 1 keeps
from pods.

Symptom: Unable to locate credentials; or an AccessDenied that names the role of the node

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: trainer, namespace: ai}
    spec:
      containers:
      - name: trainer
        image: registry.example.com/trainer:1.0
        env:
        - {name: CHECKPOINTS, value: "s3://checkpoints/run"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: trainer, namespace: ai}
    spec:
      serviceAccountName: trainer
      containers:
      - name: trainer
        image: registry.example.com/trainer:1.0
        env:
        - {name: CHECKPOINTS, value: "s3://checkpoints/run"}

Source: awsdocs/amazon-eks-user-guide latest/ug/security/iam/pod-id-how-it-works.adoc
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._views import variables, words
from stoker.manifests.workloads import Workload

_AWS = re.compile(r"^s3://|^--?[\w-]*=?s3://|https://sqs\.[\w-]+\.amazonaws\.com/|^arn:aws")
_NAMES = ("AWS_ROLE_ARN", "BEDROCK_MODEL_ID", "SQS_QUEUE_URL", "DYNAMODB_TABLE", "S3_BUCKET")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        account = workload.spec.get("serviceAccountName") or workload.spec.get("serviceAccount") or _of_flow(workload)
        used = _use(workload) if account in (None, "", "default") else ""
        if used:
            yield Problem(
                workload.manifest,
                (*workload.path, "serviceAccountName"),
                f"{used} is in AWS, and the default ServiceAccount has no rights there",
                hint="a ServiceAccount of its own, with a PodIdentityAssociation or a role",
            )


def _of_flow(workload: Workload) -> object:
    """The account of an Argo Workflow holds for all its templates."""
    spec = workload.manifest.get("spec", "workflowSpec") or workload.manifest.get("spec")
    return spec.get("serviceAccountName") if workload.path != ("spec",) and isinstance(spec, dict) else None


def _use(workload: Workload) -> str:
    for _path, container in workload.containers(init=True):
        for _i, name, value in variables(container):
            if name == "AWS_ACCESS_KEY_ID":
                return ""
            if name in _NAMES or _AWS.search(value):
                return value
        for _part, text in words(container):
            if "\n" not in text and _AWS.search(text):
                return text
    return ""


RULE = Rule("STK-SECURITY-023", Severity.INFO, "A pod that uses AWS has the default ServiceAccount", check, __name__)
