"""What was decided, when, and by what figures: the log that `--explain` reads."""

from dataclasses import dataclass
from typing import Any

from stoker.simulate.result import Event

KINDS = {
    "scale": "an autoscaler decided, or decided the same for another reason",
    "pod": "a pod was made, bound, ready, told to leave, gone",
    "unschedulable": "a pod that no node takes, and why",
    "preempted": "a pod had to go for one of higher priority",
    "provision": "the provisioner decided on nodes",
    "node": "a node was asked for, came, went",
    "no capacity": "EC2 had none of what was asked for",
    "disrupt": "nodes are to be taken away, and why; or no longer",
    "interruption": "a spot notice, or a recommendation to rebalance",
    "lost": "requests were cut off with their replica",
    "broken": "a replica that can never serve, and why",
}


STILL_S = 60.0
"""How often at most the figures of something that goes on are told again."""


@dataclass(slots=True)
class _Run:
    key: str
    text: str
    said_at: float


class Journal:
    """`say` keeps an event; `say_once` leaves out what was the last thing said of that kind and subject; `say_still` is
    for figures that change all the time while nothing else does."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._last: dict[tuple[str, str], str] = {}
        self._runs: dict[tuple[str, str, str], _Run] = {}
        self._held: dict[tuple[str, str, str], Event] = {}

    @property
    def events(self) -> list[Event]:
        """By time."""
        return sorted([*self._events, *self._held.values()], key=lambda each: each.at)

    def say(self, at: float, kind: str, subject: str, text: str, **data: Any) -> None:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of event: {', '.join(KINDS)}")
        self._last[kind, subject] = text
        self._events.append(Event(at, kind, subject, text, data))

    def say_once(self, at: float, kind: str, subject: str, text: str, key: str = "") -> None:
        """`key`: what has to differ, where the text itself may."""
        if self._last.get((kind, subject)) != (key or text):
            self.say(at, kind, subject, text)
            self._last[kind, subject] = key or text

    def say_still(self, at: float, kind: str, subject: str, text: str, key: str, voice: str = "") -> None:
        """Something goes on as it was as long as `key` is the same: the first of its texts is kept, the last, and one a
        minute between. `voice`: one of several who speak about the subject, each of whom has a run of its own."""
        place = kind, subject, voice
        run = self._runs.get(place)
        if run is not None and run.key == key:
            if text == run.text:
                return
            run.text = text
            if at < run.said_at + STILL_S:
                self._held[place] = Event(at, kind, subject, text)
                return
        else:
            self.end_run(kind, subject, voice)
        self._held.pop(place, None)
        self._runs[place] = _Run(key, text, at)
        self._events.append(Event(at, kind, subject, text))

    def end_run(self, kind: str, subject: str, voice: str = "") -> None:
        """It does not go on: the last text is kept, and the next one is a first one."""
        self._runs.pop((kind, subject, voice), None)
        held = self._held.pop((kind, subject, voice), None)
        if held is not None:
            self._events.append(held)
