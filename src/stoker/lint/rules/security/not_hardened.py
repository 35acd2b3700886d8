"""A container may do more than it needs.

Unless told otherwise a container may run as root, gain rights by setuid programs, hold fourteen capabilities, and call
any system call. Each is one line to switch off, and a namespace with the restricted level demands all four.

Symptom: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false, unrestricted capabilities

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      containers:
      - {name: a, image: "registry.example.com/a:1.0"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      containers:
      - name: a
        image: registry.example.com/a:1.0
        securityContext:
          allowPrivilegeEscalation: false
          runAsNonRoot: true
          capabilities: {drop: [ALL]}
          seccompProfile: {type: RuntimeDefault}

Source: Kubernetes documentation, Pod Security Standards: restricted
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._pod_security import unset
from stoker.lint.rules.security._views import containers, named
from stoker.manifests.objects import look


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload, path, container in containers(cluster):
        if look(container, "securityContext", "privileged") is True:
            continue  # a finding of its own, and these would not bind it
        missing = unset(workload.spec, container)
        if missing:
            yield Problem(
                workload.manifest,
                (*path, "securityContext"),
                f"{named(container)} may do more than it needs: {', '.join(missing)} not set",
                hint=", ".join(missing.values()),
            )


RULE = Rule("STK-SECURITY-012", Severity.INFO, "A container may do more than it needs", check, __name__)
