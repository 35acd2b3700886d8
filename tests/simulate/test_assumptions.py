"""docs/simulate/assumptions.md: whole rows, and every prior and constant of the run as the code has it."""

import ast
import re
from pathlib import Path

import pytest

from stoker.policy import volumes
from stoker.simulate import bill, karpenter, latencies, machines, replicas, watching

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "simulate"
PAGE = (FOLDER / "assumptions.md").read_text()
MODULES = (bill, karpenter, machines, replicas, volumes, watching)


def tables(text: str) -> list[list[list[str]]]:
    """Each a list of rows of cells, the heads first and without the line below them."""
    found: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        if not inside:
            found.append([])
        inside = True
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not all(set(cell) == {"-"} for cell in cells):
            found[-1].append(cells)
    return found


ASSUMED = [table for table in tables(PAGE) if table[0][0] == "assumption"]


def test_each_assumption_has_a_source_and_an_effect() -> None:
    assert len(ASSUMED) == PAGE.count("\n## ")  # one table for each subject
    for head, *rows in ASSUMED:
        assert head == ["assumption", "source", "effect when it is wrong"]
        assert rows != []
        assert [row for row in rows if len(row) != 3 or not all(row)] == []


def test_no_assumption_is_made_twice() -> None:
    said = [row[0] for table in ASSUMED for row in table[1:]]
    assert sorted(said) == sorted(set(said))


def test_every_prior_is_there_with_its_value_and_its_source() -> None:
    [rows] = [table[1:] for table in tables(PAGE) if table[0][0] == "prior"]
    sources = latencies.Priors.sources()
    assert rows == [
        [f"`{name}`", f"{getattr(latencies.PRIORS, name):,.10g}", source] for name, source in sources.items()
    ]


def constants() -> dict[str, object]:
    """Numbers, or tuples and tables of them, that the modules of the run name in capitals."""
    found = {}
    for module in MODULES:
        for statement in ast.parse(Path(str(module.__file__)).read_text()).body:
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            for name in (each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)):
                value = getattr(module, name)
                parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
                if name.isupper() and all(type(part) in (int, float) for part in parts):
                    found[name] = value
    return found


@pytest.mark.parametrize(("name", "value"), constants().items(), ids=str)
def test_every_constant_of_the_run_is_there_with_its_value(name: str, value: object) -> None:
    if isinstance(value, dict):
        assert f"`{name}`: {', '.join(f'{key} {each:g}' for key, each in value.items())}" in PAGE
    elif isinstance(value, tuple):
        assert f"`{name}` = {' to '.join(f'{each:g}' for each in value)}" in PAGE
    else:
        assert f"`{name}` = {value:g}" in PAGE


def test_the_constants_are_found() -> None:
    assert {"NOTICE_S", "_POLL_S", "_RETRY_S", "LEAST_S", "SAMPLE_S", "_DETECT_S", "_GIB_MONTH"} <= set(constants())


@pytest.mark.parametrize("page", ["assumptions.md", "index.md", "traces.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", (FOLDER / page).read_text())
    assert links != []
    assert [link for link in links if not leads_somewhere(page, link)] == []


def leads_somewhere(page: str, link: str) -> bool:
    if link.startswith("https://"):
        return True
    name, _, anchor = link.partition("#")
    file = FOLDER / (name or page)
    if not file.exists():
        return False
    heads = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE) if anchor else []
    return not anchor or anchor in {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
