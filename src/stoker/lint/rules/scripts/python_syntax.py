"""Inline Python does not parse.

The interpreter reads the whole of `python -c` before it runs the first line. A syntax error, or lines that YAML has
folded into one, ends the container at once.

Symptom: "SyntaxError: invalid syntax", and CrashLoopBackOff

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: report}
    spec:
      containers:
      - name: report
        image: example.com/report:v1
        command:
        - python
        - -c
        - >
          import os
          print(os.getcwd())

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: report}
    spec:
      containers:
      - name: report
        image: example.com/report:v1
        command:
        - python
        - -c
        - |
          import os
          print(os.getcwd())

Source: Python documentation, reference/grammar
Source: YAML 1.2.2 specification, 8.1 (literal and folded styles)
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.scripts._views import judged, parsed

_NEWER = re.compile(r"^\s*type \w+\s*[=\[]|^\s*except [^:(]+,|\b[rf]?t[\"']|\b(?:f|rf|fr)[\"'].*\{", re.MULTILINE)


def check(cluster: Cluster) -> Iterator[Problem]:
    for script in judged(cluster):
        if script.language != "python":
            continue
        error = parsed(script.text)
        if isinstance(error, SyntaxError):
            severity = Severity.WARNING if _may_be_newer(script.text, error) else None
            yield Problem(
                script.manifest,
                script.path,
                f"line {error.lineno or 1} does not parse ({error.msg}), so the program ends before its first line",
                hint="a block with |, which keeps the lines, and valid Python in it",
                severity=severity,
            )


def _may_be_newer(text: str, error: SyntaxError) -> bool:
    """Whether a release of Python that is newer than ours could read it: nested quotes in f-strings (3.12), `type`
    statements (3.12), `except` without parentheses (3.14), t-strings (3.14)."""
    return "f-string" in str(error.msg) or _NEWER.search(text) is not None


RULE = Rule("STK-SCRIPTS-002", Severity.ERROR, "Inline Python does not parse", check, __name__)
