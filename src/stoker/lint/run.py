"""From what was read to what is said: every rule over the cluster, then what is silenced taken out.

`lint` does no I/O. A rule that fails is a finding, too (STK-LINT-003): what was not judged is said.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from stoker.lint import suppressions
from stoker.lint.cluster import Cluster
from stoker.lint.config import Config, Ignore
from stoker.lint.findings import Finding, Report, Silenced
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules import RULES, TROUBLES
from stoker.lint.rules.lint import failed_rule, idle_comment, unread_comment
from stoker.manifests.objects import Document
from stoker.manifests.reading import Reading
from stoker.manifests.troubles import Trouble
from stoker.spec.faults import Path, written

KNOWN = frozenset(rule.id for rule in RULES)


def lint(reading: Reading, config: Config | None = None, *, rules: Sequence[Rule] = RULES) -> Report:
    """Everything that is wrong with what was read, in the order of the text."""
    config = config or Config()
    silencer = _Silencer(reading, config)
    kept: list[Finding] = []
    silenced: list[Silenced] = []
    found: list[tuple[Finding, Problem | None]] = [
        (_of_trouble(each, config), None) for each in reading.troubles if _is_on(TROUBLES[each.kind], config)
    ]
    found += [(_of_problem(*each, config), each[1]) for each in problems(_cluster(reading, config), config, rules)]
    for finding, problem in found:
        found_silenced = silencer.silenced(finding, problem)
        if found_silenced is None:
            kept.append(finding)
        else:
            silenced.append(found_silenced)
    kept += silencer.about_comments()
    return Report(
        tuple(sorted(set(kept), key=lambda finding: finding.order)),
        checked=len(reading.manifests),
        files=len(reading.files),
        silenced=tuple(silenced),
    )


def mendable(reading: Reading, config: Config) -> list[Problem]:
    """The problems that have edits, without those that are silenced: the reason for leaving them stands."""
    silencer = _Silencer(reading, config)
    return [
        problem
        for rule, problem in problems(_cluster(reading, config), config)
        if problem.edits and silencer.silenced(_of_problem(rule, problem, config), problem) is None
    ]


def _cluster(reading: Reading, config: Config) -> Cluster:
    return Cluster(reading.manifests, kubernetes=config.kubernetes, exists=config.exists)


def problems(cluster: Cluster, config: Config, rules: Sequence[Rule] = RULES) -> list[tuple[Rule, Problem]]:
    """What the rules that are on say of a cluster, without what one says that another says better."""
    found: list[tuple[Rule, Problem]] = []
    for rule in rules:
        if not _is_on(rule, config):
            continue
        try:
            found += [(rule, problem) for problem in rule.check(cluster)]
        except Exception as error:  # one broken rule must not cost the others' findings
            found += failed_rule.problems(rule, error, cluster)
    named: dict[tuple[int, Path | None], int] = {}
    for rule, problem in found:
        if not rule.id.startswith("STK-API-"):
            for path in (problem.path, problem.instead_of):
                at = (id(problem.manifest), path)
                named[at] = max(named.get(at, 0), (problem.severity or rule.severity).rank)
    return [
        (rule, problem)
        for rule, problem in found
        if not rule.id.startswith("STK-API-")
        or named.get((id(problem.manifest), problem.path), -1) < (problem.severity or rule.severity).rank
    ]


def _is_on(rule: Rule, config: Config) -> bool:
    if config.only and rule.id not in config.only:
        return False
    return config.severities.get(rule.id, rule.severity) is not None


def _of_problem(rule: Rule, problem: Problem, config: Config) -> Finding:
    position = problem.manifest.where(problem.path, key=problem.key)
    severity = config.severities.get(rule.id) or problem.severity or rule.severity
    return Finding(
        rule.id,
        severity,
        problem.manifest.document.file,
        position.line,
        position.column,
        str(problem.manifest),
        written(problem.path),
        problem.message,
        problem.hint,
    )


def _of_trouble(trouble: Trouble, config: Config) -> Finding:
    rule = TROUBLES[trouble.kind]
    severity = config.severities.get(rule.id) or rule.severity
    return Finding(rule.id, severity, trouble.file, trouble.line, trouble.column, "", "", trouble.message, trouble.hint)


class _Silencer:
    """The reasons that comments and the config give for passing over a finding; knows which comments were of use."""

    def __init__(self, reading: Reading, config: Config) -> None:
        self._config = config
        self._documents = list({id(each.document): each.document for each in reading.manifests}.values())
        self._read = {id(document): suppressions.read(document, KNOWN) for document in self._documents}
        self._of_rule: dict[tuple[int, str], list[suppressions.Suppression]] = defaultdict(list)
        for document in self._documents:
            for each in self._read[id(document)][0]:
                for rule in each.rules:
                    self._of_rule[id(document), rule].append(each)

    def silenced(self, finding: Finding, problem: Problem | None) -> Silenced | None:
        """The finding with why it is silenced; None where it is not. What could not be read has no problem, only a
        line."""
        found = [Silenced(finding, each.reason, True) for each in self._config.ignores if _covers(each, finding)]
        documents = [problem.manifest.document] if problem else [d for d in self._documents if d.file == finding.file]
        path = problem.manifest.root + problem.path if problem else ("", "no place in an object")
        for document in documents:
            for each in self._of_rule.get((id(document), finding.rule), ()):
                if each.covers(finding.rule, finding.line, path):
                    each.used = True
                    found.append(Silenced(finding, each.reason))
        return found[0] if found else None

    def about_comments(self) -> Iterator[Finding]:
        """Comments that silence nothing: those that are not understood, and those whose fault is gone."""
        for document in self._documents:
            found, bad = self._read[id(document)]
            if _is_on(unread_comment.RULE, self._config):
                yield from (self._of(unread_comment.RULE, document, each.line, each.message) for each in bad)
            if self._config.only or not _is_on(idle_comment.RULE, self._config):
                continue
            for each in found:
                if each.rules and each.reason and not each.used:
                    yield self._of(idle_comment.RULE, document, each.line, idle_comment.MESSAGE)

    def _of(self, rule: Rule, document: Document, line: int, message: str) -> Finding:
        severity = self._config.severities.get(rule.id) or rule.severity
        return Finding(rule.id, severity, document.file, line, 1, "", "", f"this comment {message}", "")


def _covers(ignore: Ignore, finding: Finding) -> bool:
    return ignore.covers(finding.rule, finding.file, finding.object)


__all__ = ["KNOWN", "Severity", "lint", "mendable", "problems"]
