"""`composition`: AWS resources as Kubernetes objects (ACK), stacks of them (kro), delivery by Git (Argo)."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, StringConstraints

from stoker.spec.faults import Fault
from stoker.spec.section import Expected, Section


class Ack(Section):
    enabled: bool = True
    """Render buckets, queues, repositories, roles, pod identities and add-ons as ACK objects; false leaves them to you:
    nothing else makes them."""

    rds: bool = False
    """Keep the ledger on RDS for PostgreSQL instead of in the cluster."""

    sagemaker: bool = False
    """Render a SageMaker Model and EndpointConfig beside the cluster's own, and in on-demand/, which nothing applies by
    itself, the TrainingJob and the Endpoint, which cost money from when they are applied. Needs
    global.cluster.account."""


Registered = Annotated[
    str,
    StringConstraints(pattern="^[A-Za-z0-9]([A-Za-z0-9_.-]{0,98}[A-Za-z0-9])?$"),
    Expected("the name of a cluster: letters, digits, hyphens, dots and underscores"),
]


class ArgoCd(Section):
    enabled: bool = False
    """Render an AppProject and an Application that keeps the cluster as this repository says."""

    capability: bool = False
    """Argo CD is the EKS capability, which names clusters by ARN; needs global.cluster.account, unless `clusters` names
    them."""

    repository: Annotated[
        str,
        StringConstraints(pattern="^(https|ssh)://[!-~]{4,512}$"),
        Expected("the https or ssh URL of a Git repository"),
    ] = "https://github.com/example/platform"
    """Repository in which what is rendered lies."""

    revision: Annotated[str, StringConstraints(pattern="^[A-Za-z0-9._/-]{1,128}$"), Expected("a branch or tag")] = (
        "main"
    )
    """Branch, tag or commit."""

    path: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?$", max_length=256),
        Expected("a folder within the repository, such as clusters/manifests"),
    ] = "manifests"
    """Folder in the repository."""

    clusters: Annotated[tuple[Registered, ...], Field(strict=False, max_length=100)] = ()
    """Names of registered clusters: an ApplicationSet delivers to all of them instead of an Application to this one,
    to each what lies in the folder of its name below `path`."""

    def broken_rules(self) -> Iterator[Fault]:
        seen: set[str] = set()
        for index, cluster in enumerate(self.clusters):
            if (alike := cluster.lower().replace("_", "-").replace(".", "-")) in seen:
                yield Fault(
                    ("clusters", index), f'"{cluster}" differs from another by no more than case or punctuation'
                )
            seen.add(alike)


class Composition(Section):
    ack: Ack = Ack()
    """AWS Controllers for Kubernetes."""

    kro: bool = False
    """Render the ResourceGraphDefinition AIInferenceStack, and an instance of it."""

    argocd: ArgoCd = ArgoCd()
    """Delivery by Git."""

    canary: bool = False
    """Deliver the gateway by an Argo Rollout, step by step with a look at its errors, instead of a Deployment."""
