"""The three forms of a report, each to the letter."""

import json

from stoker.lint import report as reports
from stoker.lint.findings import Finding, Report, Silenced
from stoker.lint.rule import Severity
from stoker.lint.rules import RULES

FIRST = Finding("STK-READ-005", Severity.ERROR, "a b.yaml", 3, 5, "Pod ai/a", "spec.x", "x is written twice", "one x")
SECOND = Finding("STK-READ-007", Severity.INFO, "c.yaml", 1, 1, "", "", "no object")
REPORT = Report(
    (FIRST, SECOND), checked=2, files=2, silenced=(Silenced(SECOND, "known"), Silenced(SECOND, "agreed", True))
)


def test_text_is_grouped_by_file_and_counts_at_the_end() -> None:
    assert reports.text(REPORT, level=Severity.INFO) == (
        "a b.yaml\n"
        "  3:5      error   x is written twice\n"
        "           STK-READ-005  Pod ai/a\n"
        "           right: one x\n"
        "\n"
        "c.yaml\n"
        "  1:1      info    no object\n"
        "           STK-READ-007\n"
        "\n"
        "1 error, 1 info in 2 objects of 2 files; 2 silenced\n"
    )


def test_what_is_less_severe_than_the_level_is_counted_and_not_shown() -> None:
    told = reports.text(REPORT)
    assert "c.yaml" not in told
    assert told.endswith("1 error, 1 info in 2 objects of 2 files; 2 silenced (--level info shows all)\n")


def test_a_name_does_nothing_to_the_terminal() -> None:
    odd = Finding("STK-READ-005", Severity.ERROR, "a.yaml", 1, 1, "Pod \x1b[2Ja\nb", "", "m\r", "h")
    assert "Pod \\x1b[2Ja\\nb\n" in reports.text(Report((odd,), checked=1, files=1))


def test_a_clean_report_says_what_was_looked_at() -> None:
    assert reports.text(Report((), checked=1, files=3)) == "nothing found in 1 object of 3 files\n"


def test_json_has_the_keys_that_scripts_rely_on() -> None:
    told = json.loads(reports.as_json(REPORT))
    assert told["checked"] == 2
    assert told["findings"][0] == {
        "rule": "STK-READ-005",
        "severity": "error",
        "file": "a b.yaml",
        "line": 3,
        "column": 5,
        "object": "Pod ai/a",
        "path": "spec.x",
        "message": "x is written twice",
        "hint": "one x",
    }
    assert [each["reason"] for each in told["silenced"]] == ["known", "agreed"]


def test_sarif_names_each_rule_once_and_points_at_the_place() -> None:
    run = json.loads(reports.as_sarif(REPORT, RULES))["runs"][0]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["STK-READ-005", "STK-READ-007"]
    result = run["results"][0]
    assert (result["ruleId"], result["ruleIndex"], result["level"]) == ("STK-READ-005", 0, "error")
    assert result["message"]["text"] == "Pod ai/a: x is written twice. Right: one x"
    location = result["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "a%20b.yaml"
    assert location["region"] == {"startLine": 3, "startColumn": 5}


def test_sarif_tells_what_was_silenced_where_and_why() -> None:
    results = json.loads(reports.as_sarif(REPORT, RULES))["runs"][0]["results"]
    assert [each.get("suppressions") for each in results] == [
        None,
        None,
        [{"kind": "inSource", "justification": "known"}],
        [{"kind": "external", "justification": "agreed"}],
    ]
