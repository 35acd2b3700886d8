"""A comment silences a rule that finds nothing here.

The fault was mended, or the comment stands in the wrong place. Left there, it would hide the fault when it comes back.

Symptom: a suppression nobody remembers the reason of

Wrong:

    # stoker:ignore STK-READ-005 both keys are meant
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

MESSAGE = "silences a rule that finds nothing here; remove it"
RULE = Rule("STK-LINT-002", Severity.INFO, "A comment silences a rule that finds nothing", lambda cluster: (), __name__)
