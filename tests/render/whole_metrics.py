"""Each metric of Stoker's that a rule, dashboard, trigger or alarm asks for is published, and each recorded one is
recorded. Those of others are held by tests/render/test_render_metric_names.py."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from whole import Output, sections, strings

import stoker

_MADE = re.compile(r"\b(counter|gauge|histogram|sums|spreads)\(\s*\"(stoker_[a-z_]+)\"")
_ASKED = re.compile(r"\bstoker[_:][a-z0-9_:]*[a-z0-9_]\b")
_QUERIES = ("expr", "query", "definition")


def problems(output: Output) -> Iterator[str]:
    recorded = {
        tree["record"] for each in output.of("PrometheusRule") for tree in sections(each.data) if "record" in tree
    }
    there = published() | recorded
    for each in output.objects:
        for key, text in strings(each.data):
            for query in _queries(each.kind, key, text):
                for name in set(_ASKED.findall(query)) - there:
                    yield f"{each}: nobody publishes or records {name}"
    for name in set(re.findall(r'"(stoker_[a-z_]+)"', output.terraform)) - there:
        if not re.search(rf'^(resource|data|variable) .*"{name}"', output.terraform, re.MULTILINE):
            yield f"terraform: nobody publishes {name}"


def _queries(kind: str, key: str, text: str) -> list[str]:
    """The queries in a text: itself, or those of the dashboard that it is."""
    if kind == "ConfigMap" and key.endswith(".json"):
        return [each.replace('\\"', '"') for each in re.findall(r'"(?:expr|query)": *"((?:\\.|[^"\\])*)"', text)]
    return [text] if key in _QUERIES else []


@cache
def published() -> set[str]:
    """What the code registers, read from the code."""
    found = set()
    for path in Path(stoker.__file__).parent.rglob("*.py"):
        for kind, name in _MADE.findall(path.read_text()):
            ends = ("_bucket", "_sum", "_count") if kind in ("histogram", "spreads") else ("",)
            found |= {f"{name}{end}" for end in ends}
    return found
