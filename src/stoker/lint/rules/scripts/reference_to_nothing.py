"""A $(VARIABLE) in a command that the container does not have.

Kubernetes replaces `$(NAME)` by the value in the container's `env`. A name that is not there is not an error: the
text stays, and the program is given "$(NAME)". In a shell script it is a command that is called, and not found.

Symptom: the program is given the text "$(NAME)"
Symptom: "sh: NAME: not found"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: server
        image: example.com/chat:v1
        args: [--model, $(MODEL)]
        env: [{name: MODEL_NAME, value: Qwen/Qwen3-8B}]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: server
        image: example.com/chat:v1
        args: [--model, $(MODEL_NAME)]
        env: [{name: MODEL_NAME, value: Qwen/Qwen3-8B}]

Source: Kubernetes documentation, tasks/inject-data-application/define-interdependent-environment-variables
"""

import difflib
import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import commands, environment, has_open_environment
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import is_open

_REFERENCE = re.compile(r"(?<!\$)\$\(([A-Z_][A-Z0-9_]{2,})\)")
_GIVEN = re.compile(
    r"\w+_SERVICE_(HOST|PORT)\w*|\w+_PORT(_\w+)?|KUBERNETES_\w+|HOSTNAME|AWS_\w+|PET_\w+|JOBSET_\w+|LWS_\w+"
)


def check(cluster: Cluster) -> Iterator[Problem]:
    for command in commands(cluster):
        # Hooks and probes are not expanded at all; what a shell does with the text there is its own affair.
        if command.workload is None or command.place not in ("main", "init") or has_open_environment(command.container):
            continue
        known = environment(command.container)
        for path, word in command.words:
            if is_open(command.manifest, word):
                continue
            for name in sorted(set(_REFERENCE.findall(word)) - set(known)):
                if _GIVEN.fullmatch(name):
                    continue
                near = difflib.get_close_matches(name, known, 1, 0.6)
                yield Problem(
                    command.manifest,
                    path,
                    f"env has no {name}, so the text $({name}) stays as it is",
                    hint=f"$({near[0]})?" if near else f"env: {name}",
                )


RULE = Rule("STK-SCRIPTS-005", Severity.WARNING, "A $(VARIABLE) that the container does not have", check, __name__)
