"""The file is not UTF-8, or holds characters that YAML does not allow.

Kubernetes reads UTF-8 only. An editor that saves UTF-16 or Latin-1 makes a file that looks right and is not;
a NUL or another control character comes from a bad copy.

Symptom: yaml: invalid leading UTF-8 octet

Wrong:

    the byte 0xff anywhere in the file

Right:

    the file saved as UTF-8

Source: YAML 1.2.2 specification, section 5.2
"""

from stoker.lint.rule import Rule, Severity

RULE = Rule(
    "STK-READ-002",
    Severity.ERROR,
    "The file is not UTF-8, or holds characters that YAML does not allow",
    lambda cluster: (),
    __name__,
)
KINDS = ("encoding",)
