"""A bucket is open to the public, or does not say that it is not.

S3 blocks public access to new buckets, and encrypts with keys of its own. What the manifest does not say, somebody may
have changed for the account, and nobody sees it in a review.

Symptom: a finding of the auditor; files of a bucket in a search engine

Wrong:

    apiVersion: s3.services.k8s.aws/v1alpha1
    kind: Bucket
    metadata: {name: models}
    spec:
      name: prod-models
      publicAccessBlock: {blockPublicACLs: false, blockPublicPolicy: false}

Right:

    apiVersion: s3.services.k8s.aws/v1alpha1
    kind: Bucket
    metadata: {name: models}
    spec:
      name: prod-models
      encryption:
        rules: [{applyServerSideEncryptionByDefault: {sseAlgorithm: "aws:kms"}}]
      publicAccessBlock:
        {blockPublicACLs: true, blockPublicPolicy: true, ignorePublicACLs: true, restrictPublicBuckets: true}

Source: AWS documentation, S3: blocking public access; default encryption
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity

_BLOCKS = ("blockPublicACLs", "blockPublicPolicy", "ignorePublicACLs", "restrictPublicBuckets")
_ALL = ", ".join(f"{key}: true" for key in _BLOCKS)
_PUBLIC = ("public-read", "public-read-write", "authenticated-read")


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("Bucket", group="s3.services.k8s.aws"):
        acl, block = manifest.get("spec", "acl"), manifest.get("spec", "publicAccessBlock")
        if acl in _PUBLIC:
            yield Problem(manifest, ("spec", "acl"), f"{acl}: everybody may read it", hint="acl: private, or none")
        for key in _BLOCKS:
            if isinstance(block, dict) and block.get(key) is False:
                yield Problem(
                    manifest,
                    ("spec", "publicAccessBlock", key),
                    f"{key} is off: a policy or an ACL can make the bucket public",
                    hint=f"{key}: true",
                )
        if block is None:
            yield Problem(
                manifest,
                ("spec", "publicAccessBlock"),
                "public access is not blocked here: what the account does by default holds",
                hint=f"publicAccessBlock: {{{_ALL}}}",
                severity=Severity.INFO,
            )
        if manifest.get("spec", "encryption") is None:
            yield Problem(
                manifest,
                ("spec", "encryption"),
                "no encryption is said: S3 uses its own key (SSE-S3), which you cannot withdraw",
                hint="encryption: {rules: [{applyServerSideEncryptionByDefault: {sseAlgorithm: aws:kms}}]}",
                severity=Severity.INFO,
            )


RULE = Rule(
    "STK-AWS-009",
    Severity.WARNING,
    "A bucket is open to the public, or does not say that it is not",
    check,
    __name__,
)
