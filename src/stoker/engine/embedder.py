"""Vectors of texts, computed a bounded piece at a time between the steps of those who generate. One thread calls it.

A text's vector is the mean of the decoder's last hidden states over its tokens, scaled to length 1. A text's rows are
summed block by block, and prompts are cut at whole blocks only, so a vector is the same bits however the work was cut
and whoever shared it.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stoker.base import logs
from stoker.base.errors import StokerError
from stoker.engine.sequences import Listener, Progress
from stoker.nn.bundle import Bundle
from stoker.nn.decoder import BLOCK, Chunk, Floats, KVCache

_log = logs.get(__name__)

# So many requests take turns; later ones wait. Each has a slot for a text that takes several steps.
MAX_ACTIVE = 8
# Texts that are computed in one piece need their keys in no later step, so they share a slot.
_SHARED = MAX_ACTIVE


class Embedding:
    """One request for vectors, from its arrival to its last one. No text is empty."""

    def __init__(self, texts: Sequence[Sequence[int]], listener: Listener, now: float) -> None:
        self.texts = texts
        self.listener = listener
        self.is_cancelled = False
        self.arrived_at = now
        self.slot = -1
        self.vectors: list[Floats] = []
        self.computed = 0
        """Tokens, of all texts."""
        self.position = 0
        """Tokens of the text after the last vector that are in `_sum`."""
        self._sum: NDArray[np.float64] | None = None

    @property
    def prompt_tokens(self) -> int:
        """What was computed: texts that nobody waits for any more cost nothing."""
        return self.computed

    @property
    def completion_tokens(self) -> int:
        return 0

    @property
    def is_done(self) -> bool:
        return len(self.vectors) == len(self.texts)

    def add(self, rows: Floats) -> None:
        """The next hidden states."""
        for first in range(0, len(rows), BLOCK):
            block = rows[first : first + BLOCK].sum(axis=0, dtype=np.float64)
            self._sum = block if self._sum is None else self._sum + block
        self.position += len(rows)
        self.computed += len(rows)
        if self.position == len(self.texts[len(self.vectors)]):
            assert self._sum is not None  # noqa: S101 - no text is empty
            self.vectors.append(unit(self._sum).astype(np.float32))
            self.position, self._sum = 0, None


def unit(vector: NDArray[np.floating]) -> NDArray[np.floating]:
    """The vector of length 1 in its direction."""
    length = np.sqrt(np.vecdot(vector, vector))
    result: NDArray[np.floating] = vector / (length or 1.0)
    return result


Told = list[tuple[Embedding, Progress]]


class Embedder:
    def __init__(self, bundle: Bundle, context: int) -> None:
        self._bundle = bundle
        self._context = context
        self._cache: KVCache | None = None  # most engines are never asked
        self._active: deque[Embedding] = deque()
        self._waiting: deque[Embedding] = deque()
        self._free = list(range(MAX_ACTIVE))

    @property
    def is_idle(self) -> bool:
        return not self._active and not self._waiting

    @property
    def running(self) -> int:
        return len(self._active)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, embedding: Embedding) -> None:
        self._waiting.append(embedding)

    def step(self, tokens: int) -> tuple[Told, int]:
        """Compute at most so many tokens (a block at least); what it did for whom, and how many tokens it was.
        Whatever goes wrong in it is told to those it concerns."""
        self._take_turns()
        pieces = _pieces(self._active, max(tokens, BLOCK))
        if not pieces:
            return [], 0
        concerned = list(dict.fromkeys(embedding for embedding, *_ in pieces))
        try:
            count = self._compute(pieces)
        except Exception as exc:  # the loop outlives any fault
            _log.error("embedding step failed", requests=len(concerned), exc_info=exc)
            for embedding in concerned:
                self._leave(embedding)
            return _failed(concerned), 0
        done = [embedding for embedding in concerned if embedding.is_done]
        for embedding in done:
            self._leave(embedding)
        return [(embedding, Progress("", 0, "stop")) for embedding in done], count

    def fail_all(self) -> Told:
        told = _failed([*self._active, *self._waiting])
        self._active.clear()
        self._waiting.clear()
        self._free = list(range(MAX_ACTIVE))
        return told

    def drop_cancelled(self) -> int:
        """How many there were."""
        gone = [embedding for embedding in [*self._active, *self._waiting] if embedding.is_cancelled]
        for embedding in gone:
            self._leave(embedding)
        return len(gone)

    def _take_turns(self) -> None:
        """The one that was first goes last; who waits joins when there is a slot."""
        self._active.rotate(-1)
        while self._waiting and self._free:
            embedding = self._waiting.popleft()
            embedding.slot = self._free.pop()
            self._active.append(embedding)

    def _compute(self, pieces: "list[_Piece]") -> int:
        decoder = self._bundle.decoder
        if self._cache is None:
            self._cache = KVCache(self._bundle.config, MAX_ACTIVE + 1, self._context)
        chunks = []
        for embedding, text, start, count in pieces:
            slot = _SHARED if count == len(text) else embedding.slot
            chunks.append(Chunk(slot, start, decoder.embed(text[start : start + count])))
        for (embedding, *_), rows in zip(pieces, decoder.hidden(self._cache, chunks), strict=True):
            embedding.add(rows)
        return sum(count for *_, count in pieces)

    def _leave(self, embedding: Embedding) -> None:
        if embedding.slot < 0:
            self._waiting.remove(embedding)
            return
        self._active.remove(embedding)
        self._free.append(embedding.slot)
        embedding.slot = -1


_Piece = tuple[Embedding, Sequence[int], int, int]
"""Whose, of which text, from which token on, how many."""


def _pieces(active: Sequence[Embedding], tokens: int) -> list[_Piece]:
    """What one step computes: texts in their order, those of the request whose turn it is first."""
    pieces: list[_Piece] = []
    for embedding in active:
        start = embedding.position
        for text in embedding.texts[len(embedding.vectors) :]:
            left = len(text) - start
            count = left if left <= tokens else tokens // BLOCK * BLOCK
            if count:
                pieces.append((embedding, text, start, count))
                tokens -= count
            if count < left:
                break
            start = 0
    return pieces


def _failed(embeddings: Sequence[Embedding]) -> Told:
    error = StokerError("the engine failed while computing these embeddings", hint="its log has the details; try again")
    return [(embedding, Progress("", 0, error=error)) for embedding in embeddings]
