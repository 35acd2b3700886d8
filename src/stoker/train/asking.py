"""Ask a model questions, greedily, and hear what it says: by the embedded engine's own runner, by torch, or over HTTP.

A question that gets no answer (too long for the model, refused, too late) is told, with the reason; that the evaluation
then fails is the gate's to say.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.base.clock import Clock, SystemClock
from stoker.base.errors import InvalidInput, StokerError, TimedOut, Unavailable
from stoker.policy.retry import delay_s
from stoker.spec import Run
from stoker.train.suites import Question

if TYPE_CHECKING:
    from stoker.engine.client import EngineClient
    from stoker.engine.sequences import Progress
    from stoker.nn.bundle import Bundle

AT_ONCE = 8
CONTEXT = 2048
"""Of the embedded engine, as `llm.models.*.limits.contextTokens` is unless it says otherwise."""
TRIES = 4
ANSWER_S = 120.0


@dataclass(frozen=True)
class Said:
    """`text` None: no answer came, for the reason `why`."""

    text: str | None
    why: str = ""


Ask = Callable[[Sequence[Question], int], list[Said]]
"""Questions and the most tokens of an answer -> what was said to each, in their order."""


def of_folder(run: Run, folder: Path) -> tuple[Ask, str]:
    """Whoever computes these weights, and what to call that: the embedded decoder, or torch where that does not know
    the architecture. Raises InvalidInput where neither does."""
    from stoker.nn import bundle as bundles

    try:
        return embedded(bundles.load(folder)), "the embedded engine"
    except InvalidInput as why:
        try:
            return by_torch(run, folder), "torch"
        except ImportError as error:
            raise InvalidInput(
                f"{folder}: the embedded engine does not compute this ({why.message}), and torch is not installed",
                hint="pip install 'stoker[train]', or serve it and ask with --url",
            ) from error


def embedded(bundle: "Bundle") -> Ask:
    """The same parsing, batching and sampling as `stoker up` serves by, in this process."""
    from stoker.engine import parsing
    from stoker.engine.parsing import Served
    from stoker.engine.runner import Runner
    from stoker.engine.scheduler import Limits
    from stoker.engine.sequences import Running
    from stoker.telemetry.metrics import Metrics

    def ask(questions: Sequence[Question], max_tokens: int) -> list[Said]:
        runner = Runner(bundle, "tuned", CONTEXT, Limits(AT_ONCE, len(questions)), SystemClock(), Metrics())
        task = "general" if bundle.projector is None else "vision"
        served = Served(bundle, "tuned", task, runner.context)
        heard: list[_Heard | Said] = []
        for question in questions:
            try:
                parse = parsing.chat if question.prompt is None else parsing.completion
                asked = parse(_body(question, max_tokens), served)
            except InvalidInput as error:
                heard.append(Said(None, error.message))
                continue
            listener = _Heard([])
            heard.append(listener)
            vocabulary = bundle.config.vocab_size
            runner.add(Running(asked.generation, bundle.tokenizer, vocabulary, listener, 0.0))
        while not runner.is_idle:
            for work, progress in runner.step():
                work.listener.take(progress)
        return [each if isinstance(each, Said) else each.said() for each in heard]

    return ask


@dataclass
class _Heard:
    """`engine.sequences.Listener` of one question."""

    parts: "list[Progress]"

    def take(self, progress: "Progress") -> bool:
        self.parts.append(progress)
        return False

    def wake(self) -> None:
        """Nobody waits: it is read when all is over."""

    def said(self) -> Said:
        error = self.parts[-1].error if self.parts else StokerError("nothing was computed")
        return Said("".join(part.text for part in self.parts)) if error is None else Said(None, error.message)


def _body(question: Question, max_tokens: int) -> dict[str, Any]:
    body: dict[str, Any] = {"max_tokens": max_tokens, "temperature": 0}
    if question.prompt is not None:
        return {**body, "prompt": question.prompt}
    if question.tools:
        body["tools"] = list(question.tools)
    return {**body, "messages": list(question.messages)}


# Over HTTP


def endpoint(url: str, key: str | None, model: str, *, clock: Clock | None = None, seed: int = 0) -> Ask:
    """A server that speaks the OpenAI API. Several questions at once; what is transient is tried again with jitter. The
    Ask raises what every question would meet: a wrong key, a model that is not there."""

    def ask(questions: Sequence[Question], max_tokens: int) -> list[Said]:
        return asyncio.run(_ask_all(url, key, model, questions, max_tokens, clock or SystemClock(), seed))

    return ask


async def _ask_all(
    url: str, key: str | None, model: str, questions: Sequence[Question], max_tokens: int, clock: Clock, seed: int
) -> list[Said]:
    from stoker.engine.client import EngineClient

    room, chance = asyncio.Semaphore(AT_ONCE), random.Random(seed)

    async with EngineClient(url, model=model, key=key, name="the model's server") as client:

        async def one(question: Question) -> Said:
            async with room:
                path = "/v1/chat/completions" if question.prompt is None else "/v1/completions"
                return await _patiently(client, path, _body(question, max_tokens), clock, chance)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(question)) for question in questions]
        except ExceptionGroup as errors:  # the first one ended all; people read one
            raise errors.exceptions[0] from errors
        return [task.result() for task in tasks]


async def _patiently(
    client: "EngineClient", path: str, body: dict[str, Any], clock: Clock, chance: random.Random
) -> Said:
    why = ""
    for attempt in range(1, TRIES + 1):
        try:
            answer = await client.complete(path, body, within_s=ANSWER_S)
        except (Unavailable, TimedOut) as error:
            why = error.message
        else:
            if answer.status < 400:
                return _said_in(answer.json())
            try:
                answer.raise_for_error()
            except StokerError as error:
                if answer.status in (401, 403, 404):
                    raise
                why = error.message
                if answer.status < 500 and answer.status not in (408, 429):
                    return Said(None, why)
        if attempt < TRIES:
            await clock.sleep(delay_s(attempt, base_s=1.0, cap_s=15.0, random=chance))
    return Said(None, f"{why} ({TRIES} tries)")


def _said_in(answer: Any) -> Said:
    from stoker.engine.values import dumped

    try:
        choice = answer["choices"][0]
        message = choice["message"] if "message" in choice else {"content": choice["text"]}
        calls, content = message.get("tool_calls"), message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        return Said(None, "the answer has no message")
    if calls:
        return Said(dumped(calls))
    return Said(content) if isinstance(content, str) else Said(None, "the answer has no text")


def served_digest(url: str, key: str | None, model: str) -> str | None:
    """Digest of the weights that a server says it serves as `model`: in /v1/models, as Stoker's engine does, or in the
    model's name, NAME@DIGEST. None: it does not say. Raises as the server does."""
    from stoker.registry.cards import is_digest

    if is_digest(model.rpartition("@")[2]):
        return model.rpartition("@")[2]
    found = asyncio.run(_models(url, key))
    for each in found:
        if isinstance(each, Mapping) and each.get("id") == model and is_digest(each.get("digest")):
            return str(each["digest"])
    return None


async def _models(url: str, key: str | None) -> Sequence[Any]:
    from stoker.web.client import HttpClient

    base = url.rstrip("/")
    scheme, _, rest = base.partition("://")
    host, slash, path = rest.partition("/")
    async with HttpClient(f"{scheme}://{host}", key=key, name="the model's server") as http:
        said = await http.get_json((f"/{path}" if slash else "/v1") + "/models")
    data = said.get("data") if isinstance(said, Mapping) else None
    return data if isinstance(data, list) else []


# By torch


def by_torch(run: Run, folder: Path) -> Ask:
    """One question after the other, each token from the whole of what stands before it: for small evaluations, and for
    architectures that the embedded engine does not compute. Raises ImportError without torch."""
    import torch

    from stoker.train import greedy

    model = greedy.load(run, folder)

    def ask(questions: Sequence[Question], max_tokens: int) -> list[Said]:
        with torch.inference_mode():
            return [_by_torch(model, question, max_tokens) for question in questions]

    return ask


def _by_torch(model: Any, question: Question, max_tokens: int) -> Said:
    try:
        return Said(model.answer(question, max_tokens))
    except ValueError as error:
        return Said(None, str(error))
