"""A rule of the linter failed, so what it looks for was not judged.

This is a defect of Stoker and not of the manifests. All other rules were applied. Please report it with the object.

Symptom: a finding of STK-LINT-003

Wrong:

    a rule that raises an error

Right:

    a rule that does not

Source: docs/lint/index.md
"""

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity

RULE = Rule("STK-LINT-003", Severity.WARNING, "A rule failed, and judged nothing", lambda cluster: (), __name__)


def problems(rule: Rule, error: Exception, cluster: Cluster) -> list[tuple[Rule, Problem]]:
    """The finding that stands for a rule that raised; on the first object, since which one it was is not known."""
    message = (
        f"the rule {rule.id} failed ({type(error).__name__}: {str(error)[:200]}): what it looks for was not judged"
    )
    return [(RULE, Problem(manifest, (), message)) for manifest in cluster.manifests[:1]]
