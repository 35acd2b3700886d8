"""The file is larger than is read.

The API server takes objects of about 1.5 MB, so a manifest of many megabytes is not one file of objects but a
mistake (a dump, an archive). It was refused from its size, without being read.

Symptom: request is too large

Wrong:

    a file of 50 MB

Right:

    files of one object, or of a few dozen

Source: etcd documentation, request size limit: 1.5 MiB
"""

from stoker.lint.rule import Rule, Severity

RULE = Rule("STK-READ-003", Severity.ERROR, "The file is larger than is read", lambda cluster: (), __name__)
KINDS = ("size",)
