"""Something that is no Kubernetes object.

An object has apiVersion and kind. What has neither was not judged.

Symptom: error: unable to decode: Object 'Kind' is missing

Wrong:

    - a
    - list

Right:

    apiVersion: v1
    kind: ConfigMap
    metadata: {name: an-object}

Source: Kubernetes documentation, objects: required fields
"""

from stoker.lint.rule import Rule, Severity

RULE = Rule("STK-READ-007", Severity.INFO, "Something that is no Kubernetes object", lambda cluster: (), __name__)
KINDS = ("not-an-object", "no-manifests")
