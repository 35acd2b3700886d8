"""`stoker lint PATH...`: what would be refused, what would never schedule, what runs but does something else."""

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stoker.base.errors import InvalidInput
from stoker.base.terminal import wants_colour

if TYPE_CHECKING:
    from stoker.lint.config import Config
    from stoker.lint.findings import Report
    from stoker.manifests.reading import Reading

_COLOURS = {"file": {"bold": True}, "error": {"fg": "red"}, "warning": {"fg": "yellow"}, "info": {"fg": "blue"}}
_COLOURS |= {"rule": {"dim": True}, "hint": {"fg": "green"}}


@click.command("lint")
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("--fix", is_flag=True, help="Rewrite what has one safe answer; comments and order stay.")
@click.option("--diff", is_flag=True, help="Show what --fix would change, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
@click.option("--sarif", is_flag=True, help="Findings as SARIF 2.1.0, for code hosts.")
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "info", "never"]),
    help="The least severity that makes the exit code 1 (default: warning).",
)
@click.option(
    "--level",
    type=click.Choice(["error", "warning", "info"]),
    default="warning",
    help="The least severity that the text shows (default: warning); the others are counted.",
)
@click.option("--rule", "only", multiple=True, metavar="RULE", help="Only this rule; may be given more than once.")
@click.option("--ignore", multiple=True, metavar="RULE", help="Not this rule; may be given more than once.")
@click.option(
    "--config", type=click.Path(dir_okay=False), help="The config file (default: the nearest .stoker-lint.yaml)."
)
@click.option("--kubernetes", metavar="1.N", help="The cluster's version, for the kinds of Kubernetes itself.")
@click.option("--explain", metavar="RULE", help="What a rule finds, why, and the correct form.")
@click.option("--list", "list_rules", is_flag=True, help="All rules.")
def lint(
    paths: tuple[str, ...],
    fix: bool,
    diff: bool,
    as_json: bool,
    sarif: bool,
    fail_on: str | None,
    level: str,
    only: tuple[str, ...],
    ignore: tuple[str, ...],
    config: str | None,
    kubernetes: str | None,
    explain: str | None,
    list_rules: bool,
) -> int:
    """Judge Karpenter, KEDA, GPU and other manifests, together, before they are applied.

    PATH is a file, a folder, or - for stdin (`helm template . | stoker lint -`). Exit code 0: clean. 1: findings at or
    above --fail-on. 2: asked wrongly.
    """
    if explain:
        click.echo(_explained(explain))
        return 0
    if list_rules:
        click.echo(_listed(as_json))
        return 0
    if not paths:
        raise click.UsageError("say what to look at: files, folders, or - for stdin")
    if as_json and sarif:
        raise click.UsageError("--json and --sarif are two answers; ask for one")
    if fix and not diff and "-" in paths:
        raise click.UsageError("--fix changes files; what comes from stdin has none (--diff shows the changes)")
    gc.disable()  # what is read is kept to the end, and looking for garbage among it takes a third of the time
    settings = _settings(config, fail_on, only, ignore, kubernetes)
    reading = _read(paths)
    if diff or fix:
        reading = _mended(reading, settings, write=fix and not diff, show=diff)
        if diff:
            return 0
    from stoker.lint import run

    report = run.lint(reading, settings)
    click.echo(_answer(report, as_json, sarif, level), nl=False)
    return int(settings.fail_on is not None and report.at_least(settings.fail_on))


def _settings(
    path: str | None, fail_on: str | None, only: tuple[str, ...], ignore: tuple[str, ...], kubernetes: str | None
) -> "Config":
    from dataclasses import replace

    from stoker.catalog import schemas
    from stoker.lint import config, run

    for rule in (*only, *ignore):
        _known(rule)
    file = Path(path) if path else config.nearest_file(Path.cwd())
    if file is not None and not file.is_file():
        raise InvalidInput(f"there is no config file {file}", hint="leave --config out, or name a file that is there")
    found = config.load(file, run.KNOWN) if file else config.Config()
    if fail_on:
        found = replace(found, fail_on=config.fail_on(fail_on))
    if kubernetes:
        found = replace(found, kubernetes=kubernetes)
    if found.kubernetes not in schemas.minors():
        raise InvalidInput(
            f"no schemas of Kubernetes {found.kubernetes}", hint=f"there are those of {', '.join(schemas.minors())}"
        )
    return replace(found, only=frozenset(only), severities={**found.severities, **dict.fromkeys(ignore)})


def _read(paths: tuple[str, ...]) -> "Reading":
    from stoker.manifests import reading

    stdin = sys.stdin.buffer.read(reading.MAX_BYTES + 1) if "-" in paths else None
    found = reading.read(paths, stdin=stdin)
    missing = [trouble for trouble in found.troubles if trouble.kind == "missing"]
    if missing:
        raise InvalidInput(f"there is no {missing[0].file}", hint="name files or folders that exist, or - for stdin")
    return found


def _mended(reading: "Reading", settings: "Config", *, write: bool, show: bool) -> "Reading":
    from stoker.lint import fixing
    from stoker.manifests import edits

    fixed = fixing.fix(reading, settings)
    for said in fixed.skipped:
        click.echo(f"not mended: {said}", err=True)
    if show:
        for file, text in fixed.texts.items():
            click.echo(edits.diff(reading.texts[file], text, file), nl=False)
    if not write:
        return reading
    for file, text in fixed.texts.items():
        _write(Path(file), text)
    click.echo(f"mended: {fixed.count} in {len(fixed.texts)} of {len(reading.texts)} files", err=True)
    return fixed.reading


def _write(file: Path, text: str) -> None:
    """Replace the file in one step, with its permissions: a full disk must not cost the manifest."""
    beside = file.with_name(f".{file.name}.stoker-{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", newline="") as out:
            out.write(text)
        beside.chmod(file.stat().st_mode & 0o7777)
        beside.replace(file.resolve())
    finally:
        beside.unlink(missing_ok=True)


def _answer(report: "Report", as_json: bool, sarif: bool, level: str) -> str:
    from stoker.lint import report as reports
    from stoker.lint.rule import Severity

    if as_json:
        return reports.as_json(report) + "\n"
    if sarif:
        from stoker.lint.rules import RULES

        return reports.as_sarif(report, RULES) + "\n"
    return reports.text(report, _styled if wants_colour(sys.stdout) else reports.plain, level=Severity(level))


def _styled(text: str, name: str) -> str:
    return click.style(text, **_COLOURS[name])  # type: ignore[arg-type]  # the table is of style's own keywords


def _known(rule: str) -> None:
    import difflib

    from stoker.lint.run import KNOWN

    if rule not in KNOWN:
        near = difflib.get_close_matches(rule.upper(), sorted(KNOWN), n=1, cutoff=0.0)
        raise InvalidInput(f"there is no rule {rule}", hint=f"did you mean {near[0]}? `stoker lint --list` shows all")


def _explained(rule: str) -> str:
    from stoker.lint import documentation
    from stoker.lint.rules import RULES

    rule = rule.upper()
    _known(rule)
    found = next(each for each in RULES if each.id == rule)
    return documentation.page(found).rstrip("\n")


def _listed(as_json: bool) -> str:
    import json

    from stoker.lint.rules import RULES

    if as_json:
        rows = [{"rule": rule.id, "severity": rule.severity.value, "title": rule.title} for rule in RULES]
        return json.dumps({"rules": rows}, indent=2)
    return "\n".join(f"{rule.id:<18} {rule.severity.value:<8} {rule.title}" for rule in RULES)
