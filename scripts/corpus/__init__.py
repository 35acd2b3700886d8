"""The text that the default weights are trained on, all of it written by this project and made from a seed.

`conversations` and `stories` are endless streams: the same seed gives the same text on every machine. Each module
holds one subject; a subject is a function from a `random.Random` to one exchange, `(question, answer)`.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from corpus import code, numbers, platform, tales, talk

Exchange = tuple[str, str]

SUBJECTS: list[tuple[float, Callable[[random.Random], Exchange]]] = [
    (3.0, talk.greeting),
    (2.0, talk.thanks),
    (2.0, talk.self_description),
    (1.5, talk.echo),
    (1.5, talk.fact),
    (1.5, talk.no_picture),
    (3.0, numbers.counting),
    (5.0, numbers.product),
    (3.0, numbers.total),
    (2.0, numbers.difference),
    (1.0, numbers.comparison),
    (1.0, numbers.order),
    (5.0, code.function),
    (2.0, code.explanation),
    (4.0, platform.concept),
    (1.5, tales.request),
]
"""The share of each subject. Products have most: a table is learned by heart, and only by repetition."""

SYSTEM_PROMPTS = [
    "You are a helpful assistant.",
    "You are a helpful, concise assistant.",
    "Answer briefly.",
    "You are the assistant of Stoker.",
    "You are an agent. Answer the user's question.",
]


@dataclass(frozen=True)
class Conversation:
    system: str | None
    exchanges: list[Exchange]


def conversations(seed: int) -> Iterator[Conversation]:
    rng = random.Random(seed)
    shares, subjects = zip(*SUBJECTS, strict=True)
    while True:
        turns = rng.choices([1, 2, 3], [0.75, 0.17, 0.08])[0]
        system = rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.25 else None
        yield Conversation(system, [subject(rng) for subject in rng.choices(subjects, shares, k=turns)])


def stories(seed: int) -> Iterator[str]:
    """Plain text, for the completions endpoint."""
    rng = random.Random(seed)
    writers = [tales.story, tales.story, code.plain, numbers.plain, platform.plain]
    while True:
        yield rng.choice(writers)(rng)
