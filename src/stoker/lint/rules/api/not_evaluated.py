"""A rule of the definition could not be evaluated.

The evaluator does not know a function that the rule uses. The API server does: whether the object is valid is
not known here.

Symptom: nothing: the API server may still refuse it

Wrong:

    a rule with a function that the evaluator does not have; docs/lint/cel.md lists them

Right:

    the object, applied with --dry-run=server

Source: docs/lint/cel.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    return cluster.faults("not-evaluated")


RULE = Rule("STK-API-008", Severity.INFO, "A rule of the definition could not be evaluated", check, __name__)
