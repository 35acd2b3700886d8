"""What a run says: a problem of a rule, placed in a file, with its id and severity."""

from dataclasses import dataclass

from stoker.lint.rule import Severity


@dataclass(frozen=True)
class Finding:
    """One line of the report. `line` and `column` count from 1; `object` is empty where no object could be read."""

    rule: str
    severity: Severity
    file: str
    line: int
    column: int
    object: str
    path: str
    message: str
    hint: str = ""

    @property
    def order(self) -> tuple[str, int, int, int, str, str]:
        return (self.file, self.line, self.column, -self.severity.rank, self.rule, self.message)

    def as_json(self) -> dict[str, str | int]:
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "object": self.object,
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
        }


@dataclass(frozen=True)
class Silenced:
    """A finding that is passed over, why, and whether the config says so (or a comment in the manifest)."""

    finding: Finding
    reason: str
    by_config: bool = False


@dataclass(frozen=True)
class Report:
    """The findings in the order of the text, how many objects were looked at, and what was silenced, with why."""

    findings: tuple[Finding, ...]
    checked: int
    files: int
    silenced: tuple[Silenced, ...] = ()

    def at_least(self, severity: Severity) -> bool:
        return any(finding.severity.rank >= severity.rank for finding in self.findings)
