"""The batch and its step: acts on what the scheduler decides. One thread calls it, see `loop`; it knows no HTTP.

A sequence has a slot of the key-value cache from joining to its last token. Slots in use are kept side by side from 0,
because the decoder reads neighbours without copying.
"""

from collections import deque
from collections.abc import Iterable

import numpy as np

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.engine.embedder import Embedder, Embedding
from stoker.engine.metrics import EngineMetrics
from stoker.engine.scheduler import Limits, plan
from stoker.engine.sequences import Progress, Running, Work
from stoker.nn.bundle import Bundle
from stoker.nn.decoder import Chunk, KVCache
from stoker.nn.sampling import choose
from stoker.nn.tokenizer import SPECIAL
from stoker.telemetry.metrics import Metrics

_log = logs.get(__name__)

Told = list[tuple[Work, Progress]]
_Answers = list[tuple[Running, Progress]]


class Runner:
    def __init__(
        self, bundle: Bundle, model: str, context: int, limits: Limits, clock: Clock, metrics: Metrics
    ) -> None:
        self.bundle = bundle
        self.context = min(context, bundle.config.max_position_embeddings)
        self.limits = limits
        self.metrics = EngineMetrics(metrics, model, self.usage)
        self.waiting: deque[Running] = deque()
        self.running: list[Running] = []
        """By slot: `running[3]` has slot 3."""
        self.embedder = Embedder(bundle, self.context)
        self._clock = clock
        self._cache = KVCache(bundle.config, limits.max_running, self.context)
        # An answer ends or goes on; it never begins a message of another role.
        end = bundle.tokenizer.end
        self._never = [token for token in range(len(SPECIAL)) if token != end]

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.running and self.embedder.is_idle

    def usage(self) -> tuple[int, int, float]:
        """Requests running, requests waiting, share of the cache in use. Any thread may ask."""
        used = sum(sequence.computed for sequence in list(self.running))
        running = len(self.running) + self.embedder.running
        waiting = len(self.waiting) + self.embedder.waiting
        return running, waiting, used / (self._cache.slots * self._cache.context)

    def add(self, work: Work) -> None:
        if isinstance(work, Embedding):
            self.embedder.add(work)
        elif isinstance(work, Running):
            self.waiting.append(work)

    def step(self) -> Told:
        """Compute one step; returns what it did for whom. Whatever goes wrong in it is told to those it concerns."""
        self._drop_cancelled()
        is_busy = bool(self.running or self.waiting)
        return [*self._generate(), *self._embed(is_busy=is_busy)]

    def _embed(self, *, is_busy: bool) -> Told:
        """A piece that delays those who generate by no more than a few of their steps."""
        told, count = self.embedder.step(self.limits.busy_embedding if is_busy else self.limits.idle_embedding)
        if count:
            self.metrics.prompt_tokens.inc(count)
        for embedding, progress in told:
            self.metrics.finished[progress.finish_reason or "error"].inc()
            if progress.error is None:
                self.metrics.latency.observe(self._clock.monotonic() - embedding.arrived_at)
        return [*told]

    def _generate(self) -> _Answers:
        generating = [sequence for sequence in self.running if not sequence.left]
        unfinished = sorted(
            (sequence for sequence in self.running if sequence.left), key=lambda sequence: sequence.arrived_at
        )
        decided = plan(
            self.limits,
            len(generating),
            [sequence.left for sequence in unfinished],
            [sequence.left for sequence in self.waiting],
        )
        for _ in range(decided.join):
            unfinished.append(self._join(self.waiting.popleft()))
        chunks = [(unfinished[index], count) for index, count in decided.chunks]
        if not generating and not chunks:
            return []
        try:
            told = self._compute(generating, chunks)
        except Exception as exc:  # the loop outlives any fault; those in the step are told, the others go on
            _log.error("step failed", running=len(generating), prompts=len(chunks), exc_info=exc)
            told = self._failed([*generating, *(sequence for sequence, _ in chunks)])
        for sequence, progress in told:
            if progress.is_last:
                self._leave(sequence)
                self._account(sequence, progress)
        return told

    def fail_all(self) -> Told:
        """Begin again without any request, and tell each of them."""
        told = self._failed([*self.running, *self.waiting])
        self.running.clear()
        self.waiting.clear()
        for sequence, progress in told:
            self._account(sequence, progress)
        embeddings = self.embedder.fail_all()
        self.metrics.finished["error"].inc(len(embeddings))
        return [*told, *embeddings]

    def _compute(self, generating: list[Running], chunks: list[tuple[Running, int]]) -> _Answers:
        logits = self.bundle.decoder.step(
            self._cache,
            [sequence.slot for sequence in generating],
            [sequence.computed for sequence in generating],
            [sequence.generated[-1] for sequence in generating],
            [Chunk(sequence.slot, sequence.computed, self._embeddings(sequence, count)) for sequence, count in chunks],
        )
        for sequence in generating:
            sequence.computed += 1
        for sequence, count in chunks:
            sequence.computed += count
        if chunks:
            self.metrics.prompt_tokens.inc(sum(count for _, count in chunks))
        ready = generating + [sequence for sequence, _ in chunks if not sequence.left]
        if len(ready) < len(logits):
            rows = [*range(len(generating))]
            rows += [len(generating) + number for number, (sequence, _) in enumerate(chunks) if not sequence.left]
            logits = logits[rows]
        return self._choose(ready, logits) if ready else []

    def _choose(self, ready: list[Running], logits: np.ndarray) -> _Answers:
        logits[:, self._never] = -np.inf
        for row, sequence in enumerate(ready):
            if sequence.bias is not None:
                logits[row] += sequence.bias
        samplings = [sequence.generation.sampling for sequence in ready]
        tokens = choose(logits, samplings, [sequence.chance() for sequence in ready])
        now = self._clock.monotonic()
        told: _Answers = []
        for sequence, token in zip(ready, tokens, strict=True):
            told.append((sequence, sequence.accept(token)))
            self._time(sequence, now)
        self.metrics.generation_tokens.inc(len(ready))
        return told

    def _embeddings(self, sequence: Running, count: int) -> np.ndarray:
        """The next `count` rows of the prompt, soft tokens where it has image placeholders."""
        asked = sequence.generation
        tokens = np.asarray(asked.prompt, dtype=np.intp)
        part = tokens[sequence.computed : sequence.computed + count]
        rows = self.bundle.decoder.embed(part)
        if asked.soft_tokens is not None:
            image = self.bundle.tokenizer.image
            before = int((tokens[: sequence.computed] == image).sum())
            places = part == image
            rows[places] = asked.soft_tokens[before : before + int(places.sum())]
        return rows

    def _join(self, sequence: Running) -> Running:
        sequence.slot = len(self.running)
        self.running.append(sequence)
        sequence.joined_at = self._clock.monotonic()
        self.metrics.queue_time.observe(sequence.joined_at - sequence.arrived_at)
        return sequence

    def _leave(self, sequence: Running) -> None:
        """Free the slot; the sequence of the last slot moves into it."""
        last = self.running.pop()
        if last is not sequence:
            self._cache.move(last.slot, sequence.slot, last.computed)
            last.slot = sequence.slot
            self.running[sequence.slot] = last

    def _drop_cancelled(self) -> None:
        for sequence in [sequence for sequence in self.running if sequence.is_cancelled]:
            self._leave(sequence)
            self.metrics.finished["abort"].inc()
        gone = [sequence for sequence in self.waiting if sequence.is_cancelled]
        for sequence in gone:
            self.waiting.remove(sequence)
            self.metrics.finished["abort"].inc()
        self.metrics.finished["abort"].inc(self.embedder.drop_cancelled())

    def _failed(self, sequences: Iterable[Running]) -> _Answers:
        error = StokerError("the engine failed while computing this answer", hint="its log has the details; try again")
        told: _Answers = []
        for sequence in sequences:
            told.append((sequence, Progress("", len(sequence.generated), error=error)))
        return told

    def _account(self, sequence: Running, progress: Progress) -> None:
        self.metrics.finished[progress.finish_reason or "error"].inc()
        if progress.error is not None:
            return
        self.metrics.latency.observe(sequence.last_token_at - sequence.arrived_at)
        later = len(sequence.generated) - 1
        if later:
            self.metrics.per_token.observe((sequence.last_token_at - sequence.first_token_at) / later)

    def _time(self, sequence: Running, now: float) -> None:
        if len(sequence.generated) == 1:
            sequence.first_token_at = now
            self.metrics.first_token.observe(now - sequence.arrived_at)
        else:
            self.metrics.inter_token.observe(now - sequence.last_token_at)
        sequence.last_token_at = now
