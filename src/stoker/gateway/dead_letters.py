"""What a person does with dead letters: find them, replay or drop some or many, get back those that went to SQS.

`dead_letters_api` is the HTTP of it. Each replay is let in with a reservation of its own, in the name of whoever
submitted the task and with what that one may do now; what cannot be let in stays where it was, and is said.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stoker.aws.sqs import Incoming, SqsQueue
from stoker.base import logs
from stoker.base.errors import Conflict, NotFound, NotPermitted, StokerError, Unavailable
from stoker.base.ids import ModelName, TaskId
from stoker.gateway.auth import permitted_models
from stoker.gateway.endpoints import endpoint_of
from stoker.gateway.services import Services
from stoker.meter.accounts import Account
from stoker.queue import State, Task, Which
from stoker.queue.letters import from_message
from stoker.queue.tasks import not_dead, not_taken_back

Json = dict[str, Any]

_log = logs.get(__name__)
PAGE = 100


@dataclass(frozen=True, slots=True)
class Chosen:
    """Some letters: these `ids`, or those of `models` that `which` takes; `most` of them at most."""

    models: Sequence[ModelName]
    which: Which
    most: int
    ids: Sequence[TaskId] = ()


@dataclass(slots=True)
class Outcome:
    """What became of many. `done`: by the id of a task, its state before and after. `stopped`: why it did not go on.
    `more`: some of those that are meant were not looked at."""

    done: dict[str, tuple[State, State]] = field(default_factory=dict)
    refused: list[Json] = field(default_factory=list)
    stopped: str | None = None
    more: bool = False

    def refuse(self, task_id: str | None, error: StokerError) -> None:
        self.refused.append({"id": task_id, "code": error.code, "message": error.message})


async def page(
    services: Services, models: Sequence[ModelName], which: Which, *, after: str | None, limit: int
) -> tuple[list[Task], str | None]:
    """Letters of several models, one model after the other, and the cursor that goes on: the model, a colon, and where
    in it. Raises NotFound for a model that is none of them."""
    begun, cursor = after.rpartition(":")[::2] if after else (models[0], "")
    if begun not in models:
        raise NotFound(
            f"after goes on with the model {begun[:80]!r}, which is none of those that are asked for",
            code="model_not_found",
        )
    left = list(models)[list(models).index(ModelName(begun)) :]
    found: list[Task] = []
    for number, model in enumerate(left):
        here = await services.queue.letters(model, which=which, after=cursor or None, limit=limit - len(found))
        found, cursor = [*found, *here.tasks], ""
        if here.next is not None:
            return found, f"{model}:{here.next}"
        if len(found) == limit:
            rest = left[number + 1 :]
            return found, f"{rest[0]}:" if rest else None
    return found, None


async def chosen(services: Services, wanted: Chosen) -> AsyncIterator[TaskId]:
    """The ids of all that are meant, those that died last first; more of them than `most`, if there are."""
    for task_id in wanted.ids:
        yield task_id
    after, models = None, () if wanted.ids else wanted.models
    while models:
        found, after = await page(services, models, wanted.which, after=after, limit=PAGE)
        for task in found:
            yield task.id
        if after is None:
            return


async def _each(services: Services, wanted: Chosen, do: Callable[[Task], Awaitable[Task]]) -> Outcome:
    outcome, count = Outcome(), 0
    async for task_id in chosen(services, wanted):
        if count == wanted.most:
            outcome.more = True
            break
        count += 1
        try:
            task = await services.queue.get(task_id)
            outcome.done[task_id] = (task.state, (await do(task)).state)
        except Unavailable as error:  # as it would be for all others
            outcome.refuse(task_id, error)
            outcome.stopped, outcome.more = error.message, True
            break
        except StokerError as error:
            outcome.refuse(task_id, error)
    return outcome


async def replay_many(services: Services, wanted: Chosen) -> Outcome:
    return await _each(services, wanted, lambda task: replay(services, task))


async def drop_many(services: Services, wanted: Chosen, *, by: str, why: str) -> Outcome:
    return await _each(services, wanted, lambda task: services.queue.drop(task.id, by=by, why=why))


async def replay(services: Services, task: Task, *, comes_back: bool = False) -> Task:
    """It spends anew, so it is let in anew. `comes_back`: it is a letter of another queue. Raises StokerError."""
    if not comes_back and task.state is not State.DEAD:
        raise not_dead(task.id, task.state, "replayed")
    account = await asyncio.to_thread(services.keys.account_of, task.key_id)
    _check_may_use(services, account, task)
    terms = services.terms.of(account, task.session, task.run, task.agent)
    quote = services.quote(endpoint_of(task.endpoint), task.model, task.body, is_elastic=False)
    return await services.inference.replay(task, terms, quote, comes_back=comes_back)


def _check_may_use(services: Services, account: Account, task: Task) -> None:
    """Raises NotPermitted, in words for somebody else than the key's holder; NotFound for a model that is gone."""
    platform = services.platform
    known_model(services, task.model)
    if account.tenant != task.tenant:
        raise NotPermitted(f"key {account.id}, which submitted the task, is not one of tenant {task.tenant}")
    if task.model not in permitted_models(account, None, platform.gateway.routes, list(platform.llm.models)):
        raise NotPermitted(f"key {account.id}, which submitted the task, may not use the model {task.model} any more")


def known_model(services: Services, name: str) -> ModelName:
    """Raises NotFound."""
    models = services.platform.llm.models
    if name not in models:
        raise NotFound(f"there is no model {name!r}; the models are: {', '.join(models)}", code="model_not_found")
    return ModelName(name)


# --- from SQS ---------------------------------------------------------------------------------------------------------


async def replay_from_sqs(services: Services, sqs: SqsQueue, *, most: int) -> Outcome:
    """Receive up to `most` letters and replay them. A message is deleted once its task waits again, or when it is a
    copy of one that was replayed or dropped before; what cannot be replayed now is put back. Raises Unavailable (SQS)
    when nothing could be received at all."""
    outcome = Outcome()
    left: list[Incoming] = []
    received = 0
    try:
        while received < most and (messages := await sqs.receive(most - received)):
            received += len(messages)
            for message in messages:
                if not await _take_back(services, sqs, message, outcome):
                    left.append(message)
            if outcome.stopped:
                break
        outcome.more = outcome.stopped is not None or received == most
    except Unavailable as error:
        if not received:
            raise
        outcome.stopped, outcome.more = error.message, True
    await _put_back(sqs, left)
    return outcome


async def _take_back(services: Services, sqs: SqsQueue, message: Incoming, outcome: Outcome) -> bool:
    """False: it has to go back."""
    if outcome.stopped:
        return False
    task_id = None
    try:
        letter = from_message(message.text)
        task_id = letter.id
        whole = await _as_known(services, letter)
        outcome.done[letter.id] = (whole.state, (await replay(services, whole, comes_back=True)).state)
    except Conflict as conflict:
        if conflict.code != "already_replayed":
            outcome.refuse(task_id, conflict)
            return False
        _log.info("a second copy of a dead letter has no effect", task=task_id)
    except Unavailable as error:
        outcome.refuse(task_id, error)
        outcome.stopped = error.message
        return False
    except StokerError as error:
        outcome.refuse(task_id, error)
        return False
    # If this fails, the copy that comes later finds that its life is over.
    await sqs.delete(message)
    return True


async def _as_known(services: Services, letter: Task) -> Task:
    """In the state that it has here, and with its body, by which its bound is judged, and which Redis has where it was
    too large for a message. Raises Conflict (of a copy that is of no use), before anything is reserved."""
    try:
        known = await services.queue.get(letter.id)
    except NotFound:
        known = None
    if known is not None and (known.replays != letter.replays or known.state not in (State.DEAD, State.FORWARDED)):
        raise not_taken_back(letter, "over")
    body = letter.body or (known.body if known is not None else {})
    if not body:
        raise not_taken_back(letter, "bodiless")
    return replace(letter, body=body, state=letter.state if known is None else known.state)


async def _put_back(sqs: SqsQueue, messages: Sequence[Incoming]) -> None:
    for message in messages:
        try:
            await sqs.put_back(message)
        except Unavailable as error:
            _log.info("messages come back by themselves", error=error.in_log)
            return
