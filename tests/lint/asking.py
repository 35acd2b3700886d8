"""What one rule says of a text, for the tests of rules."""

from stoker.lint.config import Config
from stoker.lint.rules import RULES
from stoker.lint.run import lint
from stoker.manifests.reading import read_text

RULE_OF = {rule.id: rule for rule in RULES}


def said(rule: str, text: str, *, exists: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Path and severity of each finding of one rule, in the order of the text."""
    report = lint(read_text(text), Config(only=frozenset([rule]), exists=exists), rules=[RULE_OF[rule]])
    return [(finding.path, finding.severity.value) for finding in report.findings]


def messages(rule: str, text: str) -> list[str]:
    report = lint(read_text(text), Config(only=frozenset([rule])), rules=[RULE_OF[rule]])
    return [finding.message for finding in report.findings]
