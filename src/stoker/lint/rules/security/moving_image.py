"""An image whose tag moves.

`:latest`, or no tag, is another image tomorrow: two replicas of one Deployment may run different code, a restart is an
upgrade, and there is nothing to roll back to. It is also pulled anew at each start, which for an image of a model
server takes minutes.

Symptom: after a node was replaced, the server does not know an option any more

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - {name: vllm, image: "vllm/vllm-openai:latest"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - {name: vllm, image: "vllm/vllm-openai:v0.11.0"}

Source: Kubernetes documentation, Images: image names and the pull policy
Source: guide-errors W07
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._placeholders import placeholder
from stoker.lint.rules.security._views import containers
from stoker.manifests.objects import filled_in_later

_MOVING = ("latest", "stable", "main", "master", "nightly", "edge", "dev", "develop")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload, path, container in containers(cluster):
        image = container.get("image")
        if not isinstance(image, str) or not image or image == "auto" or filled_in_later(image) or "@" in image:
            continue  # `auto` is what Istio's injection replaces
        if placeholder(image):
            continue  # STK-SECURITY-026 says it
        tag = image.rpartition("/")[2].partition(":")[2]
        if tag and tag not in _MOVING:
            continue
        said = f"the tag {tag} moves" if tag else "no tag means latest, which moves"
        yield Problem(
            workload.manifest,
            (*path, "image"),
            f"{image}: {said}, so a restart may run other code than its neighbour",
            hint="the tag of a release, or a digest (@sha256:...)",
        )


RULE = Rule("STK-SECURITY-007", Severity.WARNING, "An image whose tag moves", check, __name__, guide=("W07",))
