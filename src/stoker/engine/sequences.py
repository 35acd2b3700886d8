"""One request while the engine works on it: its tokens, its chance, and the text that is certain so far."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stoker.base.errors import StokerError
from stoker.engine.stops import StopMatcher
from stoker.nn.image import Floats
from stoker.nn.sampling import Sampling
from stoker.nn.tokenizer import Detokenizer, Tokenizer

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Generation:
    """What is asked of the engine, checked already: the prompt is not empty and leaves room for `max_tokens`."""

    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling
    seed: int | None = None
    """None draws differently each time."""
    stops: Sequence[str] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    soft_tokens: Floats | None = None
    """Embeddings that stand where the prompt has image placeholders, in order; None without an image."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What one step did for one request. The last one has a `finish_reason` or an `error`."""

    text: str
    tokens: int
    """Generated so far, those without text included."""
    finish_reason: FinishReason | None = None
    error: StokerError | None = None

    @property
    def is_last(self) -> bool:
        return self.finish_reason is not None or self.error is not None


class Listener(Protocol):
    """Whoever waits for a request."""

    def take(self, progress: Progress) -> bool:
        """Keep this; called by the thread that computes. True asks for `wake`."""

    def wake(self) -> None:
        """There is something to read; called in the event loop of the reader."""


class Work(Protocol):
    """A request in the engine, of whatever kind."""

    listener: Listener
    is_cancelled: bool
    """Nobody wants it any more, or it has ended."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...


class Running:
    """A request in the engine, from its arrival to its last token."""

    def __init__(
        self, generation: Generation, tokenizer: Tokenizer, vocabulary: int, listener: Listener, now: float
    ) -> None:
        """`vocabulary` is the width of the logits; `now` the time of arrival by the engine's clock."""
        self.generation = generation
        self.listener: Listener = listener
        self.slot = -1
        self.computed = 0
        """Positions in the cache."""
        self.generated: list[int] = []
        self.is_cancelled = False
        self.arrived_at = self.joined_at = now
        self.first_token_at = now
        self.last_token_at = now
        self.bias = _bias(generation, vocabulary)
        """Added to the logits; None when the request asks for nothing that changes them."""
        self._random = random.Random(generation.seed)
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopMatcher(generation.stops)

    @property
    def prompt_tokens(self) -> int:
        return len(self.generation.prompt)

    @property
    def completion_tokens(self) -> int:
        """Generated so far, whether or not anybody has read them."""
        return len(self.generated)

    @property
    def left(self) -> int:
        """Prompt tokens that are not computed yet."""
        return max(0, len(self.generation.prompt) - self.computed)

    def chance(self) -> float:
        """The next number of this request's own chance; greedy requests use none."""
        return self._random.random() if self.generation.sampling.temperature > 0 else 0.0

    def accept(self, token: int) -> Progress:
        """Take the token that was chosen, and say what it adds to the answer."""
        self.generated.append(token)
        self._penalise(token)
        count = len(self.generated)
        if token == self._tokenizer.end:
            return self._ended("", "stop")
        text = self._stops.add(self._detokenizer.add(token))
        if self._stops.hit:
            return Progress(text, count, "stop")
        if count == self.generation.max_tokens:
            return self._ended(text, "length")
        return Progress(text, count)

    def _ended(self, text: str, reason: FinishReason) -> Progress:
        text += self._stops.add(self._detokenizer.finish())
        if self._stops.hit:
            return Progress(text, len(self.generated), "stop")
        return Progress(text + self._stops.finish(), len(self.generated), reason)

    def _penalise(self, token: int) -> None:
        if self.bias is None:
            return
        asked = self.generation
        self.bias[token] -= asked.frequency_penalty
        if asked.presence_penalty and self.generated.count(token) == 1:
            self.bias[token] -= asked.presence_penalty


def _bias(generation: Generation, vocabulary: int) -> NDArray[np.float32] | None:
    if not (generation.logit_bias or generation.presence_penalty or generation.frequency_penalty):
        return None
    bias = np.zeros(vocabulary, dtype=np.float32)
    for token, value in generation.logit_bias.items():
        bias[token] = value
    return bias
