"""An example -> tokens, and what each weighs in the loss. One encoder for Stoker's own tokenizer, one for folders with
Hugging Face's tokenizer.json and chat template; both tokenize exactly as the engine that serves the model will.

The weight stands at the token that is to be predicted: 1.0 at each token that the assistant says, the token that ends
its message included; `question_weight` elsewhere; 0.0 at the first token and at image placeholders.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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


class Encoder(Protocol):
    vocab_size: int

    def encode(self, example: Example, rules: Rules) -> Sample | None:
        """None: it is too long, and dropped. Raises ValueError in words for BadLine: an image for a model that sees
        none, a role that the template does not know, too long with `fail`, nothing in it that counts in the loss."""


def encoder_of(folder: Path) -> Encoder:
    """By what the folder has: Stoker's tokenizer (its control tokens), or tokenizer.json with chat_template (in
    tokenizer_config.json or chat_template.jinja). Raises InvalidInput."""
    raise NotImplementedError


__all__ = ["Encoded", "Encoder", "Rules", "Sample", "encoder_of", "field"]
