"""Tokens per second of the embedded engine beside `transformers.generate` with the same weights, in one run.

    python benchmarks/engine/compare.py --peer-python PATH [--pairs 5] [--tokens 128] [--batches 1,8,32]

PATH is a Python with torch and transformers (tested: 2.13.0 and 5.x). Every round measures each way once, one after the
other, so that what else the machine does hits all alike; the table has medians over the rounds and the median of the
ratios of each round. One thread each. Greedy, the same prompt, and the token that ends an answer forbidden, so that all
generate as many. Set OPENBLAS_CORETYPE yourself to see what another kernel of numpy's BLAS gives.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
PROMPT = "Tell me a story about a fox."
END = 1  # the id of the token that ends an answer
WAYS = ["runner", "http", "http stream", "transformers"]


def peer() -> None:
    """The other side: reads {"batch", "tokens"} lines, writes {"seconds"} lines. Runs in the other Python."""
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    begin = json.loads(sys.stdin.readline())
    model = transformers.LlamaForCausalLM.from_pretrained(begin["weights"], dtype=torch.float32)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"ready": True, "versions": versions}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        tokens = torch.tensor([begin["prompt"]] * asked["batch"])
        began = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=asked["tokens"],
                min_new_tokens=asked["tokens"],
                do_sample=False,
                pad_token_id=END,
            )
        seconds = time.perf_counter() - began
        made = out.shape[1] - tokens.shape[1]
        assert made == asked["tokens"], f"generated {made} tokens, not {asked['tokens']}"
        print(json.dumps({"seconds": seconds}), flush=True)


class Peer:
    def __init__(self, python: str, weights: Path, prompt: list[int]) -> None:
        self._process = subprocess.Popen(
            [python, __file__, "--role", "peer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ONE_THREAD, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
        )
        self.versions = self._ask({"weights": str(weights), "prompt": prompt})["versions"]

    def seconds(self, batch: int, tokens: int) -> float:
        return float(self._ask({"batch": batch, "tokens": tokens})["seconds"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _ask(self, message: dict[str, object]) -> dict[str, object]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the peer ended; its message is above")
        return json.loads(line)


def runner_seconds(batch: int, tokens: int) -> float:
    from stoker.base.clock import SystemClock
    from stoker.engine.runner import Runner
    from stoker.engine.scheduler import Limits
    from stoker.engine.sequences import Generation, Progress, Running
    from stoker.nn.sampling import Sampling
    from stoker.telemetry.metrics import Metrics

    class Listener:
        def take(self, progress: Progress) -> bool:
            return False

        def wake(self) -> None: ...

    bundle = loaded()
    runner = Runner(bundle, "bench", 1024, Limits(batch, batch), SystemClock(), Metrics())
    generation = Generation(prompt_tokens(), tokens, Sampling(0, 1), logit_bias={END: -100.0})
    for _ in range(batch):
        runner.add(Running(generation, bundle.tokenizer, bundle.config.vocab_size, Listener(), 0.0))
    began = time.perf_counter()
    while not runner.is_idle:
        runner.step()
    return time.perf_counter() - began


_LOADED: list[object] = []


def loaded():
    """The default weights, once. Imported late: the peer's Python has no Stoker."""
    from stoker.nn import bundle

    if not _LOADED:
        _LOADED.append(bundle.load())
    return _LOADED[0]


def prompt_tokens() -> list[int]:
    from stoker.nn.tokenizer import Message

    return loaded().tokenizer.chat_prompt([Message("user", [PROMPT])])


class Server:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stoker.engine", "--model", "bench", "--max-running", "32"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._url = json.loads(self._process.stdout.readline())["url"]

    def seconds(self, batch: int, tokens: int, *, stream: bool) -> float:
        return asyncio.run(self._measure(batch, tokens, stream))

    async def _measure(self, batch: int, tokens: int, stream: bool) -> float:
        from stoker.web.client import HttpClient

        body = {"messages": [{"role": "user", "content": PROMPT}], "logit_bias": {str(END): -100}}
        body |= {"max_tokens": tokens, "temperature": 0}

        async def whole(client: HttpClient) -> None:
            usage = (await client.post_json("/v1/chat/completions", body))["usage"]
            assert usage["completion_tokens"] == tokens

        async def streamed(client: HttpClient) -> None:
            async with client.stream("POST", "/v1/chat/completions", body={**body, "stream": True}) as answer:
                assert [event async for event in answer.events][-1] == b"[DONE]"

        async with HttpClient(self._url) as client:
            ask = streamed if stream else whole
            await asyncio.gather(*(client.request("GET", "/health") for _ in range(batch)))  # open the connections
            began = time.perf_counter()
            await asyncio.gather(*(ask(client) for _ in range(batch)))
            return time.perf_counter() - began

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(15)


def report(batches: list[int], speeds: dict[tuple[str, int], list[float]]) -> None:
    head = "tokens/s: median (min to max)"
    print(f"\n{head:<30}" + "".join(f"{'batch ' + str(batch):>26}" for batch in batches))
    for way in WAYS:
        print(f"{way:<30}" + "".join(f"{_spread(speeds[way, batch], '{:,.0f}'):>26}" for batch in batches))
    for way in WAYS[:-1]:
        cells = []
        for batch in batches:
            pairs = zip(speeds[way, batch], speeds["transformers", batch], strict=True)
            cells.append(f"{_spread([mine / other for mine, other in pairs], '{:.2f}'):>26}")
        print(f"{way + ' / transformers':<30}" + "".join(cells))


def _spread(values: list[float], form: str) -> str:
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="a Python with torch and transformers")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--role", choices=["main", "peer"], default="main", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role == "peer":
        return peer()
    if not arguments.peer_python:
        parser.error("--peer-python is missing")
    os.environ.update(ONE_THREAD)  # before numpy is imported
    import numpy

    from stoker.nn.bundle import default_folder

    batches = [int(batch) for batch in arguments.batches.split(",")]
    other, server = Peer(arguments.peer_python, default_folder(), prompt_tokens()), Server()
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    coretype = os.environ.get("OPENBLAS_CORETYPE", "not set")
    print(f"numpy {numpy.__version__}, OPENBLAS_CORETYPE {coretype}, {loaded().decoder.row_rule}")
    print(f"Python {platform.python_version()}, {other.versions}")
    ways: dict[str, Callable[[int, int], float]] = {
        "runner": runner_seconds,
        "http": lambda batch, tokens: server.seconds(batch, tokens, stream=False),
        "http stream": lambda batch, tokens: server.seconds(batch, tokens, stream=True),
        "transformers": other.seconds,
    }
    speeds: dict[tuple[str, int], list[float]] = {(way, batch): [] for way in WAYS for batch in batches}
    try:
        for batch in batches:
            for way in WAYS:
                ways[way](batch, 16)  # warm
            for number in range(arguments.pairs):
                for way in WAYS if number % 2 else reversed(WAYS):
                    speeds[way, batch].append(batch * arguments.tokens / ways[way](batch, arguments.tokens))
                print(f"batch {batch}, round {number + 1} of {arguments.pairs}", file=sys.stderr)
    finally:
        server.close()
        other.close()
    report(batches, speeds)
    return None


if __name__ == "__main__":
    main()
