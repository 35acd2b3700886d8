"""A script signals a process of another container.

Containers of one pod have a process table each. `pkill` in a sidecar finds nothing of the program beside it, says so
by its exit code, and the program goes on. `shareProcessNamespace: true` puts them into one table.

Symptom: the listener logs a notice, and the program never gets SIGTERM

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - {name: train, image: "example.com/train:v1"}
      - name: listener
        image: example.com/shell:v1
        command: [sh, -c, "wait-for-notice; pkill -TERM -f train.py"]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      shareProcessNamespace: true
      containers:
      - {name: train, image: "example.com/train:v1"}
      - name: listener
        image: example.com/shell:v1
        command: [sh, -c, "wait-for-notice; pkill -TERM -f train.py"]

Source: Kubernetes documentation, tasks/configure-pod-container/share-process-namespace
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.scripts._views import judged

_KILLS = re.compile(r"\b(pkill|killall)\b((?:\s+-\S+)*)\s+([\"']?)([\w./-]+)\3")
_KILLS_FOUND = re.compile(r"\bkill\b[^\n;]*(?:\$\(|`)\s*(?:pgrep|pidof)((?:\s+-\S+)*)\s+([\"']?)([\w./-]+)\2")


def check(cluster: Cluster) -> Iterator[Problem]:
    for script in judged(cluster):
        workload = script.workload
        if workload is None or script.language != "sh" or script.place not in ("main", "init"):
            continue
        spec = workload.spec
        if len(list(workload.containers())) < 2 or spec.get("shareProcessNamespace") or spec.get("hostPID"):
            continue
        targets = [each[3] for each in _KILLS.findall(script.text)]
        targets += [each[2] for each in _KILLS_FOUND.findall(script.text)]
        for target in dict.fromkeys(targets):
            # A name that the script also starts is one of its own.
            if script.text.count(target) == targets.count(target):
                yield Problem(
                    script.manifest,
                    script.path,
                    f"signals {target}, which is no process of this container: nothing gets the signal",
                    hint="shareProcessNamespace: true in the pod's spec",
                )


RULE = Rule(
    "STK-SCRIPTS-007",
    Severity.WARNING,
    "A script signals a process of another container",
    check,
    __name__,
    guide=("R21",),
)
