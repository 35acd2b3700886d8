"""Two containers of a pod have the same port.

The containers of a pod share one network: the second one that listens on a port cannot. A host port that is written
twice is refused.

Symptom: bind: address already in use, and one of the containers restarts for ever

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      containers:
      - name: server
        image: chat:v1
        ports: [{containerPort: 8080}]
      - name: metrics
        image: metrics:v1
        ports: [{containerPort: 8080}]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      containers:
      - name: server
        image: chat:v1
        ports: [{containerPort: 8080}]
      - name: metrics
        image: metrics:v1
        ports: [{containerPort: 9400}]

Source: Kubernetes documentation, Pods (pod networking)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import sections


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        seen: dict[tuple[str, object, str], str] = {}
        for path, container in workload.containers():
            mine = set()
            for i, port in sections(container.get("ports")):
                protocol = str(port.get("protocol", "TCP"))
                for key in ("hostPort", "containerPort"):
                    number = port.get(key)
                    if not isinstance(number, int) or isinstance(number, bool) or number == 0:
                        continue
                    other = seen.get((key, number, protocol))
                    if other is not None:
                        yield Problem(
                            workload.manifest,
                            (*path, "ports", i, key),
                            f"{workload}: {key} {number} is the container {other}'s, too: "
                            + ("the pod is refused" if key == "hostPort" else "only one of them can listen on it"),
                            hint="another port",
                            severity=Severity.ERROR if key == "hostPort" else None,
                        )
                    mine.add((key, number, protocol))
            seen.update(dict.fromkeys(mine, str(container.get("name", ""))))


RULE = Rule("STK-MATCH-037", Severity.WARNING, "Two containers of a pod have the same port", check, __name__)
