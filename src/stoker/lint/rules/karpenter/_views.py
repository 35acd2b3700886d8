"""NodePools and EC2NodeClasses as the rules of this area look at them. What is of the wrong type is not there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any
from weakref import WeakKeyDictionary

from stoker.catalog import ec2
from stoker.catalog.ec2 import InstanceType
from stoker.catalog.labels import AUTO_MODE, INSTANCE_TYPE, present_name
from stoker.lint.cluster import Cluster
from stoker.manifests.node_pools import node_pool_view
from stoker.manifests.objects import Manifest, is_open, look, sections, texts
from stoker.policy.placement import NodePoolView, pool_types
from stoker.spec.faults import Path

CORE = "karpenter.sh"
AWS = "karpenter.k8s.aws"
TEMPLATE: Path = ("spec", "template")
NODE: Path = ("spec", "template", "spec")
LABELS: Path = ("spec", "template", "metadata", "labels")
REQUIREMENTS: Path = (*NODE, "requirements")
DISRUPTION: Path = ("spec", "disruption")
BUDGETS: Path = (*DISRUPTION, "budgets")
REASONS = ("Underutilized", "Empty", "Drifted")
GPU_LIMITS = ("nvidia.com/gpu", "amd.com/gpu", "aws.amazon.com/neuron")
ALWAYS = "* * * * *"
"""The schedule that begins anew every minute: a budget with it is active at any time."""


def pools(cluster: Cluster) -> Iterator[Manifest]:
    return cluster.of("NodePool", group=CORE)


def node_classes(cluster: Cluster) -> Iterator[Manifest]:
    return cluster.of("EC2NodeClass", group=AWS)


def node_class_of(cluster: Cluster, pool: Manifest) -> Manifest | None:
    """The EC2NodeClass that a pool refers to, where it is in sight."""
    name = pool.get(*NODE, "nodeClassRef", "name")
    return next((each for each in node_classes(cluster) if each.name == name), None) if _text(name) else None


def section(manifest: Manifest, *path: str | int) -> dict[str, Any]:
    found = manifest.get(*path)
    return found if isinstance(found, dict) else {}


# -- what a pool asks for --


@dataclass(frozen=True)
class Line:
    """One of a pool's requirements, with its place in the pool."""

    path: Path
    key: str
    """By its present name."""
    operator: str
    values: tuple[str, ...]


def lines_of(pool: Manifest) -> list[Line]:
    found = []
    for i, each in sections(pool.get(*REQUIREMENTS)):
        key, operator, values = each.get("key"), each.get("operator"), each.get("values")
        if isinstance(key, str) and isinstance(operator, str):
            listed = tuple(str(v) for v in values if _is_scalar(v)) if isinstance(values, list) else ()
            found.append(Line((*REQUIREMENTS, i), present_name(key), operator, listed))
    return found


_VIEWS: WeakKeyDictionary[Manifest, NodePoolView] = WeakKeyDictionary()
_TYPES: WeakKeyDictionary[Manifest, tuple[InstanceType, ...]] = WeakKeyDictionary()


def view_of(pool: Manifest) -> NodePoolView:
    """Without its node class: labels, taints and requirements are all that is looked at here."""
    if pool not in _VIEWS:
        _VIEWS[pool] = node_pool_view(pool)
    return _VIEWS[pool]


def is_on_aws(pool: Manifest) -> bool:
    """Whether the types of EC2 are what the pool chooses from; a reference that does not say is taken to be."""
    ref = section(pool, *NODE, "nodeClassRef")
    return ref.get("group", AWS) in (AWS, AUTO_MODE) and ref.get("kind", "EC2NodeClass") in (
        "EC2NodeClass",
        "NodeClass",
    )


def types_of(pool: Manifest) -> tuple[InstanceType, ...]:
    """The instance types that the pool allows. None for a pool of which nothing is known: of another cloud, without
    requirements, or with some that are filled in later."""
    if pool not in _TYPES:
        known = isinstance(pool.get(*REQUIREMENTS), list) and not _is_chosen_later(pool) and is_on_aws(pool)
        _TYPES[pool] = pool_types(view_of(pool), ec2.instance_types().values()) if known else ()
    return _TYPES[pool]


def _is_chosen_later(pool: Manifest) -> bool:
    """Whether something fills in what the pool asks for."""
    return pool.templated and is_open(pool, str(pool.get(*REQUIREMENTS)))


def is_known(pool: Manifest) -> bool:
    """Whether the catalogue has every type that the pool may choose from. It has all with GPUs or other accelerators,
    and of the general families some."""
    if not is_on_aws(pool) or _is_chosen_later(pool):
        return False
    view = view_of(pool)
    prefix = f"{view.domain}/instance-"
    named = {
        key: asked.values
        for key, asked in view.offered.items()
        if not asked.complement and asked.values and not asked.absent
    }
    of_types = {name.partition(".")[0] for name in named.get(INSTANCE_TYPE, ())}
    return (
        (bool(of_types) and of_types <= ec2.families())
        or named.get(f"{prefix}family", _UNKNOWN) <= ec2.families()
        or named.get(f"{prefix}category", _UNKNOWN) <= _accelerated()
        or any(
            key.startswith((f"{prefix}gpu-", f"{prefix}accelerator-")) and not asked.absent
            for key, asked in view.offered.items()
        )
    )


_UNKNOWN = frozenset({""})


@cache
def _accelerated() -> frozenset[str]:
    """The categories of which each type has a device, or a part of one."""
    every = ec2.instance_types().values()
    bare = {each.category for each in every if not each.gpu_name and not each.accelerator_name}
    return frozenset({each.category for each in every} - bare)


def is_gpu_pool(pool: Manifest) -> bool:
    """Whether each node of the pool has GPUs or other accelerators, or a part of one."""
    types = types_of(pool) if is_known(pool) else ()
    return bool(types) and all(each.gpu_name or each.accelerator_name for each in types)


def limit_of(pool: Manifest) -> str:
    """The resource that a limit of the pool's accelerators goes by."""
    makers = {each.gpu_manufacturer or each.accelerator_manufacturer for each in types_of(pool)}
    one = makers.pop() if len(makers) == 1 else ""
    return {"amd": "amd.com/gpu", "aws": "aws.amazon.com/neuron"}.get(one, "nvidia.com/gpu")


def allows(pool: Manifest, capacity_type: str) -> bool:
    """Whether the pool may launch this kind of capacity; a pool that does not say gets on-demand."""
    named = view_of(pool).capacity_types
    return capacity_type in named if named else capacity_type == "on-demand"


def own_labels(pool: Manifest) -> dict[str, str]:
    """Labels that the pool's template gives, without those that say what is bought."""
    return {key: value for key, value in texts(pool.get(*LABELS)).items() if not key.startswith(f"{CORE}/")}


# -- what a pool says about disruption --


@dataclass(frozen=True)
class Budget:
    path: Path
    nodes: Any
    reasons: tuple[str, ...]
    """Empty where the field is left out, which is every reason, or where its list is empty, which is none."""
    schedule: str
    """Empty where it is active always."""
    data: dict[str, Any]

    def covers(self, reason: str) -> bool:
        # An empty list names no reason; only without the field is every reason meant.
        return reason in self.reasons or (not self.reasons and self.data.get("reasons") is None)

    @property
    def share(self) -> int | None:
        """The percentage; None where a number of nodes is written."""
        match = re.fullmatch(r"(\d{1,3})%", str(self.nodes))
        return int(match[1]) if match else None

    @property
    def count(self) -> int | None:
        return int(str(self.nodes)) if re.fullmatch(r"\d{1,9}", str(self.nodes), re.ASCII) else None

    @property
    def is_zero(self) -> bool:
        return self.share == 0 or self.count == 0

    def allows_no_more_than(self, other: "Budget") -> bool:
        """Whether this one is at least as tight at any size of the pool; False where that depends on the size."""
        if self.is_zero:
            return True
        if self.share is not None and other.share is not None:
            return self.share <= other.share
        if self.count is not None and other.count is not None:
            return self.count <= other.count
        return other.share == 100


def budgets_of(pool: Manifest) -> list[Budget]:
    found = []
    for i, each in sections(pool.get(*BUDGETS)):
        reasons = each.get("reasons")
        schedule = each.get("schedule")
        listed = tuple(r for r in reasons if isinstance(r, str)) if isinstance(reasons, list) else ()
        written = " ".join(schedule.split()) if isinstance(schedule, str) else ""
        when = "" if written == ALWAYS else written
        found.append(Budget((*BUDGETS, i), each.get("nodes"), listed, when, each))
    return found


def expire_after(pool: Manifest) -> Any:
    """As written, in the place of v1 or in that of v1beta1; None where neither is."""
    return pool.get(*NODE, "expireAfter", default=pool.get(*DISRUPTION, "expireAfter"))


_SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds(duration: Any) -> int | None:
    """Of `1h30m`; None for what is no such duration (`Never`)."""
    if not isinstance(duration, str) or re.fullmatch(r"(?:[0-9]{1,9}[smh])+", duration) is None:
        return None
    return sum(int(n) * _SECONDS[unit] for n, unit in re.findall(r"([0-9]+)([smh])", duration))


# -- comments --


@dataclass(frozen=True)
class Remark:
    """A comment, and the place that it speaks of: what is on its line, or on the next line that has anything."""

    line: int
    text: str
    path: Path

    def is_about(self, *path: str | int) -> bool:
        return self.path[: len(path)] == path


@dataclass(frozen=True, eq=False)
class _Lines:
    manifest: Manifest

    @cached_property
    def paths(self) -> dict[int, Path]:
        """Line -> the last place that begins on it, of keys and items in the order of the text."""
        keys, values, root = self.manifest.document.keys, self.manifest.document.values, self.manifest.root
        found: dict[int, Path] = {}
        left: list[tuple[Path, Any]] = [((), self.manifest.data)]
        while left:
            path, tree = left.pop()
            position = keys.get(root + path) or values.get(root + path)
            if position is not None and path:
                found[position.line] = path
            inside: Any = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
            left += reversed([((*path, key), each) for key, each in inside if isinstance(key, str | int)])
        return found

    @cached_property
    def remarks(self) -> tuple[Remark, ...]:
        if not self.manifest.document.comments or not self.paths:
            return ()
        first, last = min(self.paths), max(self.paths)
        found = []
        for line, text in sorted(self.manifest.document.comments.items()):
            if line > last or line < first - _ABOVE:
                continue
            here = next((n for n in range(line, last + 1) if n in self.paths), None)
            if here is not None:
                found.append(Remark(line, text, self.paths[here]))
        return tuple(found)


_ABOVE = 10  # lines over the first key of an object in which a comment may still be its own
_LINES: WeakKeyDictionary[Manifest, _Lines] = WeakKeyDictionary()


def remarks(manifest: Manifest) -> tuple[Remark, ...]:
    """The comments of an object, in the order of the text; those that silence findings are left out."""
    if manifest not in _LINES:
        _LINES[manifest] = _Lines(manifest)
    return tuple(each for each in _LINES[manifest].remarks if not _SILENCES.search(each.text))


_SILENCES = re.compile(r"stoker\s*[:-]|lint-?ignore|noqa", re.IGNORECASE)
_DENIES = re.compile(
    r"\b(?:no|not|never|none|without|cannot|instead|rather|avoid|nothing|isn't|don't|doesn't|won't|can't)\b",
    re.IGNORECASE,
)


def denies(text: str) -> bool:
    """Whether a comment denies something: such a one is not held against what it names."""
    return _DENIES.search(text) is not None


# -- user data --


def user_data(manifest: Manifest) -> str:
    found = manifest.get("spec", "userData")
    return found if isinstance(found, str) else ""


def commands(script: str) -> list[str]:
    """The lines of a script that do something: no comments."""
    return [line.strip() for line in script.splitlines() if line.strip() and not line.strip().startswith("#")]


def ami_family(manifest: Manifest) -> str:
    """`al2023` of an alias, or of `amiFamily`; empty where neither says."""
    for _, term in sections(manifest.get("spec", "amiSelectorTerms")):
        alias = term.get("alias")
        if isinstance(alias, str) and "@" in alias:
            return alias.partition("@")[0].lower()
    return _text(manifest.get("spec", "amiFamily")).lower()


def has_own_images(manifest: Manifest) -> bool:
    """Whether images are selected by id, name or tags: nobody here knows what is in them."""
    return any("alias" not in term for _, term in sections(manifest.get("spec", "amiSelectorTerms")))


def listed(names: Any, most: int = 4) -> str:
    """`a, b, c and 3 more`."""
    held = list(names)
    if len(held) <= most:
        return ", ".join(held)
    return f"{', '.join(held[:most])} and {len(held) - most} more"


def label_at(pool: Manifest, key: str) -> str:
    return _text(look(pool.data, *LABELS, key))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, dict | list) and value is not None
