"""An example -> tokens, and what each weighs in the loss. One encoder for Stoker's own tokenizer, one for folders with
Hugging Face's tokenizer.json and chat template; both tokenize exactly as the engine that serves the model will.

The weight stands at the token that is to be predicted: 1.0 at each token that the assistant says, the token that ends
its message included; `question_weight` elsewhere; 0.0 at the first token and at image placeholders.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stoker.base.errors import InvalidInput
from stoker.train.formats import Example


@dataclass(frozen=True)
class Encoded:
    """`tokens` int32 [n], `weights` float32 [n]. `features`: float32 [cells, numbers] of all images, in order."""

    tokens: NDArray[np.int32]
    weights: NDArray[np.float32]
    features: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Sample:
    """What one line became. `rejected` only for preferences, whose first sequence is what was chosen."""

    chosen: Encoded
    rejected: Encoded | None = None
    truncated: bool = False

    @property
    def length(self) -> int:
        """Tokens that it takes in a row."""
        return len(self.chosen.tokens) + (0 if self.rejected is None else len(self.rejected.tokens))


@dataclass(frozen=True)
class Rules:
    """As `spec.run.Dataset` says them."""

    max_length: int
    train_on: str = "assistant"
    question_weight: float = 0.0
    too_long: str = "truncate"

    @property
    def other_weight(self) -> float:
        """Of tokens that the assistant does not say."""
        return 1.0 if self.train_on == "all" else self.question_weight


Outcome = Sample | ValueError | None
"""Of one example: what `Encoder.encode` returns or raises."""


class Encoder(Protocol):
    vocab_size: int

    digest: str
    """sha256 over all that decides which tokens come out: tokenizer, template, the version of our code."""

    def encode(self, example: Example, rules: Rules) -> Sample | None:
        """None: it is too long, and dropped. Raises ValueError in words for BadLine: an image for a model that sees
        none, a role that the template does not know, too long with `fail`, nothing in it that counts in the loss."""

    def encode_all(self, examples: Sequence[Example], rules: Rules) -> list[Outcome]:
        """The same for many at once, on all cores."""


def encoder_of(folder: Path) -> Encoder:
    """By what the folder has: Stoker's tokenizer (its control tokens), or tokenizer.json with chat_template (in
    tokenizer_config.json or chat_template.jinja). Raises InvalidInput."""
    from stoker.nn.tokenizer import is_ours

    try:
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    except OSError as exc:
        raise InvalidInput(
            f"{folder} has no tokenizer.json that can be read ({exc.strerror})",
            param="base",
            hint="a folder that Stoker or Hugging Face's tokenizers wrote has it",
        ) from exc
    if is_ours(text):
        from stoker.train.own_encoding import OwnEncoder

        return OwnEncoder(folder, text)
    from stoker.train.template_encoding import TemplateEncoder

    return TemplateEncoder(folder, text)


def check_vocabulary(encoder: Encoder, vocab_size: int, folder: Path) -> None:
    """Raises InvalidInput for a model of fewer tokens than its tokenizer has."""
    if encoder.vocab_size > vocab_size:
        raise InvalidInput(
            f"{folder}: tokenizer.json has {encoder.vocab_size} tokens, config.json {vocab_size}", param="base"
        )


# What both encoders have in common


def sample_of(chosen: Encoded, rejected: Encoded | None, rules: Rules, *, image: int = -1, cells: int = 0) -> Outcome:
    """Cut to the length of a row. `image` is the token that holds an image's place; an image takes `cells` of them, and
    is never cut in two."""
    both = [chosen] if rejected is None else [chosen, rejected]
    if not all(each.weights.any() for each in both):
        return ValueError("nothing in it counts in the loss; an assistant's message without weight 0 would")
    length = sum(len(each.tokens) for each in both)
    if length <= rules.max_length:
        return Sample(chosen, rejected)
    if rules.too_long == "fail":
        return ValueError(
            f"has {length:,} tokens; maxLength is {rules.max_length:,}; tooLong truncate or drop would take it"
        )
    if rules.too_long == "drop":
        return None
    short = [_cut(each, room, image, cells) for each, room in zip(both, _rooms(both, rules.max_length), strict=True)]
    if not all(each.weights.any() for each in short):
        return None  # what counts is beyond the end
    return Sample(short[0], short[1] if rejected is not None else None, truncated=True)


def _rooms(both: Sequence[Encoded], room: int) -> list[int]:
    """Half of the room for each of two, and what the shorter one leaves for the longer."""
    if len(both) == 1:
        return [room]
    first, second = (len(each.tokens) for each in both)
    half = room // 2
    if first <= half:
        return [first, room - first]
    if second <= half:
        return [room - second, second]
    return [room - half, half]


def _cut(encoded: Encoded, room: int, image: int, cells: int) -> Encoded:
    if encoded.features is None:
        return Encoded(encoded.tokens[:room], encoded.weights[:room])
    places = np.flatnonzero(encoded.tokens[:room] == image)
    whole = len(places) // cells
    if len(places) % cells:
        room = int(places[whole * cells])
    kept = encoded.features[: whole * cells] if whole else None
    return Encoded(encoded.tokens[:room], encoded.weights[:room], kept)


def each_or_error(outcome: Outcome) -> Sample | None:
    if isinstance(outcome, ValueError):
        raise outcome
    return outcome


__all__ = ["Encoded", "Encoder", "Outcome", "Rules", "Sample", "each_or_error", "encoder_of", "field", "sample_of"]
