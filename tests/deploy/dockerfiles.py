"""Dockerfiles as data, as far as images/Dockerfile goes: stages with their instructions."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Stage:
    name: str
    base: str
    """As written: an image, `${ARG}`, or the name of another stage."""
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def values(self, instruction: str) -> list[str]:
        return [value for name, value in self.instructions if name == instruction]


@dataclass
class Dockerfile:
    arguments: dict[str, str]
    """Those before the first stage, with what they are unless a build says otherwise."""
    stages: dict[str, Stage]
    """In the order of the file."""

    def line_of(self, target: str) -> list[Stage]:
        """The stage and those that it is made from, the first one first."""
        found = [self.stages[target]]
        while found[0].base in self.stages:
            found.insert(0, self.stages[found[0].base])
        return found

    def last(self, target: str, instruction: str) -> str:
        """What counts in the image of a target: the last one of its line."""
        return [value for stage in self.line_of(target) for value in stage.values(instruction)][-1]


def parse(text: str) -> Dockerfile:
    found = Dockerfile({}, {})
    stage: Stage | None = None
    for line in _lines(text):
        name, _, value = line.partition(" ")
        name, value = name.upper(), value.strip()
        if name == "FROM":
            base, _, alias = value.partition(" AS ")
            stage = Stage(alias or str(len(found.stages)), base)
            found.stages[stage.name] = stage
        elif stage is not None:
            stage.instructions.append((name, value))
        else:
            assert name == "ARG", f"{name} before the first FROM"
            key, _, default = value.partition("=")
            found.arguments[key] = default
    return found


def command(value: str) -> list[str]:
    """What CMD or ENTRYPOINT runs. Raises ValueError for the form that a shell runs."""
    read = json.loads(value)
    assert isinstance(read, list)
    return [str(part) for part in read]


def _lines(text: str) -> Iterator[str]:
    """Instructions, those over several lines as one; without comments."""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in kept.replace("\\\n", " ").splitlines():
        if line.strip():
            yield line.strip()
