"""A trigger takes a parameter from a variable that the scaled container does not have.

`addressFromEnv: REDIS_ADDRESS` is read from the environment of the target's container, `envSourceContainerName` or
the first one, and not from KEDA's own. KEDA follows `value`, and Secrets and ConfigMaps by `valueFrom` and `envFrom`.
Where the container sets no such variable, the parameter is empty.

Symptom: KEDAScalerFailed: no addresses or hosts given

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers:
          - {name: server, image: "chat:v1", env: [{name: AWS_REGION, value: us-west-2}]}
    ---
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: redis-streams
        metadata: {addressFromEnv: REDIS_ADDRESS, stream: tasks, consumerGroup: workers, lagCount: "5"}

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers:
          - {name: server, image: "chat:v1", env: [{name: REDIS_ADDRESS, value: "redis:6379"}]}
    ---
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: redis-streams
        metadata: {addressFromEnv: REDIS_ADDRESS, stream: tasks, consumerGroup: workers, lagCount: "5"}

Source: kedacore/keda@v2.20.2 pkg/scaling/resolver/scale_resolvers.go, pkg/scalers/scalersconfig/typed_config.go,
  pkg/scalers/redis_scaler.go
"""

from collections.abc import Iterator
from typing import Any

from stoker.catalog.keda import FROM_ENV
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import Trigger, scaled_workload, text, triggers
from stoker.manifests.objects import is_open, look, sections
from stoker.manifests.workloads import Workload


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster):
        workload = scaled_workload(cluster, trigger.manifest)
        if workload is None or trigger.known is None:
            continue
        for name, variable in trigger.metadata.items():
            if not name.endswith(FROM_ENV) or not variable or is_open(trigger.manifest, variable):
                continue
            if trigger.known.written_as(name) is not None:
                yield from _judged(cluster, trigger, name, variable, workload)


def _judged(cluster: Cluster, trigger: Trigger, name: str, variable: str, workload: Workload) -> Iterator[Problem]:
    wanted = _source(trigger)
    containers = [each for _, each in workload.containers()]
    container = next((each for each in containers if text(each.get("name")) == wanted or not wanted), None)
    path = trigger.at("metadata", name)
    if container is None:
        if wanted and containers:
            told = f"envSourceContainerName {wanted} is no container of {workload}: {name} has no value"
            yield Problem(trigger.manifest, path, told, hint=text(containers[0].get("name")))
        return
    names, unseen = _variables(cluster, container, workload)
    if variable in names:
        return
    who = f"container {text(container.get('name'))} of {workload}"
    if unseen:
        told = f"{who} does not set {variable} itself; whether {unseen} does is not to be seen here"
        yield Problem(trigger.manifest, path, told, hint=f"a variable {variable} there", severity=Severity.INFO)
    else:
        told = f"{who} has no variable {variable}: {name.removesuffix(FROM_ENV)} of {trigger.type} is empty"
        yield Problem(
            trigger.manifest,
            path,
            f"{told}, so the trigger can not work",
            hint=f"{name.removesuffix(FROM_ENV)}: the value itself, or {variable} in that container's env",
        )


def _source(trigger: Trigger) -> str:
    ref = "jobTargetRef" if trigger.manifest.kind == "ScaledJob" else "scaleTargetRef"
    found = text(trigger.manifest.get("spec", "envSourceContainerName"))
    return found or text(trigger.manifest.get("spec", ref, "envSourceContainerName"))


def _variables(cluster: Cluster, container: dict[str, Any], workload: Workload) -> tuple[set[str], str]:
    """The names that the container sets, and the first of what it takes others from that is not in sight."""
    names = {text(each.get("name")) for _, each in sections(container.get("env"))}
    unseen = ""
    for _, each in sections(container.get("envFrom")):
        prefix = text(each.get("prefix"))
        for ref, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if ref not in each:
                continue
            name = text(look(each, ref, "name"))
            source = cluster.find(kind, name, workload.namespace) if name else None
            if source is None:
                unseen = unseen or f"{kind} {name}"
                continue
            for part in ("data", "stringData"):
                keys = source.get(part)
                names |= {prefix + key for key in keys if isinstance(key, str)} if isinstance(keys, dict) else set()
    return names, unseen


RULE = Rule(
    "STK-KEDA-007",
    Severity.ERROR,
    "A trigger takes a parameter from a variable that the scaled container does not have",
    check,
    __name__,
    guide=("R04",),
)
