"""The liveness probe kills a model server that is still loading.

Without a startup probe, liveness is checked from the start: after initialDelaySeconds and failureThreshold failures,
periodSeconds apart, the kubelet restarts the container. Loading tens of GB of weights and compiling take minutes, more
so on a node with a cold disk: the server is killed, begins again, and is killed again.

Symptom: CrashLoopBackOff of a model server whose log ends in the middle of loading, with exit code 137 or 143

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.11.0
        resources:
          requests: {cpu: 4, memory: 24Gi}
          limits: {nvidia.com/gpu: 1, memory: 24Gi}
        livenessProbe:
          httpGet: {path: /health, port: 8000}
          initialDelaySeconds: 30

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.11.0
        resources:
          requests: {cpu: 4, memory: 24Gi}
          limits: {nvidia.com/gpu: 1, memory: 24Gi}
        startupProbe:
          httpGet: {path: /health, port: 8000}
          periodSeconds: 10
          failureThreshold: 60
        livenessProbe:
          httpGet: {path: /health, port: 8000}

Source: Kubernetes documentation, Configure liveness, readiness and startup probes: protect slow starting containers
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._views import containers, named, wants_gpu

SHORTEST_S = 120
"""A model of 7 B parameters is 15 GB: from a cold EBS volume that alone takes two minutes."""


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload, path, container in containers(cluster, init=False):
        for key in ("livenessProbe", "startupProbe"):
            probe = container.get(key)
            if not isinstance(probe, dict) or not wants_gpu(container):
                continue
            if key == "livenessProbe" and "startupProbe" in container:
                continue
            allowed = _seconds(probe)
            if allowed is not None and allowed < SHORTEST_S:
                yield Problem(
                    workload.manifest,
                    (*path, key),
                    f"{key} of {named(container)} leaves it {allowed} s to start, then it is killed:"
                    " a server that loads a model takes longer",
                    hint="startupProbe: {periodSeconds: 10, failureThreshold: 60}, which gives it 10 min",
                )


def _seconds(probe: dict[str, Any]) -> int | None:
    """How long after its start the container is killed if it never answers; None where that is not a number."""
    first = _whole(probe.get("initialDelaySeconds"), 0)
    period = _whole(probe.get("periodSeconds"), 10)
    times = _whole(probe.get("failureThreshold"), 3)
    return None if first is None or period is None or times is None else first + period * times


def _whole(value: Any, default: int) -> int | None:
    if value is None:
        return default
    return value if isinstance(value, int) and not isinstance(value, bool) else None


RULE = Rule(
    "STK-SECURITY-010",
    Severity.WARNING,
    "The liveness probe kills a model server that is still loading",
    check,
    __name__,
)
