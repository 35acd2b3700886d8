"""A shell is between Kubernetes and the program, and keeps its signals.

SIGTERM goes to the first process of a container. A shell that runs a script waits for its current command and passes
nothing on: the server or the training never hears that it has to end, and is killed when the grace period is over.
`exec` before the last command puts the program in the shell's place; a `trap` can pass the signal on.

Symptom: every pod takes its whole grace period to end, and exits with 137
Symptom: no checkpoint is written although the program handles SIGTERM

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        command:
        - bash
        - -c
        - |
          aws s3 sync s3://data /data
          torchrun train.py
        resources: {limits: {nvidia.com/gpu: 1, memory: 24Gi}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        command:
        - bash
        - -c
        - |
          aws s3 sync s3://data /data
          exec torchrun train.py
        resources: {limits: {nvidia.com/gpu: 1, memory: 24Gi}}

Source: Kubernetes documentation, concepts/workloads/pods/pod-lifecycle (termination of pods)
Source: GNU Bash manual, signals
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import gpus
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.scripts._views import judged

_PROGRAM = re.compile(r"(?:^|\s)(torchrun|vllm|python3?|accelerate|deepspeed|text-generation-launcher)\s+\S")


def check(cluster: Cluster) -> Iterator[Problem]:
    for script in judged(cluster):
        if script.language != "sh" or script.place != "main" or not gpus(script.container):
            continue
        lines = [each.strip() for each in re.split(r"[\n;]|&&", script.text.replace("\\\n", " ")) if each.strip()]
        # A shell that has one command only takes its place by itself.
        if len(lines) < 2 or "trap " in script.text:
            continue
        found = _PROGRAM.search(lines[-1])
        if found and not re.search(r"(^|\s)exec\s", lines[-1]) and not lines[-1].endswith("&"):
            yield Problem(
                script.manifest,
                script.path,
                f"the shell does not pass SIGTERM on to {found[1]}, which is killed when the grace period is over",
                hint=f"exec {found[1]} ...",
            )


RULE = Rule("STK-SCRIPTS-010", Severity.INFO, "A shell keeps the signals from the program", check, __name__)
