"""The list that rules of Kubernetes' own code write their faults to, with the questions they all ask of a value.

What something fills in later (`is_open`) is None to all of them: no rule judges it.
"""

from collections.abc import Callable
from typing import Any

from stoker.lint import names
from stoker.lint.structural import (
    BAD_NAME,
    BAD_VALUE,
    DUPLICATE_KEY,
    MISSING_FIELD,
    OUT_OF_RANGE,
    Fault,
)
from stoker.spec.faults import Path, shown, written

Tree = dict[str, Any]
NO_LIMIT = 1 << 62


class Notes:
    def __init__(self, is_open: Callable[[object], bool]) -> None:
        self.is_open = is_open
        self.found: list[Fault] = []

    def say(self, kind: str, path: Path, message: str, hint: str = "", *, key: bool = False) -> None:
        self.found.append(Fault(kind, path, message, hint, key))

    def bad(self, path: Path, message: str, hint: str = "") -> None:
        self.say(BAD_VALUE, path, message, hint)

    def missing(self, path: Path, name: str, why: str = "", hint: str = "") -> None:
        around = written(path) or "the object"
        self.say(MISSING_FIELD, (*path, name), f"{around} needs {name}{why}", hint, key=True)

    # questions

    def text(self, value: Any) -> str | None:
        """The text, where it is one that is settled and not empty."""
        return value if isinstance(value, str) and value and not self.is_open(value) else None

    def absent(self, value: Any) -> bool:
        """Kubernetes' own kinds take a null and an empty text for a field that is not there."""
        return value is None or value == ""

    def name(self, value: Any, path: Path, what: str, rule: Callable[[str], str] = names.dns_label) -> None:
        text = self.text(value)
        wrong = rule(text) if text else ""
        if wrong:
            self.say(BAD_NAME, path, f"{what} {shown(text)} {wrong}")

    def whole(self, tree: Tree, key: str, path: Path, least: int = 0, most: int = NO_LIMIT) -> int | None:
        """A whole number in its bounds; a fault where it is outside."""
        value = tree.get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        if not least <= value <= most:
            said = f"at least {least}" if most == NO_LIMIT else f"from {least} to {most}"
            self.say(OUT_OF_RANGE, (*path, key), f"{key} must be {said}, not {shown(value)}")
        return value

    def port(self, tree: Tree, key: str, path: Path) -> None:
        """A port number, or the name of a port."""
        value = tree.get(key)
        if isinstance(value, str):
            self.name(value, (*path, key), "the port name", names.port_name)
        else:
            self.whole(tree, key, path, 1, 65535)

    def twice(self, values: list[tuple[Path, Any]], what: str) -> None:
        """A fault for each value that stands there again."""
        seen = set()
        for path, value in values:
            if value is None or not isinstance(value, str | int | tuple):
                continue
            if value in seen:
                said = shown(value) if not isinstance(value, tuple) else " ".join(str(part) for part in value)
                self.say(DUPLICATE_KEY, path, f"the {what} {said} stands there twice")
            seen.add(value)

    def one_of(self, tree: Tree, keys: tuple[str, ...], path: Path, what: str, *, needed: bool = True) -> str | None:
        """Which one of several fields is there; a fault for none (where one is needed) and for two."""
        there = [key for key in keys if tree.get(key) is not None]
        if len(there) > 1:
            self.bad((*path, there[1]), f"{what} has {' and '.join(there)}; only one may be set")
        elif not there and needed:
            self.bad(path, f"{what} needs one of {', '.join(keys)}")
        return there[0] if there else None
