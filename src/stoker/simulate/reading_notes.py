"""What a reader of manifests tells the person: lines as they come, and objects that were passed over, by reason."""

_LISTED = 4


class Notes:
    def __init__(self) -> None:
        self._lines: list[str] = []
        self._grouped: dict[str, list[str]] = {}
        self._last: list[str] = []

    def say(self, text: str) -> None:
        """Once, however often it is said."""
        if text not in self._lines:
            self._lines.append(text)

    def passed(self, name: str, why: str) -> None:
        """`name` was passed over. Those with the same reason become one line."""
        names = self._grouped.setdefault(why, [])
        if name not in names:
            names.append(name)

    def say_last(self, text: str) -> None:
        """What matters least."""
        self._last.append(text)

    def lines(self) -> tuple[str, ...]:
        passed = (f"passed over: {_listed(names)}: {why}" for why, names in self._grouped.items())
        return (*self._lines, *passed, *self._last)


def _listed(names: list[str]) -> str:
    if len(names) <= _LISTED:
        return ", ".join(names)
    return f"{', '.join(names[:_LISTED])} and {len(names) - _LISTED} more"
