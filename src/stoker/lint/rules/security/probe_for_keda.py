"""A comment says that a probe is for KEDA.

KEDA never looks at probes: it reads its triggers. Probes are for the kubelet (liveness restarts the container) and for
Services (readiness). Somebody who removes KEDA, and the probe with it, loses the restarts.

Symptom: nothing, until the probe is changed for a reason that does not exist

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      containers:
      - name: a
        image: registry.example.com/a:1.0
        # Liveness probe for KEDA
        livenessProbe:
          httpGet: {path: /health, port: 8080}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      containers:
      - name: a
        image: registry.example.com/a:1.0
        # restarts it when it hangs
        livenessProbe:
          httpGet: {path: /health, port: 8080}

Source: Kubernetes documentation, Configure liveness, readiness and startup probes
Source: guide-errors F15
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._views import containers

_SCALER = re.compile(r"\bkeda\b|\bautoscal|\bhpa\b", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload, path, container in containers(cluster):
        comments = workload.manifest.document.comments
        if not comments:
            continue
        for key in ("livenessProbe", "readinessProbe", "startupProbe"):
            if key not in container:
                continue
            line = workload.manifest.where((*path, key), key=True).line
            comment = f"{comments.get(line - 1, '')} {comments.get(line, '')}"
            match = _SCALER.search(comment)
            if match and ("prob" in comment.lower() or "health" in comment.lower()):
                yield Problem(
                    workload.manifest,
                    (*path, key),
                    f"the comment says that {key} is for {match[0]}, which never looks at probes",
                    hint="the kubelet restarts by livenessProbe, Services send by readinessProbe",
                    key=True,
                )


RULE = Rule(
    "STK-SECURITY-011", Severity.INFO, "A comment says that a probe is for KEDA", check, __name__, guide=("F15",)
)
