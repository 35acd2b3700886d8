"""A file could not be opened.

It is not there, or may not be read; nothing of it was judged.

Symptom: no such file or directory

Wrong:

    a path that does not exist

Right:

    a path that does

Source: POSIX open(2)
"""

from stoker.lint.rule import Rule, Severity

RULE = Rule("STK-READ-008", Severity.ERROR, "A file could not be opened", lambda cluster: (), __name__)
KINDS = ("unreadable", "missing")
