"""A credential in a ConfigMap.

ConfigMaps are for what anybody may read: they are not encrypted at rest, and most roles of readers include them.

Symptom: a key of AWS in the output of kubectl get configmap

Wrong:

    apiVersion: v1
    kind: ConfigMap
    metadata: {name: api}
    data:
      url: postgres://api:tr0ub4dor@db.example.com/api

Right:

    apiVersion: v1
    kind: ConfigMap
    metadata: {name: api}
    data:
      url: postgres://db.example.com/api

Source: Kubernetes documentation, ConfigMaps: no secrecy or encryption
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._secrets import by_form, by_name
from stoker.manifests.objects import filled_in_later, texts


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("ConfigMap", group=""):
        for key, value in texts(manifest.get("data")).items():
            what = by_form(value)
            if not what and "\n" not in value.strip() and not filled_in_later(value):
                what = by_name(key, value)
            if what:
                yield Problem(
                    manifest,
                    ("data", key),
                    f"{key} holds {what}: a ConfigMap is neither secret nor encrypted",
                    hint="a Secret that is fetched (ExternalSecret), and the rest in the ConfigMap",
                )


RULE = Rule("STK-SECURITY-006", Severity.WARNING, "A credential in a ConfigMap", check, __name__)
