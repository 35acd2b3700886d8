"""Other people's `tokenizer.json`: text to tokens, and which part of the text each token stands for.

Unlike with our own tokenizer, the text of a special token is that token: their chat templates are text, and the engines
that serve their models read them so.
"""

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as _Tokenizer

from stoker.base.errors import InvalidInput


class HfTokenizer:
    """Half a surrogate pair, which JSON can hold and UTF-8 cannot, is read as a question mark."""

    def __init__(self, text: str) -> None:
        """`text` is the content of `tokenizer.json`. Raises InvalidInput."""
        try:
            self._whole = _Tokenizer.from_str(text)
            # What comes after adds special tokens, which a chat template writes itself, and takes white space out of
            # the offsets, so that a token of white space would stand for nothing.
            self._bare = _Tokenizer.from_str(json.dumps({**json.loads(text), "post_processor": None}))
        except Exception as exc:  # the library raises plain Exception for whatever it does not like
            raise InvalidInput(f"tokenizer.json cannot be read: {exc}", param="base") from exc
        for each in (self._whole, self._bare):
            each.no_truncation()
            each.no_padding()
        self.vocab_size: int = max(self._whole.get_vocab(with_added_tokens=True).values()) + 1
        self.added = frozenset(token.content for token in self._whole.get_added_tokens_decoder().values())
        """The tokens that stand in a text as they are: <|im_end|> and the like."""

    def id_of(self, token: str) -> int | None:
        found: int | None = self._whole.token_to_id(token)
        return found

    def token_of(self, number: int) -> str | None:
        found: str | None = self._whole.id_to_token(number)
        return found

    def encode_with_places(self, texts: Sequence[str]) -> list[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """Tokens of each text, and [n, 2]: from which character to which (exclusive) each stands for."""
        found = self._bare.encode_batch([_writable(text) for text in texts], add_special_tokens=False)
        return [(np.array(e.ids, np.int32), np.array(e.offsets, np.int64).reshape(-1, 2)) for e in found]

    def encode(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """`special`: with the tokens that the tokenizer puts before and after a text, such as <s>."""
        clean = [_writable(text) for text in texts]
        return [found.ids for found in self._whole.encode_batch_fast(clean, add_special_tokens=special)]


def _writable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
