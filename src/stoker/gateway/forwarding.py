"""Dead letters on their way to SQS, where `keda.scalers.sqs` is on. Every gateway process runs this; one at a time
works. Lines of batches stay: their batch fetches what came of them, and drops their letters.

A letter leaves Redis only after SQS has confirmed it. Whoever dies in between leaves it in both places, and the next
one sends it again: SQS may hold copies, and `Queue.take_back` runs a task once, however many of them come back.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from random import Random
from typing import Any

from stoker.aws.sqs import MOST_AT_ONCE, Outgoing, SqsQueue
from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import InvalidInput, NotFound, StokerError
from stoker.base.ids import ModelName
from stoker.gateway import batch_lines
from stoker.policy.retry import delay_s
from stoker.queue import Queue, State, Task
from stoker.queue.letters import Message, code_of, to_message

_log = logs.get(__name__)

NAME = "forwarder"
LOOK_EVERY_S = 2.0
# Longer than one call of SQS may take with all its timeouts, so that who works is not taken for dead.
LEASE_S = 45.0
RESIGN_S = 0.5  # at its end, where Redis may be away
BACK_OFF_BASE_S, BACK_OFF_CAP_S = 2.0, 60.0
LETTERS_AT_ONCE = MOST_AT_ONCE  # so many bodies are in memory at once
# Of the room of a message for its attributes: three names with what they say.
ATTRIBUTES_BYTES = 1024
# What SQS will not take is tried again after this long; meanwhile others go on.
REFUSED_S = 600.0
REFUSED_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the forwarder says of itself; in Redis, since another process may go on. Times: seconds since the epoch."""

    state: str = "idle"  # or `away`: SQS does not answer, or not with yes
    sent: int = 0  # confirmed by SQS, ever
    sent_at: float | None = None
    failures: int = 0  # in a row
    error: str | None = None
    next_try_at: float | None = None
    refused: Mapping[str, str] = field(default_factory=dict)  # letters that SQS does not take, and why: some of them

    @classmethod
    def of(cls, said: Mapping[str, Any] | None) -> "Said":
        """What a newer version says besides is not ours to understand."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in (said or {}).items() if name in known})


@dataclass(frozen=True, slots=True)
class Parcel:
    """A letter and the message that it becomes."""

    letter: Task
    message: Message

    @property
    def outgoing(self) -> Outgoing:
        attributes = {
            "model": str(self.letter.model),
            "tenant": str(self.letter.tenant),
            "reason": _writable(code_of(self.letter)),
        }
        task_id = str(self.letter.id)
        return Outgoing(id=self.letter.usage_id, group=task_id, text=self.message.text, attributes=attributes)


def batches(parcels: Sequence[Parcel], room_bytes: int) -> Iterator[list[Parcel]]:
    """In their order, as many in each as one call takes."""
    batch: list[Parcel] = []
    size = 0
    for parcel in parcels:
        more = parcel.outgoing.size_bytes
        if batch and (len(batch) == MOST_AT_ONCE or size + more > room_bytes):
            yield batch
            batch, size = [], 0
        batch.append(parcel)
        size += more
    if batch:
        yield batch


class Forwarder:
    def __init__(
        self, queue: Queue, sqs: SqsQueue, models: Sequence[ModelName], clock: Clock, random: Random, *, holder: str
    ) -> None:
        self._queue = queue
        self._sqs = sqs
        self._models = models
        self._clock = clock
        self._random = random
        self._holder = holder
        self._refused: dict[str, tuple[float, str]] = {}  # by usage id: when it is tried again, and why it was refused

    async def forward_forever(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                await self.look()
                await self._clock.sleep(LOOK_EVERY_S)
        finally:
            with contextlib.suppress(StokerError, TimeoutError):  # else its lease runs out by itself
                async with asyncio.timeout(RESIGN_S):
                    await self._queue.resign(NAME, self._holder)

    async def look(self) -> None:
        """Send what lies dead, if it is our turn, and it is time to try."""
        try:
            if not await self._leads():
                return
            said = Said.of(await self._queue.forwarding())
            if said.next_try_at is None or said.next_try_at <= self._clock.now():
                await self._forward(said)
        except StokerError as error:
            _log.warning("dead letters wait for Redis", error=error.in_log)

    async def _leads(self) -> bool:
        return await self._queue.lead(NAME, self._holder, ttl_s=LEASE_S)

    async def _forward(self, before: Said) -> None:
        """Raises StokerError of Redis."""
        said = before
        try:
            room = await self._sqs.room_bytes()
            for model in self._models:
                said = await self._forward_model(model, room, said)
        except StokerError as error:
            if error.code != "sqs_unavailable":
                raise
            said = self._away(Said.of(await self._queue.forwarding()), error)
        else:
            said = replace(said, state="idle", failures=0, error=None, next_try_at=None, refused=self._shown_refused())
        if said != before:
            await self._queue.say_forwarding(asdict(said))

    def _away(self, said: Said, error: StokerError) -> Said:
        failures = said.failures + 1
        wait_s = delay_s(failures, base_s=BACK_OFF_BASE_S, cap_s=BACK_OFF_CAP_S, random=self._random)
        _log.warning("dead letters wait for SQS", error=error.in_log, failures=failures, wait_s=round(wait_s, 1))
        message = error.message if error.hint is None else f"{error.message} ({error.hint})"
        next_try_at = self._clock.now() + wait_s
        return replace(said, state="away", failures=failures, error=message, next_try_at=next_try_at)

    async def _forward_model(self, model: ModelName, room_bytes: int, said: Said) -> Said:
        after = None
        while True:
            page = await self._queue.letters(model, after=after, limit=LETTERS_AT_ONCE)
            for batch in batches(await self._parcels(page.tasks, room_bytes), room_bytes):
                if not await self._leads():
                    return said  # another one does it now
                sent = await self._send(batch)
                if sent:
                    now = self._clock.now()
                    said = replace(said, state="sending", sent=said.sent + sent, sent_at=now, failures=0, error=None)
                    said = replace(said, next_try_at=None)
                    await self._queue.say_forwarding(asdict(said))
            after = page.next
            if after is None:
                return said

    async def _parcels(self, letters: Sequence[Task], room_bytes: int) -> list[Parcel]:
        now, found = self._clock.now(), []
        self._refused = {name: refused for name, refused in self._refused.items() if refused[0] > now}
        for letter in letters:
            if batch_lines.is_line(letter.id) or letter.usage_id in self._refused:
                continue
            try:
                whole = await self._queue.get(letter.id)  # a page has no bodies
                if whole.state is not State.DEAD:
                    continue
                found.append(Parcel(whole, to_message(whole, max_bytes=room_bytes - ATTRIBUTES_BYTES)))
            except NotFound:
                continue
            except InvalidInput as error:
                self._refuse(letter, error.message)
        return found

    async def _send(self, batch: Sequence[Parcel]) -> int:
        """How many left Redis."""
        refused = await self._sqs.send([parcel.outgoing for parcel in batch])
        sent = 0
        for parcel in batch:
            why = refused.get(parcel.letter.usage_id)
            if why is not None:
                self._refuse(parcel.letter, f"SQS said {why}")
            elif await self._queue.forwarded(parcel.letter, has_body=parcel.message.has_body):
                sent += 1
        return sent

    def _refuse(self, letter: Task, why: str) -> None:
        _log.warning("a dead letter is refused by SQS and stays in Redis", task=letter.id, why=why)
        self._refused[letter.usage_id] = (self._clock.now() + REFUSED_S, why)

    def _shown_refused(self) -> dict[str, str]:
        return {name: why for name, (_, why) in list(self._refused.items())[:REFUSED_SHOWN]}


def _writable(text: str) -> str:
    """What an attribute may hold: an engine says what it likes."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:128]
