"""Examples -> tokens by Stoker's own tokenizer, message by message as the embedded engine reads them from a request.

Tools that a conversation offers (`tools`) are passed over, as the engine does; calls of them are text of the assistant.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.base.errors import InvalidInput
from stoker.nn import config as configs
from stoker.nn.config import ImageConfig
from stoker.nn.tokenizer import ImagePart, Tokenizer
from stoker.nn.tokenizer import Message as TokenizerMessage
from stoker.train.encoding import Encoded, Outcome, Rules, Sample, each_or_error, sample_of
from stoker.train.formats import Chat, Example, Preference, Prompt, Text
from stoker.train.messages import Message

_VERSION = "own 1"
"""Another one when other tokens or weights come out for the same line."""


@dataclass(frozen=True)
class _Sees:
    model: str
    image: ImageConfig | None


@dataclass(frozen=True)
class _Piece:
    """`says` is a text, or tokens as they stand."""

    says: str | list[int]
    weight: float


@dataclass(frozen=True)
class _Draft:
    pieces: list[_Piece]
    features: NDArray[np.float32] | None = None


class OwnEncoder:
    def __init__(self, folder: Path, text: str) -> None:
        """`text` is the content of tokenizer.json."""
        self._tokenizer = Tokenizer(text)
        self.vocab_size = self._tokenizer.vocab_size
        image = configs.load(folder).image if (folder / "config.json").is_file() else None
        self._sees = _Sees("the model", image)
        self.digest = hashlib.sha256(repr((_VERSION, text, image)).encode()).hexdigest()

    def encode(self, example: Example, rules: Rules) -> Sample | None:
        return each_or_error(self.encode_all([example], rules)[0])

    def encode_all(self, examples: Sequence[Example], rules: Rules) -> list[Outcome]:
        drafts: list[tuple[_Draft, ...] | ValueError] = []
        for example in examples:
            try:
                drafts.append(self._drafts(example, rules))
            except ValueError as exc:
                drafts.append(exc)
        texts = [
            piece.says
            for each in drafts
            if not isinstance(each, ValueError)
            for draft in each
            for piece in draft.pieces
            if isinstance(piece.says, str)
        ]
        tokens = iter(self._tokenizer.encode_batch(texts))
        outcomes: list[Outcome] = []
        for each in drafts:
            if isinstance(each, ValueError):
                outcomes.append(each)
                continue
            encoded = [_encoded(draft, tokens) for draft in each]
            cells = self._sees.image.tokens if self._sees.image is not None else 0
            rejected = encoded[1] if len(encoded) > 1 else None
            outcomes.append(sample_of(encoded[0], rejected, rules, image=self._tokenizer.image, cells=cells))
        return outcomes

    def _drafts(self, example: Example, rules: Rules) -> tuple[_Draft, ...]:
        """One, or two of a preference."""
        bos, end = self._tokenizer.bos, self._tokenizer.end
        other = rules.other_weight
        match example:
            case Text():
                return (_Draft([_Piece([bos], 0.0), _Piece(example.text, 1.0), _Piece([end], 1.0)]),)
            case Prompt():
                # As the engine would: what is asked has its own tokens, whatever comes after it.
                question = [_Piece([bos], 0.0), _Piece(example.prompt, other)]
                return (_Draft([*question, _Piece(example.completion, 1.0), _Piece([end], 1.0)]),)
            case Chat():
                return (self._chat(example.messages, 0, other),)
            case Preference():
                asked = len(example.prompt)
                answers = (example.chosen, example.rejected)
                return tuple(self._chat([*example.prompt, *answer], asked, 0.0) for answer in answers)

    def _chat(self, messages: Sequence[Message], first: int, other: float) -> _Draft:
        """What the assistant says counts from message `first` on."""
        from stoker.engine import parsing  # reads images, too

        if self._sees.image is None and any(_has_image(message) for message in messages):
            raise ValueError("holds an image, and the model sees none; embedded, or scratch with images: true, would")
        try:
            read, pixels = parsing.messages_of(messages, self._sees)
        except InvalidInput as exc:
            raise ValueError(exc.message) from exc
        pieces = [_Piece([self._tokenizer.bos], 0.0)]
        for number, (message, each) in enumerate(zip(messages, read, strict=True)):
            says = message["role"] == "assistant" and number >= first
            kept_out = message["role"] == "assistant" and message.get("weight") == 0
            weight = 0.0 if kept_out else 1.0 if says else other
            pieces += self._message(each, weight, 0.0 if kept_out else other)
        image = self._sees.image
        return _Draft(pieces, parsing.features_of(pixels, image) if pixels and image is not None else None)

    def _message(self, message: TokenizerMessage, weight: float, before: float) -> list[_Piece]:
        """The token that says who speaks is given, not said; the one that ends is said."""
        pieces = [_Piece([self._tokenizer.begin(message.role)], before)]
        for part in message.parts:
            if isinstance(part, ImagePart):
                pieces.append(_Piece([self._tokenizer.image] * part.tokens, 0.0))
            else:
                pieces.append(_Piece(part, weight))
        return [*pieces, _Piece([self._tokenizer.end], weight)]


def _has_image(message: Message) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(part.get("type") == "image_url" for part in content)


def _encoded(draft: _Draft, encoded: Iterator[list[int]]) -> Encoded:
    tokens: list[int] = []
    lengths = []
    for piece in draft.pieces:
        found = next(encoded) if isinstance(piece.says, str) else piece.says
        tokens += found
        lengths.append(len(found))
    weights = np.repeat(np.array([piece.weight for piece in draft.pieces], np.float32), lengths)
    return Encoded(np.array(tokens, np.int32), weights, draft.features)
