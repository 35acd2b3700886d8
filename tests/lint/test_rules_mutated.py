"""No rule of these areas fails on what is nearly right: its examples, with some of their values exchanged."""

import copy
import random
from typing import Any

import pytest
import yaml
from effort import examples

from stoker.lint import documentation
from stoker.lint.cluster import Cluster
from stoker.lint.rules import argo, aws, kro, security
from stoker.manifests.objects import Document, Manifest
from stoker.manifests.reading import read_text

# What a value may be exchanged for: other types, and forms that rules look into.
OTHERS: tuple[Any, ...] = (
    *(None, True, False, 0, -3, 1.5, "", "x", "${a.b}", "{{tasks.a.outputs.parameters.b}}", "<x>", "a:b@c", "*"),
    *(
        [],
        [None],
        ["a", 1],
        [["a"]],
        [{"name": ["x"]}],
        [[{"name": "a"}]],
        {},
        {"a": 1},
        {1: 2},
        {"name": "a", "value": "b"},
    ),
)
RULES = (*security.RULES, *argo.RULES, *kro.RULES, *aws.RULES)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
ROUNDS = examples(134)


def _examples() -> list[dict[str, Any]]:
    found = []
    for rule in RULES:
        page = documentation.of(rule)
        for text in (page.wrong, page.right):
            try:
                found += [each for each in yaml.safe_load_all(text) if isinstance(each, dict)]
            except yaml.YAMLError:
                continue  # an example of broken YAML
    return found


def _paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(each for key, value in items for each in _paths(value, (*path, key)))]


def _mutated(tree: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    tree = copy.deepcopy(tree)
    for _ in range(chance.choice((0, 1, 2, 4))):
        path = chance.choice(_paths(tree)[1:] or [()])
        parent: Any = tree
        for key in path[:-1]:
            parent = parent[key]
        if path:
            parent[path[-1]] = copy.deepcopy(chance.choice(OTHERS))
    return tree


def _manifests(tree: dict[str, Any]) -> list[Manifest]:
    """As the reader gives them where it can; JSON keeps what YAML would read otherwise."""
    found = list(read_text(yaml.dump(tree, Dumper=_Dumper), "mutated.yaml").manifests)
    return found or [Manifest(tree, Document("mutated.yaml", 0, tree))]


@pytest.mark.parametrize("seed", range(3))
def test_no_rule_fails_on_what_is_nearly_right(seed: int) -> None:
    chance = random.Random(seed)
    examples = _examples()
    failed: dict[str, str] = {}
    for _ in range(ROUNDS):
        trees = [_mutated(each, chance) for each in chance.sample(examples, 12)]
        cluster = Cluster([manifest for tree in trees for manifest in _manifests(tree)])
        for rule in RULES:
            try:
                for problem in rule.check(cluster):
                    problem.manifest.where(problem.path, key=problem.key)
                    assert "\n" not in problem.message
            except Exception as error:
                failed.setdefault(rule.id, f"{type(error).__name__}: {error}")
    assert failed == {}
