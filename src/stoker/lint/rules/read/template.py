"""A template that has to be rendered first.

A file of a Helm chart is not a manifest: what Kubernetes gets is what Helm makes of it. Nothing in it was
judged.

Symptom: yaml: invalid map key, did not find expected node content

Wrong:

    {{- if .Values.enabled }}
    apiVersion: v1
    {{- end }}

Right:

    apiVersion: v1
    kind: ConfigMap
    metadata: {name: rendered}

Source: helm template CHART | stoker lint -
"""

from stoker.lint.rule import Rule, Severity

RULE = Rule("STK-READ-006", Severity.WARNING, "A template that has to be rendered first", lambda cluster: (), __name__)
KINDS = ("template",)
