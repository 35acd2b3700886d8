"""Where the live values of a chart stand in its objects: found by rendering the platform with others, so that nothing
that a component knows is written a second time.

Each candidate key is given a value that stands nowhere else, and then a second one. Where a leaf of an object changed
from the one to the other, and in nothing else, it is an expression of that key. A key that does anything else is fixed.
Keys are tried in groups; a group that fails is halved until what fails in it is alone.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.render.chart_live import LiveKey, Path, Value, candidates
from stoker.render.cluster_spec import cluster_platform
from stoker.render.facts import PLATFORM_CONFIG
from stoker.render.items import ON_DEMAND, Resource, Terraform
from stoker.render.plan import Maker, Plan
from stoker.render.run import items_of
from stoker.spec import Platform, plain, read_section

Place = tuple[str | int, ...]
"""A leaf: the name of the object (`name_of`), then keys and indices within it. `(PLATFORM_CONFIG, ...)`: of the
platform.yaml that is in its ConfigMap."""


@dataclass(frozen=True)
class Ref:
    """The value of a live key, as a part of a text or as a whole value."""

    path: Path
    when_null: str | None = None
    """What stands there while the key is null. None: the key is never null, or the place is in YAML, which has null."""


@dataclass(frozen=True)
class PlatformDigest:
    """A leaf: the SHA-256 of the platform.yaml in the ConfigMap."""


@dataclass(frozen=True)
class Expression:
    """A leaf as text and values, in their order; as one value of its own kind where `is_text` is false."""

    parts: tuple[str | Ref, ...]
    is_text: bool


@dataclass(frozen=True)
class Rendered:
    """`values` are of platform.yaml, and `platform` that of the ConfigMap, both with every key."""

    plan: Plan
    resources: tuple[Resource, ...]
    values: Mapping[str, Any]
    platform: Mapping[str, Any]
    text: str
    """`platform` as it stands in the ConfigMap."""
    left_out: tuple[str, ...]
    """Files that `render` writes and that are no part of a chart."""


@dataclass(frozen=True)
class Probed:
    rendered: Rendered
    keys: tuple[LiveKey, ...]
    """Those that are live."""
    expressions: Mapping[Place, Expression | PlatformDigest]
    only_null: Mapping[str, Path]
    """By name the objects that are there only while a key is null."""
    stale: frozenset[str]
    """Names of the objects whose comments say something of a live value."""


def probe(platform: Platform, aws: Maker) -> Probed:
    """The objects of a platform, and what in them may be an expression of its values."""
    rendered = _rendered(_explicit(platform, aws), aws)
    search = _Search(rendered)
    for group in _groups(candidates(rendered.plan.spec, rendered.values)):
        search.try_all(group)
    search.settle()
    found = search.found
    return Probed(rendered, tuple(search.keys), found.expressions, found.only_null, frozenset(found.stale))


@dataclass
class _Found:
    expressions: dict[Place, Expression | PlatformDigest] = field(default_factory=dict)
    only_null: dict[str, Path] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)


class _Search:
    def __init__(self, rendered: Rendered) -> None:
        self.rendered = rendered
        self.leaves = _leaves(rendered)
        self._forget()

    def _forget(self) -> None:
        self.keys: list[LiveKey] = []
        digests = {place: each for place, each in self.leaves.items() if isinstance(each, PlatformDigest)}
        self.found = _Found({**digests})

    def try_all(self, keys: Sequence[LiveKey]) -> None:
        """Keep those of which every effect is an expression."""
        if not keys:
            return
        new, found = self._effects(keys), self.found
        if new is not None and not new.expressions.keys() & found.expressions.keys():
            self.keys += keys
            found.expressions |= new.expressions
            found.only_null |= new.only_null
            found.stale |= new.stale
        elif len(keys) > 1:
            middle = len(keys) // 2
            self.try_all(keys[:middle])
            self.try_all(keys[middle:])

    def settle(self) -> None:
        """Try all of them together, since each group was tried by itself. While they do not agree, the group that was
        tried last is given up."""
        while not all(self._agree(which) for which in (0, 1)):
            kept = [key for key in self.keys if key.group != self.keys[-1].group]
            self._forget()
            for group in _groups(kept):
                self.try_all(group)

    def _agree(self, which: int) -> bool:
        """Whether templates make of the least values what `render` does (0), and of the largest (1)."""
        values = {key.path: key.extremes[which] for key in self.keys}
        changed = self._changed(values)
        return changed is not None and _leaves(changed) == self._wanted(values)

    def _wanted(self, values: Mapping[Path, Value]) -> dict[Place, Value]:
        filled_in = {place: filled(part, values) for place, part in self.found.expressions.items()}
        gone = {name for name, path in self.found.only_null.items() if values[path] is not None}
        return {place: value for place, value in (self.leaves | filled_in).items() if place[0] not in gone}

    def _effects(self, keys: Sequence[LiveKey]) -> _Found | None:
        """What changes with these keys, as expressions. None where something else changes."""
        first, second = ({key.path: key.probes[which] for key in keys} for which in (0, 1))
        one = self._changed(first)
        if one is None or not _leaves(one).keys() <= self.leaves.keys():
            return None
        two = self._changed(second)
        if two is None:
            return None
        there = _names(_leaves(one))
        found = _Found(stale=_differ(_comments(self.rendered), _comments(one)))
        if not self._compare(found, keys, _leaves(one), _leaves(two), there):
            return None
        for key in keys:
            if key.value is None and not self._compare_null(found, keys, key, there):
                return None
        before = {key.path: key.value for key in keys}
        is_whole = _names(self.leaves) == there | found.only_null.keys()
        is_true = all(_same(filled(part, before), self.leaves[place]) for place, part in found.expressions.items())
        return found if is_whole and is_true else None

    def _compare(
        self,
        found: _Found,
        keys: Sequence[LiveKey],
        one: Mapping[Place, Value],
        two: Mapping[Place, Value],
        names: Set[str | int],
    ) -> bool:
        """Put what differs of the objects of these names into `found`. Whether that was possible."""
        mine, one, two = ({p: value for p, value in each.items() if p[0] in names} for each in (self.leaves, one, two))
        if not mine.keys() == one.keys() == two.keys():
            return False
        for place, value in mine.items():
            if not _same(value, one[place], two[place]):
                expression = _solved(one[place], two[place], keys)
                if expression is None:
                    return False
                found.expressions[place] = expression
        return True

    def _compare_null(self, found: _Found, keys: Sequence[LiveKey], key: LiveKey, there: Set[str | int]) -> bool:
        """The same with one key at null: what is there only then, and what else stands in its places."""
        first, second = ({each.path: each.probes[which] for each in keys} for which in (0, 1))
        changed = [self._changed({**values, key.path: None}) for values in (first, second)]
        one, two = (None if each is None else _leaves(each) for each in changed)
        if one is None or two is None:
            return False
        names = _names(one) - there
        if not self._compare(found, keys, one, two, names):
            return False
        found.only_null |= {str(name): key.path for name in names}
        for place, part in found.expressions.items():
            if isinstance(part, Expression) and key.path in _paths(part) and place[0] in there:
                learned = _with_null(part, key.path, first, one[place])
                if learned is None:
                    return False
                found.expressions[place] = learned
        return True

    def _changed(self, values: Mapping[Path, Value]) -> Rendered | None:
        """None where no platform has these values, or none is rendered of it."""
        try:
            platform = read_section(Platform, _with(self.rendered.values, values))
            return _rendered(platform, self.rendered.plan.aws)
        except InvalidInput:
            return None


def _groups(keys: Sequence[LiveKey]) -> list[list[LiveKey]]:
    """What is tried together: the groups of the table, as far as their probes tell their keys from each other."""
    groups: dict[tuple[str, int], list[LiveKey]] = {}
    for key in keys:
        number = 0
        while any(key.probes == other.probes for other in groups.get((key.group, number), ())):
            number += 1
        groups.setdefault((key.group, number), []).append(key)
    return list(groups.values())


def _explicit(platform: Platform, aws: Maker) -> Platform:
    """The same with what follows from a key not being written: the values of a chart have all of them."""
    plan = Plan(platform, platform.global_.cluster.mode, aws)
    return platform.model_copy(update={"agents": platform.agents.model_copy(update={"enabled": plan.has_agents})})


def _names(leaves: Mapping[Place, Value]) -> Set[str | int]:
    return {place[0] for place in leaves}


def _comments(rendered: Rendered) -> dict[str, str]:
    return {name_of(each.object): each.comment for each in rendered.resources}


def _differ(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    return {name for name, comment in one.items() if name in other and other[name] != comment}


def filled(part: Expression | PlatformDigest, values: Mapping[Path, Value]) -> Value:
    """What stands at a place with these values of the live keys."""
    if isinstance(part, PlatformDigest):
        return part
    if len(part.parts) == 1 and isinstance(ref := part.parts[0], Ref):
        value = values[ref.path]
        if not part.is_text or (value is None and ref.when_null is None):
            return value
    return "".join(each if isinstance(each, str) else _shown(each, values[each.path]) for each in part.parts)


def _shown(ref: Ref, value: Value) -> str:
    return ref.when_null or "" if value is None else str(value)


def _paths(part: Expression | PlatformDigest) -> Iterator[Path]:
    if isinstance(part, Expression):
        yield from (each.path for each in part.parts if isinstance(each, Ref))


def _same(*values: Value) -> bool:
    """True and 1 are two things in YAML."""
    return all(type(each) is type(values[0]) and each == values[0] for each in values)


def _solved(first: Value, second: Value, keys: Sequence[LiveKey]) -> Expression | None:
    """The expression that was `first` with the first probes and `second` with the second; None where there is none."""
    for key in keys:
        if _same(first, key.probes[0]) and _same(second, key.probes[1]):
            return Expression((Ref(key.path),), is_text=isinstance(first, str))
    if not isinstance(first, str) or not isinstance(second, str):
        return None
    found, other = (_split(text, keys, which) for which, text in enumerate((first, second)))
    return Expression(found, is_text=True) if found == other else None


def _split(text: str, keys: Sequence[LiveKey], which: int) -> tuple[str | Ref, ...]:
    """`text` with what is a probe taken for its key. Of numbers whole ones: 7 is no part of 17."""
    by_text = {str(key.probes[which]): key.path for key in keys}
    longest_first = sorted(by_text, key=len, reverse=True)
    pattern = "|".join(rf"(?<!\d){each}(?!\d)" if each.isdigit() else re.escape(each) for each in longest_first)
    parts = re.split(f"({pattern})", text)
    return tuple(Ref(by_text[part]) if index % 2 else part for index, part in enumerate(parts) if part)


def _with_null(part: Expression, path: Path, values: Mapping[Path, Value], seen: Value) -> Expression | None:
    """`part` with what stands for the key while it is null, which is what makes `seen` of it."""
    if not part.is_text or seen is None:
        return part if seen is None else None
    parts = (each if isinstance(each, str) else values[each.path] if each.path != path else None for each in part.parts)
    pattern = "".join("(.+?)" if each is None else re.escape(str(each)) for each in parts)
    match = re.fullmatch(pattern, str(seen))
    if match is None or len(set(match.groups())) != 1:
        return None
    said = tuple(Ref(path, match[1]) if isinstance(each, Ref) and each.path == path else each for each in part.parts)
    return Expression(said, is_text=True)


def _rendered(platform: Platform, aws: Maker) -> Rendered:
    plan = Plan(platform, platform.global_.cluster.mode, aws)
    items = items_of(plan)
    resources = tuple(each for each in items if isinstance(each, Resource) and not each.file.startswith(ON_DEMAND))
    files = {each.file for each in items if isinstance(each, Resource | Terraform)}
    left_out = tuple(sorted(files - {each.file for each in resources}))
    config = next(each.object for each in resources if _is_config(each.object))
    text = config["data"]["platform.yaml"]
    return Rendered(plan, resources, plain(platform), plain(cluster_platform(plan)), text, left_out)


def _with(values: Mapping[str, Any], changes: Mapping[Path, Value]) -> dict[str, Any]:
    found: dict[str, Any] = dict(values)
    below: dict[str, dict[Path, Value]] = {}
    for path, value in changes.items():
        if len(path) == 1:
            found[path[0]] = value
        else:
            below.setdefault(path[0], {})[path[1:]] = value
    return found | {name: _with(values[name], inner) for name, inner in below.items()}


def _leaves(rendered: Rendered) -> dict[Place, Value]:
    """Every value that is neither a list nor a section, and the number of things in each of these."""
    found: dict[Place, Value] = {}
    digest = hashlib.sha256(rendered.text.encode()).hexdigest()
    for resource in rendered.resources:
        for place, value in _walk(resource.object, (name_of(resource.object),)):
            if value == digest:
                found[place] = PlatformDigest()
            elif value is not rendered.text:
                found[place] = value
    found |= _walk(rendered.platform, (PLATFORM_CONFIG,))
    return found


def name_of(found: Mapping[str, Any]) -> str:
    """What no two objects share."""
    group, named = found["apiVersion"].rpartition("/")[0], found["metadata"]
    return f"{found['kind']}.{group} {named.get('namespace', '')}/{named['name']}"


def _walk(tree: Any, place: Place) -> Iterator[tuple[Place, Value]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _walk(value, (*place, key))
    elif isinstance(tree, list) and tree:
        for index, value in enumerate(tree):
            yield from _walk(value, (*place, index))
    else:
        yield place, tree


def _is_config(found: Mapping[str, Any]) -> bool:
    return (found["kind"], found["metadata"]["name"]) == ("ConfigMap", PLATFORM_CONFIG)
