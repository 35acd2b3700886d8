"""A preStop hook takes as long as the pod has to end, or longer.

The grace period begins when the pod is told to go, and the hook runs in it. A container gets SIGTERM only after the
hook. If the hook takes all of the period, what follows is a grace of two seconds, and then SIGKILL: nothing is
finished and nothing is saved. The default period is 30 s. A native `sleep` that is longer than the period is refused
at once.

Symptom: requests break at every rollout although there is a preStop hook
Symptom: "lifecycle.preStop.sleep: Invalid value"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: server
        image: example.com/chat:v1
        lifecycle:
          preStop:
            exec: {command: [sh, -c, "sleep 30"]}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      terminationGracePeriodSeconds: 100
      containers:
      - name: server
        image: example.com/chat:v1
        lifecycle:
          preStop:
            exec: {command: [sh, -c, "sleep 30"]}

Source: Kubernetes documentation, concepts/containers/container-lifecycle-hooks
Source: kubernetes/kubernetes@v1.36.0 pkg/apis/core/validation/validation.go (validateSleepAction)
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import grace_s
from stoker.manifests.objects import look
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

_SLEEP = re.compile(r"(?:^|[\s;&|])(?:/bin/)?sleep\s+(\d{1,6})(s|m|h)?(?![\w.])")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        grace = grace_s(workload)
        for path, container in workload.containers(init=True):
            hook: Path = (*path, "lifecycle", "preStop")
            seconds = look(container, "lifecycle", "preStop", "sleep", "seconds")
            if isinstance(seconds, int) and not isinstance(seconds, bool) and seconds >= max(grace, 1):
                severity = Severity.ERROR if seconds > grace else None
                yield _problem(workload, (*hook, "sleep", "seconds"), seconds, grace, severity)
            words = look(container, "lifecycle", "preStop", "exec", "command")
            text = " ".join(each for each in words if isinstance(each, str)) if isinstance(words, list) else ""
            slept = sum(int(number) * _UNITS[unit or ""] for number, unit in _SLEEP.findall(text))
            if slept >= max(grace, 1):
                yield _problem(workload, (*hook, "exec", "command"), slept, grace, None)


def _problem(workload: Workload, path: Path, slept: int, grace: int, severity: Severity | None) -> Problem:
    written = "terminationGracePeriodSeconds" in workload.spec
    said = f"{grace} s" if written else f"{grace} s (the default)"
    tail = "which the API server refuses" if severity is Severity.ERROR else "so SIGKILL follows it within seconds"
    return Problem(
        workload.manifest,
        path,
        f"the hook sleeps {slept} s of a grace period of {said}, {tail}",
        hint=f"terminationGracePeriodSeconds: {slept + 60}, or a shorter sleep",
        severity=severity,
    )


RULE = Rule(
    "STK-DISRUPTION-008", Severity.WARNING, "A preStop hook takes as long as the pod has to end", check, __name__
)
