"""A comment that means to silence a rule, and does not.

It names no rule, a rule that does not exist, or gives no reason. Who silences a rule owes the next reader the reason.

Symptom: the finding is still there

Wrong:

    # stoker:ignore STK-SECURITY-001
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: a}

Right:

    apiVersion: v1
    kind: ConfigMap
    metadata: {name: a}

Source: docs/lint/index.md
"""

from stoker.lint.rule import Rule, Severity

RULE = Rule("STK-LINT-001", Severity.WARNING, "A comment that silences nothing", lambda cluster: (), __name__)
