"""What was decided, when, and by what figures: the log that `--explain` reads."""

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


class Journal:
    """`say` keeps an event; `say_once` leaves out what was the last thing said of that kind and subject."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._last: dict[tuple[str, str], str] = {}

    def say(self, at: float, kind: str, subject: str, text: str, **data: Any) -> None:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of event: {', '.join(KINDS)}")
        self._last[kind, subject] = text
        self.events.append(Event(at, kind, subject, text, data))

    def say_once(self, at: float, kind: str, subject: str, text: str, key: str = "") -> None:
        """`key`: what has to differ, where the text itself may."""
        if self._last.get((kind, subject)) != (key or text):
            self.say(at, kind, subject, text)
            self._last[kind, subject] = key or text
