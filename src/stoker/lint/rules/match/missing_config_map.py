"""A container needs a ConfigMap that is not there.

A container whose ConfigMap does not exist is not started, unless the reference says optional: true. A volume of one
that is missing keeps the whole pod in ContainerCreating.

Symptom: CreateContainerConfigError: configmap "settings" not found
Symptom: FailedMount: MountVolume.SetUp failed for volume: configmap not found

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      containers:
      - name: server
        image: chat:v1
        envFrom: [{configMapRef: {name: settings}}]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      containers:
      - name: server
        image: chat:v1
        envFrom: [{configMapRef: {name: settings}}]
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings, namespace: ai}
    data: {MODEL: llama}

Source: Kubernetes documentation, Configure a Pod to Use a ConfigMap (optional references)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import made_config_maps, missing, named_in_pods, pod_specs


def check(cluster: Cluster) -> Iterator[Problem]:
    found = (each for spec in pod_specs(cluster) for each in named_in_pods(spec, "ConfigMap"))
    yield from missing(
        cluster,
        "ConfigMap",
        found,
        "the container does not start",
        "a ConfigMap of this name beside it, or exists: [ConfigMap ...] in the config",
        known=("kube-root-ca.crt", "openshift-service-ca.crt"),
        made=made_config_maps(cluster),
    )


RULE = Rule("STK-MATCH-012", Severity.WARNING, "A container needs a ConfigMap that is not there", check, __name__)
