"""Tags of an ACK Bucket are in `tagging.tagSet`.

S3 has its own form for them. Other kinds of ACK do have `tags`, a list of keys and values, or a map for those of EKS.

Symptom: strict decoding error: unknown field "spec.tags"

Wrong:

    apiVersion: s3.services.k8s.aws/v1alpha1
    kind: Bucket
    metadata: {name: models}
    spec:
      name: prod-models
      tags:
      - {key: project, value: chat}

Right:

    apiVersion: s3.services.k8s.aws/v1alpha1
    kind: Bucket
    metadata: {name: models}
    spec:
      name: prod-models
      tagging:
        tagSet:
        - {key: project, value: chat}

Source: aws-controllers-k8s/s3-controller@v1.10.0 Bucket CRD
Source: guide-errors E19
"""

from collections.abc import Iterator, Sequence
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.edits import Add, Edit, Remove
from stoker.manifests.objects import Manifest


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("Bucket", group="s3.services.k8s.aws"):
        tags = manifest.get("spec", "tags")
        if tags is not None:
            yield Problem(
                manifest,
                ("spec", "tags"),
                "a Bucket has no tags: the object is refused",
                hint="tagging: {tagSet: [{key: ..., value: ...}]}",
                key=True,
                edits=_edits(manifest, tags),
            )


def _edits(manifest: Manifest, tags: Any) -> Sequence[Edit]:
    """The move, where nothing stands there yet and the tags are what S3 takes."""
    listed = [{"key": key, "value": value} for key, value in tags.items()] if isinstance(tags, dict) else tags
    if manifest.get("spec", "tagging") is not None or not isinstance(listed, list) or not listed:
        return ()
    if not all(isinstance(each, dict) and set(each) == {"key", "value"} for each in listed):
        return ()
    if not all(isinstance(text, str) for each in listed for text in each.values()):
        return ()
    return (Remove(("spec", "tags")), Add(("spec", "tagging"), {"tagSet": listed}))


RULE = Rule(
    "STK-AWS-007", Severity.ERROR, "Tags of an ACK Bucket are in `tagging.tagSet`", check, __name__, guide=("E19",)
)
