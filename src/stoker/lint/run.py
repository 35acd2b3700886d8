"""From what was read to what is said: every rule over the cluster, then what is silenced taken out.

`lint` does no I/O. A rule that fails is a finding, too (STK-LINT-003): what was not judged is said.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from stoker.lint import suppressions
from stoker.lint.cluster import Cluster
from stoker.lint.config import Config
from stoker.lint.findings import Finding, Report
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
    cluster = Cluster(reading.manifests, kubernetes=config.kubernetes, exists=config.exists)
    placed: list[tuple[Finding, Document | None, Path]] = [
        (finding, None, ()) for trouble in reading.troubles if (finding := _of_trouble(trouble, config))
    ]
    for rule, problem in problems(cluster, config, rules):
        found = _of_problem(rule, problem, config)
        placed.append((found, problem.manifest.document, problem.manifest.root + problem.path))
    kept, silenced = _silence(placed, _documents(reading), config)
    return Report(
        tuple(sorted(set(kept), key=lambda finding: finding.order)),
        checked=len(reading.manifests),
        files=len(reading.files),
        silenced=tuple(silenced),
    )


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
    named = {
        (id(problem.manifest), path)
        for rule, problem in found
        if not rule.id.startswith("STK-API-")
        for path in (problem.path, problem.instead_of)
    }
    return [
        (rule, problem)
        for rule, problem in found
        if not rule.id.startswith("STK-API-") or (id(problem.manifest), problem.path) not in named
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


def _of_trouble(trouble: Trouble, config: Config) -> Finding | None:
    rule = TROUBLES[trouble.kind]
    if not _is_on(rule, config):
        return None
    severity = config.severities.get(rule.id) or rule.severity
    return Finding(rule.id, severity, trouble.file, trouble.line, trouble.column, "", "", trouble.message, trouble.hint)


def _documents(reading: Reading) -> list[Document]:
    return list({id(manifest.document): manifest.document for manifest in reading.manifests}.values())


def _silence(
    placed: Iterable[tuple[Finding, Document | None, Path]], documents: Iterable[Document], config: Config
) -> tuple[list[Finding], list[tuple[Finding, str]]]:
    kept: list[Finding] = []
    silenced: list[tuple[Finding, str]] = []
    comments: dict[int, list[suppressions.Suppression]] = defaultdict(list)
    for document in documents:
        found, bad = suppressions.read(document, KNOWN)
        comments[id(document)] = found
        if _is_on(unread_comment.RULE, config):
            kept += [_of_comment(unread_comment.RULE, document, each.line, each.message, config) for each in bad]
    for finding, where, path in placed:
        reason = next(
            (each.reason for each in config.ignores if each.covers(finding.rule, finding.file, finding.object)), None
        )
        for each in comments[id(where)] if where is not None else ():
            if each.covers(finding.rule, finding.line, path):
                each.used = True
                reason = reason or each.reason
        if reason is None:
            kept.append(finding)
        else:
            silenced.append((finding, reason))
    for document in documents:
        for each in comments[id(document)]:
            idle = each.rules and each.reason and not each.used
            if idle and not config.only and _is_on(idle_comment.RULE, config):
                kept.append(_of_comment(idle_comment.RULE, document, each.line, idle_comment.MESSAGE, config))
    return kept, silenced


def _of_comment(rule: Rule, document: Document, line: int, message: str, config: Config) -> Finding:
    severity = config.severities.get(rule.id) or rule.severity
    return Finding(rule.id, severity, document.file, line, 1, "", "", f"this comment {message}", "")


__all__ = ["KNOWN", "Severity", "lint", "problems"]
