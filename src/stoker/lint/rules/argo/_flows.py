"""Workflows of Argo as graphs: their templates, who calls whom, and what they read of one another."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.manifests.objects import Manifest, filled_in_later, look, sections
from stoker.spec.faults import Path

GROUP = "argoproj.io"
_BASES: dict[str, Path] = {
    "Workflow": ("spec",),
    "WorkflowTemplate": ("spec",),
    "ClusterWorkflowTemplate": ("spec",),
    "CronWorkflow": ("spec", "workflowSpec"),
}
_STATUS = r"Succeeded|Failed|Errored|Skipped|Omitted|Daemoned|AnySucceeded|AllFailed"
_IN_DEPENDS = re.compile(rf"([A-Za-z0-9_][\w-]*)(?:\.({_STATUS})\b)?")
_TAG = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_READ = re.compile(r"(?<![\w.])(?:tasks|steps)\.([\w-]+)(?:\.outputs\.(parameters|artifacts)\.([\w-]+))?")
_DEPTH = 30
_LONGEST = 20_000  # beyond that it is no condition and no argument that a person wrote


@dataclass(frozen=True, eq=False)
class Read:
    """`{{tasks.evaluate.outputs.parameters.score}}`: of whom, and which output; none for a status or a result."""

    path: Path
    text: str
    task: str
    kind: str
    output: str


@dataclass(frozen=True, eq=False)
class Call:
    """One task of a dag, or one step. `after` is what runs before it for certain: its dependencies and theirs."""

    path: Path
    tree: dict[str, Any]
    name: str

    @property
    def template(self) -> str:
        """The name of the template of this workflow that it calls; empty where it calls another's or one of its own."""
        name = self.tree.get("template")
        return name if isinstance(name, str) and not filled_in_later(name) and "templateRef" not in self.tree else ""

    @property
    def needs(self) -> list[tuple[Path, str]]:
        """The tasks that it says it waits for, with the place where it says so."""
        listed = self.tree.get("dependencies")
        found = [
            ((*self.path, "dependencies", i), each)
            for i, each in enumerate(listed if isinstance(listed, list) else ())
            if isinstance(each, str)
        ]
        depends = self.tree.get("depends")
        if isinstance(depends, str) and not filled_in_later(depends):
            found += [((*self.path, "depends"), match[1]) for match in _IN_DEPENDS.finditer(depends)]
        return found

    def reads(self) -> Iterator[Read]:
        """What its condition, its arguments and its loop read of other tasks."""
        for key in ("when", "arguments", "withParam", "withItems", "withSequence"):
            yield from reads(self.tree.get(key), (*self.path, key))


@dataclass(frozen=True, eq=False)
class Template:
    path: Path
    tree: dict[str, Any]
    name: str

    @property
    def is_dag(self) -> bool:
        return isinstance(self.tree.get("dag"), dict)

    @cached_property
    def groups(self) -> list[list[Call]]:
        """Its calls: those of a dag in one group; those of `steps` group by group, one after the other."""
        if self.is_dag:
            tasks = sections(look(self.tree, "dag", "tasks"))
            return [[_call((*self.path, "dag", "tasks", i), each) for i, each in tasks]]
        steps = self.tree.get("steps")
        found = []
        for i, group in enumerate(steps if isinstance(steps, list) else ()):
            found.append([_call((*self.path, "steps", i, j), each) for j, each in sections(group)])
        return found

    @cached_property
    def calls(self) -> list[Call]:
        return [call for group in self.groups for call in group]

    @cached_property
    def before(self) -> dict[str, set[str]]:
        """For each call of a name, the names of those that are done before it."""
        found: dict[str, set[str]] = {}
        if self.is_dag:
            direct = {call.name: [name for _path, name in call.needs] for call in self.calls}
            for name in direct:
                found[name] = _reached(name, direct)
            return found
        done: set[str] = set()
        for group in self.groups:
            for call in group:
                found[call.name] = set(done)
            done |= {call.name for call in group}
        return found

    def outputs(self, kind: str) -> set[str]:
        """The names of the outputs that it declares."""
        names = [each.get("name") for _i, each in sections(look(self.tree, "outputs", kind))]
        return {name for name in names if isinstance(name, str)}

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """Its input parameters by name."""
        listed = sections(look(self.tree, "inputs", "parameters"))
        return {each["name"]: each for _i, each in listed if isinstance(each.get("name"), str)}


@dataclass(frozen=True, eq=False)
class Flow:
    """A Workflow, or what one is made from. `base` is where its spec stands."""

    manifest: Manifest
    base: Path

    @property
    def spec(self) -> dict[str, Any]:
        found = self.manifest.get(*self.base)
        return found if isinstance(found, dict) else {}

    @property
    def runs(self) -> bool:
        """Whether it is run as it stands: a template may get from its caller what it lacks."""
        return self.manifest.kind in ("Workflow", "CronWorkflow")

    @property
    def borrowed(self) -> bool:
        """Whether its templates are those of a WorkflowTemplate."""
        return "workflowTemplateRef" in self.spec

    @cached_property
    def templates(self) -> list[Template]:
        return [
            Template((*self.base, "templates", i), each, each["name"] if isinstance(each.get("name"), str) else "")
            for i, each in sections(self.spec.get("templates"))
        ]

    @cached_property
    def by_name(self) -> dict[str, Template]:
        return {template.name: template for template in reversed(self.templates) if template.name}

    @cached_property
    def calls(self) -> list[tuple[Template, Call]]:
        return [(template, call) for template in self.templates for call in template.calls]

    def names_called(self) -> Iterator[tuple[Path, str]]:
        """Every place that names a template of this workflow, other than its entrypoint."""
        for key in ("onExit",):
            if isinstance(self.spec.get(key), str):
                yield (*self.base, key), self.spec[key]
        yield from _hooks(self.spec, self.base)
        for _template, call in self.calls:
            if call.template:
                yield (*call.path, "template"), call.template
            if isinstance(call.tree.get("onExit"), str):
                yield (*call.path, "onExit"), call.tree["onExit"]
            yield from _hooks(call.tree, call.path)


@lru_cache(maxsize=1)
def flows(cluster: Cluster) -> tuple[Flow, ...]:
    return tuple(Flow(manifest, _BASES[manifest.kind]) for manifest in cluster.of(*_BASES, group=GROUP))


def reads(tree: Any, path: Path) -> Iterator[Read]:
    """What the tags in the texts of a tree read of tasks and steps."""
    if isinstance(tree, str):
        for tag in _TAG.findall(tree) if "{{" in tree and len(tree) < _LONGEST else ():
            for match in _READ.finditer(tag):
                yield Read(path, match[0], match[1], match[2] or "", match[3] or "")
    elif isinstance(tree, dict) and len(path) < _DEPTH:
        for key, value in tree.items():
            if isinstance(key, str):
                yield from reads(value, (*path, key))
    elif isinstance(tree, list) and len(path) < _DEPTH:
        for i, value in enumerate(tree):
            yield from reads(value, (*path, i))


def texts_in(tree: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every text of a tree with its path."""
    if isinstance(tree, str):
        yield path, tree
    elif isinstance(tree, dict) and len(path) < _DEPTH:
        for key, value in tree.items():
            if isinstance(key, str):
                yield from texts_in(value, (*path, key))
    elif isinstance(tree, list) and len(path) < _DEPTH:
        for i, value in enumerate(tree):
            yield from texts_in(value, (*path, i))


def parameters(tree: Any) -> set[str]:
    """The names of `arguments.parameters`."""
    return {
        each["name"]
        for _i, each in sections(look(tree, "arguments", "parameters"))
        if isinstance(each.get("name"), str)
    }


def schedules(manifest: Manifest) -> list[tuple[Path, str]]:
    """The schedules of a CronWorkflow: there is a field for one and one for several."""
    one, many = manifest.get("spec", "schedule"), manifest.get("spec", "schedules")
    found: list[tuple[Path, str]] = [(("spec", "schedule"), one)] if isinstance(one, str) and one else []
    found += [
        (("spec", "schedules", i), each)
        for i, each in enumerate(many if isinstance(many, list) else ())
        if isinstance(each, str)
    ]
    return found


def _call(path: Path, tree: dict[str, Any]) -> Call:
    return Call(path, tree, tree["name"] if isinstance(tree.get("name"), str) else "")


def _hooks(tree: dict[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    hooks = tree.get("hooks")
    for event, hook in hooks.items() if isinstance(hooks, dict) else ():
        name = look(hook, "template")
        if isinstance(name, str) and look(hook, "templateRef") is None and isinstance(event, str):
            yield (*path, "hooks", event, "template"), name


def _reached(name: str, direct: dict[str, list[str]]) -> set[str]:
    found: set[str] = set()
    ahead = list(direct.get(name, ()))
    while ahead:
        each = ahead.pop()
        if each not in found:
            found.add(each)
            ahead += direct.get(each, ())
    return found
