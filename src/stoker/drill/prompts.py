"""What a drill asks. Pure: the same seed, the same load.

Each prompt holds a number that no other has, and is asked at temperature 0 with a seed, so that the answer is a
function of the prompt. The embedded engine, whose token 1 is the end of an answer, talks for as long as it may; any
model answers it. Nothing in it keeps another replica from going on with an answer that was handed back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from stoker.drill.observed import Ask, Kind

# Half of them tasks, which nothing may lose; the rest as clients that hold a line.
_KINDS: tuple[Kind, ...] = ("task", "chat", "task", "stream", "task", "resumable", "task", "stream")
# Of all requests; the rest comes evenly spread.
_IN_BURSTS = 0.4


def asks(count: int, drill: str, random: Random) -> list[Ask]:
    numbers = random.sample(range(1000, 100_000), count)
    return [
        Ask(number, _KINDS[number % len(_KINDS)], f"{drill}-{number}", prompt(marker))
        for number, marker in enumerate(numbers)
    ]


def prompt(marker: int) -> str:
    return f"Repeat: {marker} apples, {marker} pears, {marker} plums, {marker} cherries."


def body(text: str, model: str, *, max_tokens: int, begun: str = "", stream: bool = False) -> dict[str, Any]:
    begins = [{"role": "assistant", "content": begun}] if begun else []
    said: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": text}, *begins],
        "max_tokens": max_tokens,
        "temperature": 0,
        "seed": 1,
        "logit_bias": {"1": -100},
    }
    if begun:
        said |= {"continue_final_message": True, "add_generation_prompt": False}
    return {**said, "stream": True, "stream_options": {"include_usage": True}} if stream else said


@dataclass(frozen=True)
class Schedule:
    """`paced`: when each is sent, in seconds from the beginning. `bursts`: what is sent at once before each injection,
    so that it meets work; injection `i` comes after `burst_at[i]`."""

    paced: Sequence[tuple[float, Ask]]
    bursts: Sequence[Sequence[Ask]]
    burst_at: Sequence[float]


def schedule(load: Sequence[Ask], seconds: float, injections: int) -> Schedule:
    each = max(1, int(len(load) * _IN_BURSTS / injections))
    bursts = [load[i * each : (i + 1) * each] for i in range(injections)]
    rest = load[injections * each :]
    gap = seconds / max(1, len(rest))
    return Schedule(
        paced=[(i * gap, ask) for i, ask in enumerate(rest)],
        bursts=bursts,
        burst_at=[seconds * (i + 1) / (injections + 2) for i in range(injections)],
    )
