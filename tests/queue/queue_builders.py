"""Tasks and usage with good defaults, for the tests of the queue."""

import asyncio
from collections.abc import Callable
from typing import Any

from stoker.base.ids import KeyId, ModelName, TenantName
from stoker.meter.usage import UsageRecord
from stoker.queue import Claim, NewTask, Partial, Queue

MODEL = ModelName("general")


def a_task(**changes: Any) -> NewTask:
    given: dict[str, Any] = {
        "model": MODEL,
        "tenant": TenantName("acme"),
        "key_id": KeyId("key_1"),
        "endpoint": "/v1/chat/completions",
        "body": {"messages": [{"role": "user", "content": "héllo"}]},
    }
    return NewTask(**{**given, **changes})


def usage_of(claim: Claim, tokens: int = 7) -> UsageRecord:
    return a_record(claim.task.usage_id, tokens)


def a_record(record_id: str, tokens: int = 7) -> UsageRecord:
    return UsageRecord(
        id=record_id,
        kind="task",
        status="done",
        tenant="acme",
        key_id="key_1",
        model=MODEL,
        prompt_tokens=3,
        completion_tokens=tokens,
        nano_usd=10,
        started_at=1.0,
        ended_at=2.0,
    )


def partial_of(claim: Claim, used: UsageRecord, *, chunks: int = 0, said: str = "so far") -> Partial:
    """What the answer of a claim has come to, when its attempt used that."""
    before = claim.partial
    return Partial(
        answer={"said": said},
        chunks=chunks,
        token=claim.answer_token,
        prompt_tokens=used.prompt_tokens + (before.prompt_tokens if before else 0),
        cached_tokens=used.cached_tokens + (before.cached_tokens if before else 0),
        completion_tokens=used.completion_tokens + (before.completion_tokens if before else 0),
        nano_usd=used.nano_usd + (before.nano_usd if before else 0),
    )


async def claim_one(queue: Queue, worker: str = "w1", **options: Any) -> Claim:
    claims = await queue.claim(MODEL, worker, **options)
    assert len(claims) == 1
    return claims[0]


async def all_usage(queue: Queue) -> list[UsageRecord]:
    """Every record that has not been acknowledged, in order."""
    records = dict(await queue.read_usage("test", count=10_000, redeliver_after_s=0))
    records |= dict(await queue.read_usage("test", count=10_000))
    return list(records.values())


async def until(holds: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Returns when `holds` does; for what another process does and tells nobody."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)
