"""`/v1/embeddings`: a body to the texts that are embedded, and their vectors to the answer. No I/O."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stoker.base.errors import InvalidInput
from stoker.engine import parsing
from stoker.engine.embedder import unit
from stoker.engine.parsing import Served
from stoker.engine.values import Json, get, missing, refuse_unless, shown
from stoker.nn.decoder import Floats

MAX_TEXTS = 2048
MAX_TOKENS = 300_000
"""Of all texts of one request; as OpenAI has both."""
FORMATS = ("float", "base64")


@dataclass(frozen=True)
class Wanted:
    texts: list[list[int]]
    dimensions: int
    is_base64: bool


def parse(body: Json, served: Served) -> Wanted:
    """Raises InvalidInput, NotFound for another model."""
    parsing.check_common(body, served)
    refuse_unless(body, "stream", lambda value: not value, bool)
    form = get(body, "encoding_format", str, "float")
    if form not in FORMATS:
        raise InvalidInput(
            f"encoding_format is {shown(form)}; it has to be one of {', '.join(FORMATS)}", param="encoding_format"
        )
    size = served.bundle.config.hidden_size
    dimensions = get(body, "dimensions", int, size)
    if not 1 <= dimensions <= size:
        raise InvalidInput(f"dimensions is {dimensions}; {served.model} has 1 to {size}", param="dimensions")
    return Wanted(_texts(body, served), dimensions, form == "base64")


def _texts(body: Json, served: Served) -> list[list[int]]:
    said = get(body, "input", (str, list), None)
    if said is None:
        raise missing("input")
    is_one = isinstance(said, str) or (said and isinstance(said[0], int))
    texts = [said] if is_one else said
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise InvalidInput(f"input has {len(texts)} texts; one request takes 1 to {MAX_TEXTS}", param="input")
    tokens = []
    total = 0
    for number, text in enumerate(texts):
        tokens.append(_tokens(text, served, "input" if is_one else f"input[{number}]"))
        total += len(tokens[-1])
        if total > MAX_TOKENS:
            raise InvalidInput(f"input has more than {MAX_TOKENS} tokens; send it in parts", param="input")
    return tokens


def _tokens(text: Any, served: Served, param: str) -> list[int]:
    if text == "":
        raise InvalidInput(f"{param} is empty; there is nothing to embed", param=param)
    tokens = parsing.text_tokens(text, served, param)
    if len(tokens) > served.context:
        raise InvalidInput(
            f"the context of {served.model} is {served.context} tokens; {param} has {len(tokens)}",
            param=param,
            code="context_length_exceeded",
        )
    return tokens


def answer(wanted: Wanted, vectors: Sequence[Floats], model: str) -> dict[str, Any]:
    """`vectors` in the order of the texts, each of length 1."""
    tokens = sum(len(text) for text in wanted.texts)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, wanted)}
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _encoded(vector: Floats, wanted: Wanted) -> str | list[float]:
    """Fewer dimensions are the first ones, scaled to length 1 again."""
    if wanted.dimensions < len(vector):
        vector = unit(vector[: wanted.dimensions]).astype(np.float32)
    if wanted.is_base64:
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    values: list[float] = vector.tolist()
    return values
