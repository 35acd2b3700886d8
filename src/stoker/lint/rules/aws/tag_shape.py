"""Tags of an ACK object are of the other form.

Each service has its own: EKS and SQS take a map of keys and values, IAM, ECR, RDS and most others a list of `key` and
`value`.

Symptom: Invalid value: "array": spec.tags in body must be of type object

Wrong:

    apiVersion: eks.services.k8s.aws/v1alpha1
    kind: Addon
    metadata: {name: efa}
    spec:
      name: aws-efa-k8s-device-plugin
      clusterName: prod
      tags:
      - {key: project, value: chat}

Right:

    apiVersion: eks.services.k8s.aws/v1alpha1
    kind: Addon
    metadata: {name: efa}
    spec:
      name: aws-efa-k8s-device-plugin
      clusterName: prod
      tags: {project: chat}

Source: aws-controllers-k8s/eks-controller@v1.20.0; aws-controllers-k8s/iam-controller@v1.8.1
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import look


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.manifests:
        if not manifest.group.endswith(".services.k8s.aws"):
            continue
        tags = manifest.get("spec", "tags")
        if not isinstance(tags, list | dict):
            continue
        schema = cluster.schema(manifest)
        wanted = look(schema.tree, "properties", "spec", "properties", "tags", "type") if schema is not None else None
        if wanted == "object" and isinstance(tags, list):
            yield Problem(
                manifest,
                ("spec", "tags"),
                f"tags of {manifest.kind} are a map, not a list: the object is refused",
                hint="tags: {project: chat}",
            )
        elif wanted == "array" and isinstance(tags, dict):
            yield Problem(
                manifest,
                ("spec", "tags"),
                f"tags of {manifest.kind} are a list, not a map: the object is refused",
                hint="tags: [{key: project, value: chat}]",
            )


RULE = Rule("STK-AWS-008", Severity.ERROR, "Tags of an ACK object are of the other form", check, __name__)
