"""A PodIdentityAssociation for a ServiceAccount that is not there.

AWS takes the association without looking into the cluster. It is for one namespace and one name: with either misspelt,
the pods have no rights, and nothing says why.

Symptom: Unable to locate credentials, in a pod whose association is ACTIVE

Wrong:

    apiVersion: eks.services.k8s.aws/v1alpha1
    kind: PodIdentityAssociation
    metadata: {name: chat}
    spec:
      clusterName: prod
      namespace: default
      serviceAccount: chat
      roleARN: arn:aws:iam::111122223333:role/chat
    ---
    apiVersion: v1
    kind: ServiceAccount
    metadata: {name: chat, namespace: ai}

Right:

    apiVersion: eks.services.k8s.aws/v1alpha1
    kind: PodIdentityAssociation
    metadata: {name: chat}
    spec:
      clusterName: prod
      namespace: ai
      serviceAccount: chat
      roleARN: arn:aws:iam::111122223333:role/chat
    ---
    apiVersion: v1
    kind: ServiceAccount
    metadata: {name: chat, namespace: ai}

Source: awsdocs/amazon-eks-user-guide latest/ug/security/iam/pod-id-association.adoc
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import filled_in_later


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("PodIdentityAssociation", group="eks.services.k8s.aws"):
        name, namespace = manifest.get("spec", "serviceAccount"), manifest.get("spec", "namespace")
        if not isinstance(name, str) or not isinstance(namespace, str):
            continue
        if filled_in_later(name) or filled_in_later(namespace) or cluster.exists("ServiceAccount", name, namespace):
            continue
        elsewhere = cluster.find("ServiceAccount", name)
        if elsewhere is not None:
            yield Problem(
                manifest,
                ("spec", "namespace"),
                f"the ServiceAccount {name} is in {elsewhere.namespace}, not in {namespace}: its pods get no role",
                hint=f"namespace: {elsewhere.namespace}",
                severity=Severity.WARNING,
            )
        else:
            yield Problem(
                manifest,
                ("spec", "serviceAccount"),
                f"no ServiceAccount {namespace}/{name} among these manifests",
                hint=f'"ServiceAccount {namespace}/{name}" under exists in the config, if it is in the cluster',
            )


RULE = Rule(
    "STK-AWS-012",
    Severity.INFO,
    "A PodIdentityAssociation for a ServiceAccount that is not there",
    check,
    __name__,
)
