"""Each rule's documentation is its first test: it flags what it calls wrong, and not what it calls right."""

import pytest

from stoker.lint import documentation
from stoker.lint.config import Config
from stoker.lint.rule import Rule, Severity
from stoker.lint.rules import RULES
from stoker.lint.run import lint
from stoker.manifests.reading import read_text

# What no YAML in a docstring can show: each has tests of its own.
NO_EXAMPLE = {"STK-READ-002", "STK-READ-003", "STK-READ-008", "STK-API-008", "STK-LINT-003"}


def test_ids_are_unique_and_in_order() -> None:
    ids = [rule.id for rule in RULES]
    assert len(ids) == len(set(ids))
    by_area: dict[str, list[str]] = {}
    for rule_id in ids:
        by_area.setdefault(rule_id.rpartition("-")[0], []).append(rule_id)
    assert [area for area, listed in by_area.items() if listed != sorted(listed)] == []


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_is_documented(rule: Rule) -> None:
    found = documentation.of(rule)
    assert found.title.endswith(".")


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_flags_what_it_calls_wrong(rule: Rule) -> None:
    if rule.id in NO_EXAMPLE:
        return
    report = lint(read_text(documentation.of(rule).wrong, "wrong.yaml"))
    assert rule.id in {finding.rule for finding in report.findings}


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_does_not_flag_what_it_calls_right(rule: Rule) -> None:
    if rule.id in NO_EXAMPLE:
        return
    report = lint(read_text(documentation.of(rule).right, "right.yaml"))
    errors = [f"{f.rule} {f.message}" for f in report.findings if f.rule == rule.id or f.severity is Severity.ERROR]
    assert errors == []


def test_a_rule_that_is_off_says_nothing() -> None:
    wrong = documentation.of(RULES[0]).wrong
    config = Config(severities={RULES[0].id: None})
    assert RULES[0].id not in {finding.rule for finding in lint(read_text(wrong), config).findings}
