"""Findings as text for people, JSON for scripts, SARIF 2.1.0 for code hosts. Pure: returns text, prints nothing."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from stoker import __version__
from stoker.base.terminal import printable
from stoker.lint import documentation
from stoker.lint.findings import Finding, Report
from stoker.lint.rule import Rule, Severity

Style = Callable[[str, str], str]
"""(text, name of a style: file, error, warning, info, rule, hint) -> text, coloured or not."""

_SARIF_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def plain(text: str, _name: str) -> str:
    return text


def text(report: Report, style: Style = plain, *, level: Severity = Severity.WARNING) -> str:
    """Grouped by file, in the order of the text; the last line counts. Understandable without colour.

    What is less severe than `level` is counted and not shown."""
    lines: list[str] = []
    shown = [finding for finding in report.findings if finding.severity.rank >= level.rank]
    for file, findings in groupby(shown, key=lambda finding: finding.file):
        lines.append(style(printable(file), "file"))
        for finding in findings:
            lines += _lines(finding, style)
        lines.append("")
    lines.append(summary(report) + (" (--level info shows all)" if len(shown) < len(report.findings) else ""))
    return "\n".join(lines) + "\n"


def _lines(finding: Finding, style: Style) -> list[str]:
    place = f"{finding.line}:{finding.column}"
    head = f"  {place:<8} {style(f'{finding.severity.value:<7}', finding.severity.value)} {printable(finding.message)}"
    about = "  ".join(part for part in (style(finding.rule, "rule"), printable(finding.object)) if part)
    indent = " " * 11
    return [
        head,
        f"{indent}{about}",
        *([f"{indent}{style('right: ' + printable(finding.hint), 'hint')}"] if finding.hint else []),
    ]


def summary(report: Report) -> str:
    """`12 errors, 3 warnings, 1 info in 40 objects of 12 files; 2 silenced`."""
    counts = Counter(finding.severity for finding in report.findings)
    said = [
        _count(counts[severity], severity.value) if severity is not Severity.INFO else f"{counts[severity]} info"
        for severity in (Severity.ERROR, Severity.WARNING, Severity.INFO)
        if counts[severity]
    ]
    where = f"{_count(report.checked, 'object')} of {_count(report.files, 'file')}"
    silenced = f"; {len(report.silenced)} silenced" if report.silenced else ""
    return f"{', '.join(said) if said else 'nothing found'} in {where}{silenced}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def as_json(report: Report) -> str:
    """One object: `findings`, `checked` (objects), `files`, `silenced` with the reason of each."""
    return json.dumps(
        {
            "findings": [finding.as_json() for finding in report.findings],
            "checked": report.checked,
            "files": report.files,
            "silenced": [{**each.finding.as_json(), "reason": each.reason} for each in report.silenced],
        },
        indent=2,
    )


def as_sarif(report: Report, rules: Sequence[Rule]) -> str:
    """A SARIF 2.1.0 log of one run; what was silenced is in it as suppressed, with the reason."""
    used = {finding.rule for finding in report.findings} | {each.finding.rule for each in report.silenced}
    listed = [rule for rule in rules if rule.id in used]
    index = {rule.id: i for i, rule in enumerate(listed)}
    results = [_result(finding, index) for finding in report.findings]
    for each in report.silenced:
        why = {"kind": "external" if each.by_config else "inSource", "justification": each.reason}
        results.append({**_result(each.finding, index), "suppressions": [why]})
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "stoker lint",
                        "semanticVersion": __version__,
                        "rules": [_described(rule) for rule in listed],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }
    return json.dumps(log, indent=2)


def _described(rule: Rule) -> dict[str, Any]:
    page = documentation.of(rule)
    return {
        "id": rule.id,
        "name": rule.module.rpartition(".")[2].replace("_", " ").title().replace(" ", ""),
        "shortDescription": {"text": page.title},
        "fullDescription": {"text": page.why},
        "help": {"text": f"{page.why}\n\nRight:\n\n{page.right}\n\nSource: {'; '.join(page.sources)}"},
        "defaultConfiguration": {"level": _SARIF_LEVELS[rule.severity]},
    }


def _result(finding: Finding, index: dict[str, int]) -> dict[str, Any]:
    message = finding.message + (f". Right: {finding.hint}" if finding.hint else "")
    return {
        "ruleId": finding.rule,
        "ruleIndex": index[finding.rule],
        "level": _SARIF_LEVELS[finding.severity],
        "message": {"text": f"{finding.object}: {message}" if finding.object else message},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(finding.file)},
                    "region": {"startLine": finding.line, "startColumn": finding.column},
                }
            }
        ],
    }


def _uri(file: str) -> str:
    from urllib.parse import quote

    return quote(file.replace("\\", "/"))
