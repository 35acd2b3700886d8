"""Makes docs/lint/ from the docstrings of the rules: a page for each area, all rules, an index by symptom.

    python scripts/build_lint_docs.py [--check]

`--check` writes nothing and fails when a page is not what the docstrings say.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from stoker.catalog import schemas
from stoker.lint import cel, documentation
from stoker.lint.rule import Rule
from stoker.lint.rules import RULES

FOLDER = Path(__file__).parent.parent / "docs" / "lint"
MADE = "<!-- made by scripts/build_lint_docs.py from the rules' docstrings -->\n\n"


def pages() -> dict[str, str]:
    """File name in docs/lint -> its text."""
    areas: dict[str, list[Rule]] = {}
    for rule in RULES:
        areas.setdefault(rule.id.split("-")[1], []).append(rule)
    made = {f"{area.lower()}.md": "".join(_area(area, rules)) for area, rules in areas.items()}
    made["rules.md"] = "".join(_all(areas))
    made["symptoms.md"] = "".join(_symptoms())
    made["cel.md"] = "".join(_cel())
    return made


def _area(area: str, rules: list[Rule]) -> Iterator[str]:
    import importlib

    about = importlib.import_module(rules[0].module.rpartition(".")[0]).__doc__ or ""
    yield f"{MADE}# {area}\n\n{about.strip()}\n\n"
    for rule in rules:
        yield documentation.page(rule) + "\n"


def _all(areas: dict[str, list[Rule]]) -> Iterator[str]:
    yield f"{MADE}# All {len(RULES)} rules\n\n"
    for area, rules in areas.items():
        yield f"## {area}\n\n| rule | severity | finds |\n|---|---|---|\n"
        for rule in rules:
            yield f"| [{rule.id}]({_link(rule)}) | {rule.severity.value} | {_cell(documentation.of(rule).title)} |\n"
        yield "\n"


def _symptoms() -> Iterator[str]:
    yield f"{MADE}# By symptom\n\nWhat you see, and which rule would have said it before.\n\n"
    yield "| seen | rule | what it is |\n|---|---|---|\n"
    rows = [(symptom, rule) for rule in RULES for symptom in documentation.of(rule).symptoms]
    for symptom, rule in sorted(rows, key=_by_words):
        yield f"| {_cell(symptom)} | [{rule.id}]({_link(rule)}) | {_cell(documentation.of(rule).title)} |\n"


CEL = """\
# CEL

The definitions that ship carry {all} rules between fields (`x-kubernetes-validations`), {different} different ones. All
have been compiled, and each was evaluated on samples made from its schema (`tests/lint/test_lint_cel.py`).

## Rules that cannot be evaluated: {number}

{cannot}

A definition that you add may have one: the finding STK-API-008 then says which, and why. The evaluator has no
`cel.bind`, no optional fields (`?.`), and no macros of two variables.

## Rules on changes

They compare an object with what it was before. There is nothing before a create, so the API server does not apply them
then, and neither does the linter.

| kind | rules on changes |
|---|---|
"""


def _cel() -> Iterator[str]:
    shipped = [(schema, [each["rule"] for _, each in cel.rules_of(schema.tree)]) for schema in _shipped()]
    rules = [rule for _, each in shipped for rule in each]
    cannot = cel.compile_all([schema.tree for schema, _ in shipped])
    listed = "\n".join(f"- `{rule}`: {reason}" for rule, reason in cannot) or "None."
    yield MADE + CEL.format(all=len(rules), different=len(set(rules)), number=len(cannot), cannot=listed)
    on_changes = {schema.kind: {rule for rule in each if "oldSelf" in rule} for schema, each in shipped}
    for kind in sorted(kind for kind, each in on_changes.items() if each):
        yield f"| {kind} | {len(on_changes[kind])} |\n"


def _shipped() -> Iterator[schemas.Schema]:
    for api_version, kind in schemas.kinds(folder=Path("nowhere")):
        yield from schemas.variants(api_version, kind)


def _by_words(row: tuple[str, Rule]) -> tuple[str, str]:
    return row[0].strip("`\"'").lower(), row[1].id


def _link(rule: Rule) -> str:
    return f"{rule.id.split('-')[1].lower()}.md#{rule.id.lower()}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def stale() -> list[str]:
    """The pages that are not as the docstrings have them, and those that no docstring has."""
    made = pages()
    wrong = [name for name, text in made.items() if not (FOLDER / name).exists() or (FOLDER / name).read_text() != text]
    ours = {path.name for path in FOLDER.glob("*.md") if path.read_text().startswith(MADE)}
    return sorted({*wrong, *(ours - made.keys())})


def main() -> None:
    if "--check" in sys.argv[1:]:
        if stale():
            sys.exit(f"not up to date: {', '.join(stale())}; run python scripts/build_lint_docs.py")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = pages()
    for name in stale():
        if name not in made:
            (FOLDER / name).unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text)
    print(f"{len(made)} pages, {len(RULES)} rules")


if __name__ == "__main__":
    main()
