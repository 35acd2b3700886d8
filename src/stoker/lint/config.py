"""The linter's own file, `.stoker-lint.yaml`: which rules, how severe, what to pass over and why, what exists already.

kubernetes: "1.36"
failOn: warning
rules:
  STK-SECURITY-004: off          # or error, warning, info
ignore:
- rule: STK-KEDA-003             # of these files, or of these objects, or of both
  files: "legacy/**"
  objects: "ScaledObject legacy/*"
  reason: drained by hand until March
exists:                          # in the cluster, though in none of these files
- ServiceAccount agentic-ai/llm-inference-sa
- Secret agentic-ai/*
"""

import fnmatch
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

from stoker.base.errors import SpecInvalid
from stoker.lint.rule import Severity
from stoker.spec import yaml
from stoker.spec.faults import Fault, Path, refusal, shown

FILE = ".stoker-lint.yaml"
_HINT = "docs/lint/index.md has the keys of this file"
_KEYS = ("kubernetes", "failOn", "rules", "ignore", "exists")


@dataclass(frozen=True)
class Ignore:
    """Findings of `rule` in files and objects that match; an empty pattern matches all."""

    rule: str
    reason: str
    files: str = ""
    objects: str = ""

    def covers(self, rule: str, file: str, named: str) -> bool:
        return (
            rule == self.rule
            and (
                not self.files or fnmatch.fnmatchcase(file, self.files) or fnmatch.fnmatchcase(file, f"*/{self.files}")
            )
            and (not self.objects or fnmatch.fnmatchcase(named, self.objects))
        )


@dataclass(frozen=True)
class Config:
    """Settings of one run; the defaults are those of a run without a file."""

    kubernetes: str = "1.36"
    """The minor version of the cluster: whose schemas core kinds are held against."""
    fail_on: Severity | None = Severity.WARNING
    """The least severity that makes the exit code 1; None for never."""
    severities: dict[str, Severity | None] = field(default_factory=dict)
    """Rule -> another severity, or None for off."""
    only: frozenset[str] = frozenset()
    """When not empty: just these rules."""
    ignores: tuple[Ignore, ...] = ()
    exists: tuple[str, ...] = ()
    """`Kind namespace/name` or `Kind name`, with `*`: what is in the cluster already."""


def load(path: File, rules: Collection[str]) -> Config:
    """Read the file. Raises SpecInvalid that names each fault with its line; unknown rules are faults."""
    document = yaml.parse(path.read_bytes(), str(path))
    faults: list[Fault] = []

    def fault(at: Path, message: str) -> None:
        faults.append(Fault(at, message, document.where(at)))

    tree: Any = document.data if document.data is not None else {}
    if not isinstance(tree, dict):
        raise refusal(str(path), [Fault((), f"a section is wanted, with {', '.join(_KEYS)}")], hint=_HINT)
    for key in tree:
        if key not in _KEYS:
            fault((key,), f"no such key; there are {', '.join(_KEYS)}")
    config = Config(
        kubernetes=_kubernetes(tree.get("kubernetes", "1.36"), fault),
        fail_on=_fail_on(tree.get("failOn", "warning"), fault),
        severities=_severities(tree.get("rules", {}), rules, fault),
        ignores=_ignores(tree.get("ignore", []), rules, fault),
        exists=_exists(tree.get("exists", []), fault),
    )
    if faults:
        raise refusal(str(path), faults, hint=_HINT)
    return config


def fail_on(word: str) -> Severity | None:
    """The severity of a word, None for `never`. Raises ValueError."""
    return None if word == "never" else Severity(word)


def _kubernetes(value: Any, fault: Any) -> str:
    if not isinstance(value, str):
        fault(("kubernetes",), f'{shown(value)} is not text; in quotes, as "1.36"')
        return "1.36"
    return value


def _fail_on(value: Any, fault: Any) -> Severity | None:
    try:
        return fail_on(str(value))
    except ValueError:
        fault(("failOn",), f"{shown(value)}; error, warning, info or never is wanted")
        return Severity.WARNING


def _severities(tree: Any, rules: Collection[str], fault: Any) -> dict[str, Severity | None]:
    found: dict[str, Severity | None] = {}
    for rule, word in _items(tree, ("rules",), fault):
        _known(rule, rules, ("rules", rule), fault)
        if word is False or word == "off":  # YAML reads a bare off as false
            found[rule] = None
        elif word in ("error", "warning", "info"):
            found[rule] = Severity(word)
        else:
            fault(("rules", rule), f"{shown(word)}; error, warning, info or off is wanted")
    return found


def _ignores(tree: Any, rules: Collection[str], fault: Any) -> tuple[Ignore, ...]:
    if not isinstance(tree, list):
        fault(("ignore",), "a list is wanted")
        return ()
    found = []
    for i, each in enumerate(tree):
        at: Path = ("ignore", i)
        if not isinstance(each, dict):
            fault(at, "a section with rule and reason is wanted")
            continue
        texts = {}
        for key, value in each.items():
            if key not in ("rule", "reason", "files", "objects"):
                fault((*at, key), "no such key; there are rule, reason, files, objects")
            elif not isinstance(value, str) or not value:
                fault((*at, key), f"{shown(value)} is not text")
            else:
                texts[key] = value
        for key in ("rule", "reason"):
            if key not in each:
                fault(at, f"{key} is missing" + ("; say why, for whoever reads it next" if key == "reason" else ""))
        if "rule" in texts:
            _known(texts["rule"], rules, (*at, "rule"), fault)
        if {"rule", "reason"} <= texts.keys():
            found.append(Ignore(**texts))
    return tuple(found)


def _exists(tree: Any, fault: Any) -> tuple[str, ...]:
    if not isinstance(tree, list) or not all(isinstance(each, str) for each in tree):
        fault(("exists",), 'a list of "Kind namespace/name" is wanted')
        return ()
    for i, each in enumerate(tree):
        if len(each.split()) != 2:
            fault(("exists", i), f'{shown(each)}; "Kind namespace/name" or "Kind name" is wanted')
    return tuple(tree)


def _items(tree: Any, at: Path, fault: Any) -> list[tuple[str, Any]]:
    if not isinstance(tree, dict):
        fault(at, "a section is wanted")
        return []
    return [(str(key), value) for key, value in tree.items()]


def _known(rule: str, rules: Collection[str], at: Path, fault: Any) -> None:
    if rule not in rules:
        fault(at, f"no rule {rule}; `stoker lint --list` shows them")


def nearest_file(start: File) -> File | None:
    """The config file of a folder or of the nearest one above it, up to a repository's root."""
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder / FILE
        if (folder / ".git").exists():
            return None
    return None


__all__ = ["FILE", "Config", "Ignore", "SpecInvalid", "fail_on", "load", "nearest_file"]
