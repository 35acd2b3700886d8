"""A credential in the environment or the arguments of a container.

It can be read by everyone who may read pods, it is in the output of `kubectl describe`, in audit logs and in the
repository's history, and to change it the pods must be rolled out again.

Symptom: a key turns up in a search of the repository; messages of strangers in the chat behind a webhook

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: api}
    spec:
      containers:
      - name: api
        image: registry.example.com/api:1.0
        env:
        - {name: DB_PASSWORD, value: tr0ub4dor}
        - {name: WEBHOOK_URL, value: "https://hooks.slack.com/services/T0/B0/abc"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: api}
    spec:
      containers:
      - name: api
        image: registry.example.com/api:1.0
        env:
        - name: DB_PASSWORD
          valueFrom: {secretKeyRef: {name: api, key: password}}
        - name: WEBHOOK_URL
          valueFrom: {secretKeyRef: {name: api, key: webhook}}

Source: Kubernetes documentation, Good practices for Kubernetes Secrets
Source: guide-errors W08
"""

import re
from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._secrets import by_form, by_name, flag
from stoker.lint.rules.security._views import containers, variables, words
from stoker.manifests.objects import filled_in_later
from stoker.spec.faults import Path

_VARIABLE = re.compile(r"\$\{?[A-Za-z_]\w*\}?")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload, path, container in containers(cluster):
        for part, name, value, what in _credentials(container):
            if any(cluster.exists(kind, value, workload.namespace) for kind in ("Secret", "ExternalSecret")):
                continue  # the name of a Secret, not what is in it
            yield Problem(
                workload.manifest,
                (*path, *part),
                f"{name} is {what} in plain text: whoever may read pods has it",
                hint="valueFrom.secretKeyRef" if part[0] == "env" else "an environment variable with secretKeyRef",
            )


def _credentials(container: dict[str, Any]) -> Iterator[tuple[Path, str, str, str]]:
    for i, name, value in variables(container):
        if _VARIABLE.fullmatch(value):
            continue  # filled in before it is applied
        what = by_form(value) or by_name(name, value)
        if what:
            yield ("env", i, "value"), name, value, what
    before = ""
    for part, text in words(container):
        name, value = flag(text)
        if not name and before.startswith("-") and "=" not in before and not text.startswith("-"):
            name, value = before.lstrip("-").replace("-", "_"), text
        before = text
        if filled_in_later(text) or "\n" in text or value.startswith("$"):
            continue
        what = by_form(text) or (by_name(name, value) if name else "")
        if what:
            yield part, name or "an argument", value or text, what


RULE = Rule(
    "STK-SECURITY-005",
    Severity.WARNING,
    "A credential in the environment or the arguments of a container",
    check,
    __name__,
    guide=("W08",),
)
