"""What containers ask for and run: their devices, their environment, and the scripts written into them.

Knows no rule. Reads broken objects too: what is of the wrong type is not there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.pools import GPU
from stoker.manifests.node_pools import container_requests
from stoker.manifests.objects import Manifest, look, sections
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

_SHELLS = ("sh", "bash", "ash", "dash", "zsh", "ksh")
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_HOOKS: tuple[tuple[str, ...], ...] = (
    ("lifecycle", "preStop", "exec"),
    ("lifecycle", "postStart", "exec"),
    ("livenessProbe", "exec"),
    ("readinessProbe", "exec"),
    ("startupProbe", "exec"),
)
_CODE_FOLLOWS = re.compile(r"-[a-z]*c")


def gpus(container: dict[str, Any]) -> int:
    return container_requests(container).get(GPU, 0)


def has_device(container: dict[str, Any]) -> bool:
    """Whether it asks for any device: a resource with a domain, or a claim."""
    named = [look(container, "resources", part) for part in ("limits", "requests")]
    devices = any(
        "/" in str(key) and value not in (0, "0")
        for tree in named
        if isinstance(tree, dict)
        for key, value in tree.items()
    )
    return devices or bool(look(container, "resources", "claims"))


def image(container: dict[str, Any]) -> str:
    found = container.get("image")
    return found.lower() if isinstance(found, str) else ""


def environment(container: dict[str, Any]) -> dict[str, tuple[int, Any]]:
    """Name -> its index in `env`, and its value: None where it comes from elsewhere."""
    return {
        each["name"]: (i, each.get("value"))
        for i, each in sections(container.get("env"))
        if isinstance(each.get("name"), str)
    }


def has_open_environment(container: dict[str, Any]) -> bool:
    """Whether names come from a ConfigMap or Secret, so that which ones is not known."""
    return bool(container.get("envFrom"))


@dataclass(frozen=True, eq=False)
class Command:
    """What is executed, word by word, each with its place."""

    manifest: Manifest
    path: Path
    """Of the container."""
    container: dict[str, Any]
    workload: Workload | None
    place: str
    """`main`, `init`, `preStop`, `postStart`, or the name of a probe."""
    words: tuple[tuple[Path, str], ...]
    has_program: bool
    """Whether the first word is the program, and not an argument of the image's own."""

    @property
    def text(self) -> str:
        return " ".join(word for _, word in self.words)


@dataclass(frozen=True, eq=False)
class Script:
    """Code that is written into a manifest."""

    manifest: Manifest
    path: Path
    language: str
    """`sh` or `python`."""
    text: str
    place: str
    """As of a Command, or `userData`, or `config` for a file of a ConfigMap."""
    command: Command | None = None

    @property
    def container(self) -> dict[str, Any]:
        return self.command.container if self.command is not None else {}

    @property
    def workload(self) -> Workload | None:
        return self.command.workload if self.command is not None else None


@lru_cache(maxsize=1)
def commands(cluster: Cluster) -> tuple[Command, ...]:
    """Every command of the cluster's containers, of their hooks and probes, and of AWS Batch job definitions."""
    found = [command for workload in cluster.workloads for command in _of_workload(workload)]
    return (*found, *(command for manifest in cluster.of("JobDefinition") for command in _of_batch(manifest)))


@lru_cache(maxsize=1)
def scripts(cluster: Cluster) -> tuple[Script, ...]:
    """The scripts in those commands, in Argo's `script`, in user data and in the files of ConfigMaps."""
    found = [script for command in commands(cluster) for script in _of_command(command)]
    for workload in cluster.workloads:
        found += _of_argo(workload)
    for manifest in cluster.of("EC2NodeClass"):
        text = manifest.get("spec", "userData")
        if isinstance(text, str):
            found.append(Script(manifest, ("spec", "userData"), "sh", text, "userData"))
    for manifest in cluster.of("ConfigMap"):
        found += _of_files(manifest)
    return tuple(found)


def program(words: tuple[tuple[Path, str], ...]) -> str:
    """`bash` of `/bin/bash`; empty for no words."""
    return words[0][1].rpartition("/")[2] if words else ""


def _of_workload(workload: Workload) -> Iterator[Command]:
    for path, container in workload.containers(init=True):
        place = "init" if "initContainers" in path else "main"
        yield from _of_container(workload.manifest, path, container, workload, place)


def _of_container(
    manifest: Manifest, path: Path, container: dict[str, Any], workload: Workload | None, place: str
) -> Iterator[Command]:
    words = (*_words(container, path, "command"), *_words(container, path, "args"))
    if words:
        yield Command(manifest, path, container, workload, place, words, bool(_words(container, path, "command")))
    for hook in _HOOKS:
        words = _words(look(container, *hook), (*path, *hook), "command")
        if words:
            yield Command(manifest, path, container, workload, hook[-2], words, True)


def _of_batch(manifest: Manifest) -> Iterator[Command]:
    base: Path = ("spec", "nodeProperties", "nodeRangeProperties")
    places: list[Path] = [(*base, i, "container") for i, _ in sections(manifest.get(*base))]
    for path in (*places, ("spec", "containerProperties")):
        container = manifest.get(*path)
        if isinstance(container, dict):
            yield from _of_container(manifest, path, container, None, "main")


def _words(tree: Any, path: Path, key: str) -> tuple[tuple[Path, str], ...]:
    listed = look(tree, key)
    if not isinstance(listed, list):
        return ()
    return tuple(((*path, key, i), each) for i, each in enumerate(listed) if isinstance(each, str))


def _of_command(command: Command) -> Iterator[Script]:
    language = ""
    for i, (_, word) in enumerate(command.words):
        name = word.rpartition("/")[2]
        if name in _SHELLS:
            language = "sh"
        elif _PYTHON.fullmatch(name):
            language = "python"
        elif language and _CODE_FOLLOWS.fullmatch(word) and i + 1 < len(command.words):
            path, text = command.words[i + 1]
            yield Script(command.manifest, path, language, text, command.place, command)
            return


def _of_argo(workload: Workload) -> Iterator[Script]:
    script = workload.spec.get("script")
    source = look(script, "source")
    if not isinstance(script, dict) or not isinstance(source, str):
        return
    path: Path = (*workload.path, "script")
    words = _words(script, path, "command")
    name = program(words)
    language = "sh" if name in _SHELLS else "python" if _PYTHON.fullmatch(name) else ""
    if language:
        command = Command(workload.manifest, path, script, workload, "main", words, True)
        yield Script(workload.manifest, (*path, "source"), language, source, "main", command)


def _of_files(manifest: Manifest) -> Iterator[Script]:
    data = manifest.get("data")
    for name, text in data.items() if isinstance(data, dict) else ():
        if not isinstance(name, str) or not isinstance(text, str):
            continue
        first = text.partition("\n")[0]
        if name.endswith(".py") or (first.startswith("#!") and "python" in first):
            yield Script(manifest, ("data", name), "python", text, "config")
        elif name.endswith(".sh") or first.startswith("#!"):
            yield Script(manifest, ("data", name), "sh", text, "config")
