"""A PyTorchJob has a part that the operator does not know.

The replicas of a PyTorchJob are called `Master` and `Worker`, there is at most one Master, and the container that
trains is called `pytorch`. The operator refuses anything else: the schema of the kind cannot see it.

Symptom: the job gets the condition Failed, or the webhook says "There is no container named pytorch"

Wrong:

    apiVersion: kubeflow.org/v1
    kind: PyTorchJob
    metadata: {name: train}
    spec:
      pytorchReplicaSpecs:
        Worker:
          replicas: 2
          template:
            spec:
              containers: [{name: trainer, image: "example.com/train:v1"}]

Right:

    apiVersion: kubeflow.org/v1
    kind: PyTorchJob
    metadata: {name: train}
    spec:
      pytorchReplicaSpecs:
        Worker:
          replicas: 2
          template:
            spec:
              containers: [{name: pytorch, image: "example.com/train:v1"}]

Source: kubeflow/trainer@v1.9.4 pkg/webhooks/pytorch/pytorchjob_webhook.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import Manifest, look, sections
from stoker.spec.faults import Path, shown

_ROLES = ("Master", "Worker")
_CONTAINER = "pytorch"


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("PyTorchJob", group="kubeflow.org"):
        specs = manifest.get("spec", "pytorchReplicaSpecs")
        for role, replica in specs.items() if isinstance(specs, dict) else ():
            if isinstance(role, str) and isinstance(replica, dict):
                yield from _of_role(manifest, role, replica)


def _of_role(manifest: Manifest, role: str, replica: dict[str, object]) -> Iterator[Problem]:
    path: Path = ("spec", "pytorchReplicaSpecs", role)
    if role not in _ROLES:
        message = f"{shown(role)} is no role of a PyTorchJob, which the operator refuses"
        yield Problem(manifest, path, message, hint="Master or Worker", key=True)
    number = replica.get("replicas")
    if role == "Master" and isinstance(number, int) and number > 1:
        message = f"{number} masters: the operator takes one, and refuses the job"
        yield Problem(manifest, (*path, "replicas"), message, hint="replicas: 1, and the others as Worker")
    containers = look(replica, "template", "spec", "containers")
    named = [each.get("name") for _, each in sections(containers)]
    if named and _CONTAINER not in named and not manifest.templated:
        place: Path = (*path, "template", "spec", "containers", 0, "name")
        message = (
            f"no container called {_CONTAINER}, which the operator takes for the one that trains: it refuses the job"
        )
        yield Problem(manifest, place, message, hint=f"name: {_CONTAINER}")


RULE = Rule(
    "STK-TRAINING-016", Severity.ERROR, "A PyTorchJob has a part that the operator does not know", check, __name__
)
