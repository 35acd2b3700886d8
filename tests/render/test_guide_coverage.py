"""docs/guide-coverage.md has a row for each part of the guide and each of its errors, and names only what is there."""

import re
from pathlib import Path

import click
import pytest
from guide_parts import parts

from stoker.cli.app import stoker
from stoker.render.components import COMPONENTS
from stoker.render.run import render
from stoker.spec import load, loads

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guide-coverage.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| ")]
GUIDE = ROOT.parent / "shared" / "reference" / "eks-agentic-ai-guide.md"
ERRORS = GUIDE.with_name("guide-errors.md")
SYSTEMS = (
    *("Karpenter", "EKS Auto Mode", "KEDA", "DCGM", "CloudWatch", "ALB", "API Gateway", "Redis", "SQS"),
    *("Spot handling", "Kubeflow", "AWS Batch", "FSx", "EFA", "ACK", "kro", "Argo CD", "Argo Workflows"),
    *("Prometheus", "Grafana", "vLLM", "llm-d", "kgateway", "LangFuse", "KAgent"),
)
LATER = ("deploy",)
"""Commands that an issue still brings: a row that names one names the issue."""

needs_guide = pytest.mark.skipif(not GUIDE.exists(), reason="the guide is not part of this repository (../shared)")


def test_every_system_has_its_row() -> None:
    assert [system for system in SYSTEMS if system not in {row[0] for row in ROWS}] == []


@needs_guide
def test_every_heading_table_and_block_of_the_guide_has_a_row() -> None:
    """By its line, with the word for what it is."""
    words = {"heading": ("heading",), "table": ("table",)}
    blocks = {
        "mermaid": "diagram",
        "yaml": "YAML",
        "json": "JSON",
        "python": "Python",
        "hcl": "HCL",
        "bash": "command|script",
    }
    there = {row[0]: row[1] for row in ROWS if row[0].isdigit()}
    missing = []
    for part in parts(GUIDE.read_text()):
        kind, _, language = part.kind.partition(":")
        word = words[kind][0] if kind in words else blocks[language]
        if not re.match(word, there.get(str(part.line), "")):
            missing.append((part.line, part.kind, part.text[:60]))
    assert missing == []


@needs_guide
def test_no_row_is_of_a_line_where_nothing_is() -> None:
    lines = {str(part.line) for part in parts(GUIDE.read_text())}
    assert [row[0] for row in ROWS if row[0].isdigit() and row[0] not in lines] == []


@needs_guide
def test_every_error_of_the_guide_is_mentioned() -> None:
    ids = set(re.findall(r"^\*\*([ERSFW]\d\d)", ERRORS.read_text(), re.MULTILINE))
    assert len(ids) == 108
    assert sorted(ids - mentioned()) == []
    assert sorted(mentioned() - ids) == []


def mentioned() -> set[str]:
    """`E01 to E05` are five."""
    found = set(re.findall(r"\b[ERSFW]\d\d\b", PAGE))
    for letter, first, last in re.findall(r"\b([ERSFW])(\d\d) to \1(\d\d)\b", PAGE):
        found |= {f"{letter}{number:02}" for number in range(int(first), int(last) + 1)}
    return found


def test_every_file_that_a_row_names_is_rendered() -> None:
    """Of examples/everything.yaml, but for those of `ELSEWHERE`."""
    texts = render(load(ROOT / "examples" / "everything.yaml"))
    folders = "|".join((*COMPONENTS, "terraform"))
    named = set(re.findall(rf"`((?:{folders})/[^` ]+\.(?:yaml|tf))`", PAGE))
    assert len(named) >= 50
    assert sorted(named - set(texts)) == sorted(ELSEWHERE)
    for name, spec in ELSEWHERE.items():
        assert name in render(loads(spec)), name


ELSEWHERE = {
    "monitoring/dcgm-exporter.yaml": "{}",
    "edge/ingress-class.yaml": "global: {cluster: {mode: auto}}",
    "terraform/redis.tf": "redis: {elasticache: {enabled: true}}",
    "gpus/nvidia-device-plugin-mig.yaml": "llm: {inference: {gpu: {sharing: mig, migProfile: 3g.20gb, memory: 20Gi}}}",
}
"""What examples/everything.yaml leaves out, since it has something else in its place, with a spec that has it."""


def test_every_command_is_there_or_comes_with_an_issue() -> None:
    wrong = []
    for line in PAGE.splitlines():
        for name in re.findall(r"`stoker ([a-z]+)", line):
            later = name in LATER and "(issue" in line
            if name not in stoker.commands and not later:
                wrong.append((name, line[:80]))
    assert isinstance(stoker, click.Group)
    assert wrong == []


def test_every_page_that_it_links_is_there() -> None:
    linked = set(re.findall(r"\]\(([a-z0-9/.-]+\.md)\)", PAGE))
    assert [page for page in sorted(linked) if not (ROOT / "docs" / page).exists()] == []


def test_every_key_that_it_names_is_in_the_spec() -> None:
    from test_render_every_key import keys

    known = keys()
    sections = ("karpenter", "keda", "global", "training", "edge", "composition", "redis")
    for key in set(re.findall(rf"`((?:{'|'.join(sections)})\.[A-Za-z.*]+)`", PAGE)):
        if not re.search(r"\.(yaml|tf)$", key):
            assert any(each == key or each.startswith(f"{key}.") for each in known), key
