"""The pages of docs/lint are what the docstrings say."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

from stoker.lint.rules import RULES

ROOT = Path(__file__).parents[2]


def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_lint_docs", ROOT / "scripts" / "build_lint_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_what_the_docstrings_say() -> None:
    assert builder().stale() == [], "run python scripts/build_lint_docs.py"


def test_every_rule_is_on_a_page_and_in_the_index_of_symptoms() -> None:
    made = builder().pages()
    for rule in RULES:
        assert f"### {rule.id}\n" in made[f"{rule.id.split('-')[1].lower()}.md"]
        assert f"[{rule.id}](" in made["symptoms.md"]


def test_every_link_of_the_handwritten_page_leads_somewhere() -> None:
    folder = ROOT / "docs" / "lint"
    links = re.findall(r"\]\(([^)#]+)", (folder / "index.md").read_text())
    assert links != []
    assert [link for link in links if not (folder / link).exists()] == []
