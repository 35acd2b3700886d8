"""The text is not YAML or JSON.

kubectl cannot read it either; nothing of this document was judged. The other documents of the file were.

Symptom: error converting YAML to JSON: yaml: line 5: did not find expected key

Wrong:

    apiVersion: v1
    kind: ConfigMap
    metadata:
      name: [settings

Right:

    apiVersion: v1
    kind: ConfigMap
    metadata:
      name: settings

Source: YAML 1.2.2 specification
"""

from stoker.lint.rule import Rule, Severity

RULE = Rule("STK-READ-001", Severity.ERROR, "The text is not YAML or JSON", lambda cluster: (), __name__)
KINDS = ("syntax",)
