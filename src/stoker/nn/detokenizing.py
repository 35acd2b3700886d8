"""Tokens to text by whichever `tokenizer.json` a folder has: Stoker's own, or another project's."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer as _Tokenizer

from stoker.base.errors import InvalidInput
from stoker.nn.tokenizer import SPECIAL, Tokenizer


def decoder_of(folder: Path) -> Callable[[Sequence[int]], str]:
    """Without special tokens. Raises InvalidInput."""
    path = folder / "tokenizer.json"
    try:
        text = path.read_text(encoding="utf-8")
        found = _Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception for whatever it does not like
        raise InvalidInput(f"{path} is no tokenizer: {error}", param="weights") from error
    if all(found.token_to_id(name) is not None for name in SPECIAL):
        return Tokenizer(text).decode

    def decode(tokens: Sequence[int]) -> str:
        said: str = found.decode(list(tokens), skip_special_tokens=True)
        return said

    return decode
