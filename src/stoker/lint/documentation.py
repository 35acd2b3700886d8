"""The docstring of a rule's module, taken apart: the page of the rule, and its first two tests.

What is found, in one line.

Why it matters: any number of paragraphs.

Symptom: what a person sees who has this fault; more than one such line is fine.

Wrong:

    YAML, indented by four, that the rule flags

Right:

    the same as it should be

Source: where this can be read
"""

import importlib
import inspect
import re
import textwrap
from dataclasses import dataclass

from stoker.lint.rule import Rule

_SECTION = re.compile(r"^(Symptom|Wrong|Right|Source):[ ]?(.*)$")


@dataclass(frozen=True)
class Documentation:
    title: str
    why: str
    symptoms: tuple[str, ...]
    wrong: str
    right: str
    sources: tuple[str, ...]


def of(rule: Rule) -> Documentation:
    """The documentation of a rule. Raises ValueError that names what is missing: each part is required."""
    text = inspect.cleandoc(importlib.import_module(rule.module).__doc__ or "")
    title, _, rest = text.partition("\n")
    parts: dict[str, list[str]] = {"Why": [], "Symptom": [], "Wrong": [], "Right": [], "Source": []}
    now = "Why"
    for line in rest.splitlines():
        match = _SECTION.match(line)
        if match:
            now = match[1]
            parts[now].append(match[2])
        elif parts[now] and now in ("Symptom", "Source") and line.strip():
            parts[now][-1] += " " + line.strip()
        else:
            parts[now].append(line)
    found = Documentation(
        title.strip(),
        _text(parts["Why"]),
        tuple(each.strip() for each in parts["Symptom"] if each.strip()),
        _text(parts["Wrong"]),
        _text(parts["Right"]),
        tuple(each.strip() for each in parts["Source"] if each.strip()),
    )
    missing = [name for name, value in vars(found).items() if not value]
    if missing:
        raise ValueError(f"{rule.id} ({rule.module}): its docstring has no {', no '.join(missing)}")
    return found


def _text(lines: list[str]) -> str:
    return textwrap.dedent("\n".join(lines)).strip("\n")


def page(rule: Rule) -> str:
    """A rule's page, in Markdown: what `--explain` prints and `docs/lint/` holds."""
    found = of(rule)
    symptoms = [f"Symptom: {each}" for each in found.symptoms]
    guide = [f"Known errors: {', '.join(rule.guide)}"] if rule.guide else []
    parts = [
        f"### {rule.id}",
        f"{found.title} ({rule.severity.value})",
        found.why,
        "\n".join(symptoms),
        "Wrong:",
        _fenced(found.wrong),
        "Right:",
        _fenced(found.right),
        "\n".join([*(f"Source: {each}" for each in found.sources), *guide]),
    ]
    return "\n\n".join(parts) + "\n"


def _fenced(text: str) -> str:
    return f"```yaml\n{text}\n```"
