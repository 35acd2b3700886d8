"""Text to tokens and back: the one home of the `tokenizers` library.

Text of a caller is never able to become a control token: it is encoded without special tokens, and only
`chat_prompt` puts those in. The other way round, control tokens have no bytes: they never show in an answer.
"""

import codecs
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer as _Tokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from stoker.base.errors import InvalidInput

BOS = "<|bos|>"
END = "<|end|>"
SYSTEM = "<|system|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
TOOL = "<|tool|>"
IMAGE = "<|image|>"
PAD = "<|pad|>"
SPECIAL = (BOS, END, SYSTEM, USER, ASSISTANT, TOOL, IMAGE, PAD)
"""In the order of their ids, which start at 0."""

ROLES = {"system": SYSTEM, "developer": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": TOOL, "function": TOOL}
"""OpenAI's roles, and the control token that begins a message of each."""


@dataclass(frozen=True)
class ImagePart:
    """Where an image stands in a message: it takes `tokens` placeholders."""

    tokens: int


@dataclass(frozen=True)
class Message:
    role: str
    parts: Sequence[str | ImagePart]


class Tokenizer:
    """Byte-level BPE: every string has tokens, and `bytes_of` all of them together are the string again."""

    def __init__(self, text: str) -> None:
        """`text` is the content of `tokenizer.json`."""
        self._inner = _Tokenizer.from_str(text)
        self._inner.encode_special_tokens = True  # encode the text "<|end|>" as text, see the module's promise
        self.vocab_size: int = self._inner.get_vocab_size()
        self._special = {name: self._id_of(name) for name in SPECIAL}
        self._bytes = self._token_bytes()
        self._longest = max(map(len, self._bytes))

    @property
    def bos(self) -> int:
        return self._special[BOS]

    @property
    def end(self) -> int:
        return self._special[END]

    @property
    def image(self) -> int:
        return self._special[IMAGE]

    def encode(self, text: str) -> list[int]:
        """Half a surrogate pair, which JSON can hold and UTF-8 cannot, is read as a question mark."""
        text = text.encode("utf-8", "replace").decode()
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """What `encode` gives for each, on all cores."""
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        return [found.ids for found in self._inner.encode_batch_fast(clean, add_special_tokens=False)]

    def begin(self, role: str) -> int:
        """The control token that a message of the role begins with; `end` ends it."""
        return self._special[ROLES[role]]

    def bytes_of(self, token: int) -> bytes:
        """What the token adds to the text; nothing for a control token. May be part of a UTF-8 character."""
        return self._bytes[token]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the tokens; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self._bytes[token] for token in tokens).decode("utf-8", "replace")

    def least_tokens(self, characters: int) -> int:
        """A text of so many characters has at least so many tokens; known without reading it."""
        return characters // self._longest

    def chat_prompt(self, messages: Sequence[Message], *, goes_on: bool = False) -> list[int]:
        """The tokens that ask for the next message of the assistant; with `goes_on`, for the rest of the last one."""
        tokens = [self.bos]
        for message in messages:
            tokens.append(self.begin(message.role))
            for part in message.parts:
                tokens += [self.image] * part.tokens if isinstance(part, ImagePart) else self.encode(part)
            tokens.append(self.end)
        return tokens[:-1] if goes_on else [*tokens, self._special[ASSISTANT]]

    def text_prompt(self, text: str) -> list[int]:
        """The tokens that ask for more of the text."""
        return [self.bos, *self.encode(text)]

    def _id_of(self, name: str) -> int:
        number = self._inner.token_to_id(name)
        if number is None:
            raise InvalidInput(f"tokenizer.json has no token {name}", param="tokenizer.json")
        return number

    def _token_bytes(self) -> list[bytes]:
        control = set(self._special.values())
        alphabet = _byte_of_character()
        table = []
        for number in range(self.vocab_size):
            name = self._inner.id_to_token(number) or ""
            table.append(b"" if number in control else bytes(alphabet[character] for character in name))
        return table


class Detokenizer:
    """Text as tokens come, without ever giving out half a UTF-8 character.

    All that `add` and `finish` return, joined, is `Tokenizer.decode` of all tokens.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """The text that is complete now and was not before; often empty."""
        return self._decoder.decode(self._tokenizer.bytes_of(token))

    def finish(self) -> str:
        """Bytes that wait for the rest of their character, as U+FFFD: the answer was cut there."""
        return self._decoder.decode(b"", final=True)


def train(texts: Sequence[str], vocab_size: int) -> str:
    """Learn a vocabulary; returns the content of `tokenizer.json`. Same texts, same vocabulary."""
    tokenizer = _Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        # A digit is a token, so that 42 and 421 share what is known of 4 and 2.
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    text: str = tokenizer.to_str(pretty=False)
    return text


def is_ours(text: str) -> bool:
    """Whether the content of a `tokenizer.json` has the control tokens that `Tokenizer` needs."""
    try:
        added = json.loads(text)["added_tokens"]
        names = [token["content"] for token in sorted(added, key=lambda token: token["id"])]
    except (ValueError, KeyError, TypeError) as exc:
        raise InvalidInput(f"tokenizer.json is not one of the tokenizers library: {exc!r}", param="base") from exc
    return tuple(names[: len(SPECIAL)]) == SPECIAL


def load(folder: Path) -> Tokenizer:
    return Tokenizer((folder / "tokenizer.json").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """Byte-level BPE writes each byte as one printable character: itself if it is printable in Latin-1, else the next
    free one from U+0100 on (the convention that GPT-2 began).
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in printable}
    for byte in (byte for byte in range(256) if byte not in printable):
        table[chr(256 + len(table) - len(printable))] = byte
    return table
