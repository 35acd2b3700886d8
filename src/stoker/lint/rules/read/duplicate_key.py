"""A key is written twice.

The last one wins without a word in most readers, and kubectl refuses the file since 1.27 (strict field
validation). Usually one of the two was meant for another section.

Symptom: error validating data: key "replicas" already set in map

Wrong:

    apiVersion: v1
    kind: ConfigMap
    metadata:
      name: settings
    data:
      level: info
      level: debug

Right:

    apiVersion: v1
    kind: ConfigMap
    metadata:
      name: settings
    data:
      level: debug

Source: Kubernetes documentation, API concepts: field validation
"""

from stoker.lint.rule import Rule, Severity

RULE = Rule("STK-READ-005", Severity.ERROR, "A key is written twice", lambda cluster: (), __name__)
KINDS = ("duplicate-key",)
