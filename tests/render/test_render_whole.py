"""The whole output, for each feature and for whatever spec and mode: it lints clean, and every name in it leads
somewhere. What `whole*.py` checks is written without the linter's code."""

import gc
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import strategies
import yaml
from effort import examples
from hypothesis import HealthCheck, Phase, given, settings
from whole import Output, rendered
from whole_checks import all_problems

from stoker.base.errors import InvalidInput
from stoker.render import folder
from stoker.render.run import render
from stoker.spec import Mode, loads

MODES: tuple[Mode, ...] = get_args(Mode)
EXAMPLES = Path(__file__).parents[2] / "examples"
USUAL = examples(20)
CASES = int(os.environ.get("RENDER_CASES", "0"))
"""So many specs instead of the usual few, other ones each time (`make test-render`)."""
FEATURES: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "features.yaml").read_text())


@pytest.fixture(autouse=True, scope="module")
def _no_search_among_the_classes_of_hera() -> Iterator[None]:
    """They are a million objects that stay, among which Python would look for rubbish again and again."""
    import hera.workflows  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def problems(output: Output) -> list[str]:
    with tempfile.TemporaryDirectory() as where:
        folder.write(Path(where), output.texts)
        return all_problems(output, where)


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_renders_whole(feature: str) -> None:
    """In one mode each, which differ from feature to feature."""
    spec = FEATURES[feature]
    mode = spec.get("global", {}).get("cluster", {}).get("mode", MODES[list(FEATURES).index(feature) % len(MODES)])
    assert problems(rendered(yaml.safe_dump(spec, sort_keys=False), mode)) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "example", sorted(path.name for path in EXAMPLES.glob("*.yaml") if path.name != "finetune.yaml")
)
def test_an_example_renders_whole(example: str, mode: Mode) -> None:
    assert problems(rendered((EXAMPLES / example).read_text(), mode)) == []


class TestAnySpec:
    """What hypothesis makes of the spec's keys; see `strategies`."""

    def test_it_renders_whole(self) -> None:
        """Whatever is refused says what would be right, and most specs are not."""
        tried, refused = 0, 0

        @given(case=strategies.cases())
        @settings(
            max_examples=CASES or USUAL,
            deadline=None,
            derandomize=not CASES,
            database=None,
            phases=[Phase.generate],  # to make a failing spec smaller takes minutes; the message has it whole
            suppress_health_check=list(HealthCheck),
        )
        def one(case: tuple[dict[str, Any], Mode]) -> None:
            nonlocal tried, refused
            spec, mode = case
            text = yaml.safe_dump(spec, sort_keys=False)
            tried += 1
            try:
                output = rendered(text, mode)
            except InvalidInput as error:
                refused += 1
                if not error.hint:
                    raise
                return
            assert problems(output) == [], text

        one()
        assert tried >= (CASES or USUAL) / 2
        assert refused <= tried / 4

    @given(case=strategies.cases(), seed=strategies.seeds)
    @settings(
        max_examples=CASES // 10 or examples(4),
        deadline=None,
        derandomize=not CASES,
        database=None,
        phases=[Phase.generate],
    )
    def test_the_order_of_keys_changes_nothing(self, case: tuple[dict[str, Any], Mode], seed: int) -> None:
        """But for the names that a user gives, whose order is that of the file (models, pools, tenants)."""
        spec, mode = case
        try:
            first = rendered(yaml.safe_dump(spec, sort_keys=False), mode).texts
        except InvalidInput:
            return
        shuffled = _shuffled(spec, random.Random(seed))
        again = rendered(yaml.safe_dump(shuffled, sort_keys=False), mode).texts
        assert again == first
        assert list(again) == list(first)


_GIVEN_NAMES = ("models", "nodePools", "tenants", "tags", "routes", "definitions", "tools", "headers")


def _shuffled(tree: Any, chance: random.Random, key: str = "") -> Any:
    if isinstance(tree, list):
        return [_shuffled(each, chance) for each in tree]
    if not isinstance(tree, dict):
        return tree
    keys = list(tree)
    if key not in _GIVEN_NAMES:
        chance.shuffle(keys)
    return {each: _shuffled(tree[each], chance, each) for each in keys}


def _calls(models: int) -> int:
    """Calls of Python's functions while so many models are rendered, which is the same on every machine."""
    platform = loads(f"llm: {{models: {{{', '.join(f'm{each}: {{}}' for each in range(models))}}}}}")
    counted = 0

    def count(_frame: Any, event: str, _what: Any) -> None:
        nonlocal counted
        counted += event == "call"

    sys.setprofile(count)
    try:
        render(platform)
    finally:
        sys.setprofile(None)
    return counted


def test_many_models_cost_each_as_much_as_few() -> None:
    """A hundred take under a second where a model costs some 12,000 calls."""
    _calls(1)  # catalogues are read
    few, many = _calls(10), _calls(60)
    assert (many - few) / 50 < 15_000, (few, many)
