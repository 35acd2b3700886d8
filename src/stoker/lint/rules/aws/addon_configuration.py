"""The configuration of an add-on cannot be read, or has a key that it does not know.

`configurationValues` is a text of JSON or YAML that EKS checks against the schema of the add-on's version: `aws eks
describe-addon-configuration` prints it.

Symptom: ConfigurationValue provided in request is not supported: Json schema validation failed

Wrong:

    apiVersion: eks.services.k8s.aws/v1alpha1
    kind: Addon
    metadata: {name: observability}
    spec:
      name: amazon-cloudwatch-observability
      clusterName: prod
      configurationValues: |
        {"customMetrics": {"enabled": true}}

Right:

    apiVersion: eks.services.k8s.aws/v1alpha1
    kind: Addon
    metadata: {name: observability}
    spec:
      name: amazon-cloudwatch-observability
      clusterName: prod
      configurationValues: |
        {"containerInsights": {"enabled": true}}

Source: aws-observability/helm-charts@71a298ff charts/amazon-cloudwatch-observability/values.yaml
Source: guide-errors E28
"""

import json
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import filled_in_later

_UNKNOWN = {"amazon-cloudwatch-observability": ("customMetrics",)}
_LONGEST = 65536


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("Addon", group="eks.services.k8s.aws"):
        text, name = manifest.get("spec", "configurationValues"), manifest.get("spec", "name")
        if not isinstance(text, str) or not text.lstrip().startswith("{") or len(text) > _LONGEST:
            continue  # YAML is allowed, too, and not judged
        path = ("spec", "configurationValues")
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            if not filled_in_later(text):
                yield Problem(
                    manifest,
                    path,
                    f"it begins like JSON and is none ({error}): the add-on is refused",
                    hint="JSON",
                    severity=Severity.ERROR,
                )
            continue
        for key in _UNKNOWN.get(name, ()) if isinstance(name, str) and isinstance(values, dict) else ():
            if key in values:
                yield Problem(
                    manifest,
                    path,
                    f"{name} has no key {key}: EKS may refuse it, and it does nothing",
                    hint="what `aws eks describe-addon-configuration` lists",
                )


RULE = Rule(
    "STK-AWS-014",
    Severity.INFO,
    "The configuration of an add-on cannot be read, or has a key that it does not know",
    check,
    __name__,
    guide=("E28",),
)
