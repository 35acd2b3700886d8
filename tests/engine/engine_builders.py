"""What the tests of the engine share: the default weights once, a runner, and a real server on a free port."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache

from PIL import Image

from stoker.base.clock import SystemClock
from stoker.engine import app
from stoker.engine.loop import StepLoop
from stoker.engine.parsing import Served
from stoker.engine.runner import Runner
from stoker.engine.scheduler import Limits
from stoker.engine.sequences import Generation, Progress, Running
from stoker.nn import bundle as bundles
from stoker.nn.bundle import Bundle
from stoker.nn.sampling import Sampling
from stoker.nn.tokenizer import Message
from stoker.telemetry import metrics
from stoker.telemetry.metrics import Metrics
from stoker.telemetry.spans import Tracing
from stoker.testing import ManualClock
from stoker.web import server
from stoker.web.client import HttpClient

MODEL = "small"
GREEDY = Sampling(temperature=0, top_p=1)


@cache
def default_bundle() -> Bundle:
    return bundles.load()


def make_runner(*, max_running: int = 4, context: int = 512, max_waiting: int = 4) -> Runner:
    return Runner(default_bundle(), MODEL, context, Limits(max_running, max_waiting), ManualClock(), Metrics())


def question(text: str) -> list[int]:
    return default_bundle().tokenizer.chat_prompt([Message("user", [text])])


def png(colour: tuple[int, int, int]) -> str:
    """The data: URL of an image of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (24, 16), colour).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


class Heard:
    """One request in a runner without a thread, and all that was said to it."""

    def __init__(self, runner: Runner, generation: Generation) -> None:
        bundle = runner.bundle
        self.progress: list[Progress] = []
        self.sequence = Running(generation, bundle.tokenizer, bundle.config.vocab_size, self, now=0.0)

    def take(self, progress: Progress) -> bool:
        self.progress.append(progress)
        return True

    def wake(self) -> None: ...

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.progress)

    @property
    def is_over(self) -> bool:
        return bool(self.progress) and self.progress[-1].is_last


def ask(runner: Runner, prompt: list[int], *, max_tokens: int = 40, **options: object) -> Heard:
    heard = Heard(runner, Generation(prompt, max_tokens, **{"sampling": GREEDY, **options}))  # type: ignore[arg-type]
    runner.add(heard.sequence)
    return heard


def step(runner: Runner) -> None:
    for sequence, progress in runner.step():
        sequence.listener.take(progress)


def run_until_over(runner: Runner, *requests: Heard) -> None:
    for _ in range(10_000):
        if all(request.is_over for request in requests):
            return
        step(runner)
    raise AssertionError("the requests did not end in 10,000 steps")


@dataclass
class Serving:
    url: str
    loop: StepLoop
    client: HttpClient

    async def metric(self, name: str) -> float:
        answer = await self.client.request("GET", "/metrics")
        return metrics.read(answer.body.decode(), name)[name]

    async def until(self, is_so: Callable[[dict[str, float]], bool], *names: str) -> None:
        """Wait until the metrics say so; fails after 10 s."""
        async with asyncio.timeout(10):
            while True:
                answer = await self.client.request("GET", "/metrics")
                if is_so(metrics.read(answer.body.decode(), *names)):
                    return


@asynccontextmanager
async def serving(
    *,
    task: str = "general",
    max_running: int = 4,
    max_waiting: int = 4,
    context: int = 1024,
    tracing: Tracing | None = None,
) -> AsyncIterator[Serving]:
    """The real application behind a real socket, with a real thread that computes."""
    clock, stop, ready = SystemClock(), asyncio.Event(), asyncio.Event()
    runner = Runner(default_bundle(), MODEL, context, Limits(max_running, max_waiting), clock, Metrics())
    loop = StepLoop(runner, clock)
    loop.start()
    listening = server.bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    application = app.build(loop, Served(default_bundle(), MODEL, task, runner.context), clock, tracing=tracing)
    running = asyncio.create_task(server.serve(application, listening, stop, on_ready=ready.set, grace_s=2))
    try:
        await ready.wait()
        async with HttpClient(url) as client:
            yield Serving(url, loop, client)
    finally:
        stop.set()
        await running
        loop.stop()
