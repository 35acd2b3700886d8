"""Does a gateway stand bytes that nobody should send? A real one, a seed, and as many connections as asked for.

    .venv/bin/python benchmarks/gateway/fuzz.py [--seed 1] [--requests 20000] [--seconds S] [--clients 32] [--only N]

Each connection sends one case of `fuzz_bytes.py`, beside up to `--clients` others (`--only`: this one alone, with what
it sends and gets). What must hold:

- no answer of 5xx but 503: the mock behind the gateway always answers;
- each connection is answered or closed within BOUND_S, of a gateway that waits 1 s for bytes that do not come;
- the gateway answers a good request after each BATCH;
- its log has no traceback;
- after it all it has no more descriptors and tasks than before.

Whatever does not hold is printed once, with the case that showed it; then the exit code is 1.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import mock_upstream
import targets as made
from fuzz_bytes import ADMIN, KEY, RESET, STAY, WEBSOCKET, Case, case_of
from fuzzed import WAIT_S
from targets import Target

from stoker.meter.keys import KeyStore
from stoker.meter.store import Store

HERE = Path(__file__).parent
BATCH = 200
BOUND_S = 20.0
"""Of which the gateway's own patience is 1 s, and the rest the machine's."""
QUIET_S = 2 * WAIT_S
"""Who was answered stays no longer than this without a word more."""
SHOWN_BYTES = 600
ONE_EACH = Counter({"Doorbells._read": 1})
"""Tasks that a process begins when it first needs them, and keeps."""
_STATUS = re.compile(rb"HTTP/1\.[01] (?!100)(\d{3}) ")
_TRACE = ("Traceback (most recent call last)", "request failed", "Exception in", "never retrieved", "exception")
_GOOD = json.dumps({"model": "general", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}).encode()


@dataclass
class Findings:
    """Each kind once, with the first case that showed it."""

    seen: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, number: int, case: Case | None, detail: str = "") -> None:
        self.seen[what] += 1
        if self.seen[what] > 1:
            return
        print(f"(!) {what} at {number}" + (f", {case.name}, then {case.end}" if case else ""))
        if case is not None:
            print(f"    sent: {case.data[:SHOWN_BYTES]!r}{'...' if len(case.data) > SHOWN_BYTES else ''}")
        if detail:
            print("    " + detail.replace("\n", "\n    "))
        sys.stdout.flush()


class Mock(mock_upstream.Connection):
    """The mock, of which every endpoint answers as chat does."""

    def on_message_complete(self) -> None:
        if self._url.endswith((b"/completions", b"/responses", b"/embeddings")):
            self._url = b"/chat/completions"
        super().on_message_complete()


# --- one connection ---------------------------------------------------------------------------------------------------


async def play(port: int, case: Case) -> tuple[bytes, bool]:
    """What came, and whether the connection was answered or closed in time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = bytearray()
    reading = asyncio.create_task(_read(reader, got))
    try:
        for piece in case.pieces:
            writer.write(piece)
            # A gateway that has refused reads no more; and a piece has to leave on its own.
            async with asyncio.timeout(QUIET_S):
                await writer.drain()
            if piece.endswith(b"\r\n\r\n") and case.name == WEBSOCKET:
                await _answered(reading, got)  # frames before the handshake are nobody's
            await asyncio.sleep(0)
    except (ConnectionError, TimeoutError):
        pass
    in_time = True
    if case.end == STAY:
        in_time = await _answered(reading, got)
    if case.end == RESET:
        writer.transport.abort()
    writer.close()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return bytes(got), in_time


async def _read(reader: asyncio.StreamReader, got: bytearray) -> None:
    try:
        while piece := await reader.read(65536):
            got += piece
    except ConnectionError:
        pass


async def _answered(reading: "asyncio.Task[None]", got: bytearray) -> bool:
    until = time.monotonic() + BOUND_S
    while time.monotonic() < until:
        before = len(got)
        await asyncio.wait({reading}, timeout=0.02)
        if reading.done() or (len(got) == before and _STATUS.search(got)):
            return True
    return False


# --- the gateway ------------------------------------------------------------------------------------------------------


def gateway(work: Path, upstream: int) -> Target:
    def fill(ledger: Path) -> None:
        ledger.parent.mkdir(exist_ok=True)
        store = Store(f"sqlite:///{ledger}")
        keys = KeyStore(store)
        keys.ensure(KEY.decode(), tenant=made.TENANT, name="fuzz", role="user")
        keys.ensure(ADMIN.decode(), tenant=made.TENANT, name="admin", role="admin")
        keys.create("fuzzed", name="first")
        store.close()

    runner = (sys.executable, "-P", str(HERE / "fuzzed.py"), str(work / "tasks.json"))
    return made.stoker(work, upstream, runner=runner, fill=fill)


@dataclass(frozen=True)
class Held:
    descriptors: int
    tasks: Counter[str]

    def more_than(self, base: "Held") -> str:
        said = [f"{count} x {name}" for name, count in (self.tasks - base.tasks - ONE_EACH).items()]
        # The pools of connections to Redis and to the engines, and of threads' databases.
        few = base.descriptors + 40
        return ", ".join(said + ([f"{self.descriptors} descriptors"] if self.descriptors > few else []))


def held(pid: int, tasks: Path) -> Held:
    """Waits for the gateway to say so."""
    tasks.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    until = time.monotonic() + BOUND_S
    while not tasks.exists():
        if time.monotonic() > until:
            raise SystemExit("the gateway does not turn any more")
        time.sleep(0.02)
    return Held(len(os.listdir(f"/proc/{pid}/fd")), Counter(json.loads(tasks.read_text())))


def back_to(base: Held, pid: int, tasks: Path) -> str:
    """What there is more than before, when it has had its time to end."""
    until = time.monotonic() + BOUND_S
    while (more := held(pid, tasks).more_than(base)) and time.monotonic() < until:
        time.sleep(0.2)
    return more


async def is_good(port: int) -> str | None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n" % KEY
    case = Case("good", (head + b"Content-Length: %d\r\n\r\n" % len(_GOOD) + _GOOD,), STAY)
    got, in_time = await play(port, case)
    return None if in_time and got.startswith(b"HTTP/1.1 200 ") else got[:200].decode(errors="replace") or "no answer"


def traces(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if any(word in line for word in _TRACE):
            yield line


def told(line: str) -> tuple[str, str]:
    """What of an event is the same when it happens again, and where it was raised."""
    try:
        event = json.loads(line)
    except ValueError:
        return line[:120], line
    raised = event.get("exception") or []
    if not isinstance(raised, list) or not raised:
        return str(event.get("event"))[:120], line[:2000]
    frames = [f"{Path(at['filename']).name}:{at['lineno']} {at['name']}" for at in raised[0]["frames"]]
    first = f"{raised[0]['exc_type']}: {raised[0]['exc_value']}"[:300]
    event_said = re.sub("0x[0-9a-f]+", "", str(event.get("event")).strip().partition("\n")[0])
    return f"{event_said}: {raised[0]['exc_type']} in {frames[-1]}", "\n".join([first, *frames[-8:]])


# --- the run ----------------------------------------------------------------------------------------------------------


async def run(work: Path, options: argparse.Namespace) -> tuple[Findings, int, Counter[int]]:
    loop, stats = asyncio.get_running_loop(), mock_upstream.Stats()
    mock = await loop.create_server(lambda: Mock(loop, stats), "127.0.0.1", 0)
    target = await asyncio.to_thread(gateway, work, mock.sockets[0].getsockname()[1])
    try:
        target.start()
        assert target.process is not None
        await asyncio.to_thread(made.wait_until_listening, target.process, target.port)
        return await _all(target, options, work / "tasks.json")
    finally:
        await asyncio.to_thread(target.end_all)
        mock.close()


async def _all(target: Target, options: argparse.Namespace, tasks: Path) -> tuple[Findings, int, Counter[int]]:
    assert target.process is not None
    process, port = target.process, target.port
    findings, statuses = Findings(), Counter[int]()
    gate = asyncio.Semaphore(options.clients)
    wrong = await is_good(port)
    if wrong:
        raise SystemExit(f"the gateway does not answer at all: {wrong}\n{process.tail()}")
    await asyncio.sleep(0.2)
    base = await asyncio.to_thread(held, process.pid, tasks)
    read = len(process.log.read_text(errors="replace"))

    async def one(number: int) -> None:
        case = case_of(options.seed, number)
        async with gate:
            try:
                got, in_time = await play(port, case)
            except OSError as error:
                findings.add(f"no connection: {type(error).__name__}", number, case)
                return
        found = [int(status) for status in _STATUS.findall(got)]
        statuses.update(found)
        if options.only is not None:
            print(f"{case}\n{got!r}")
        for status in found:
            if status >= 500 and status != 503:
                findings.add(f"{status}", number, case, got[:SHOWN_BYTES].decode(errors="replace"))
        if not in_time:
            findings.add("neither answered nor closed", number, case, repr(got[:200]))

    until = time.monotonic() + options.seconds if options.seconds else float("inf")
    numbers = [options.only] if options.only is not None else range(options.requests)
    done = 0
    for begin in range(0, len(numbers), BATCH):
        if time.monotonic() > until:
            break
        batch = numbers[begin : begin + BATCH]
        await asyncio.gather(*(one(number) for number in batch))
        done += len(batch)
        wrong = await is_good(port)
        if wrong:
            findings.add("a good request is not answered well", batch[-1], None, wrong)
        log = process.log.read_text(errors="replace")
        for line in traces(log[read:]):
            what, where = told(line)
            findings.add(f"in the log: {what}", batch[-1], None, f"in the {len(batch)} up to this one\n{where}")
        read = len(log)
        process.check()
    more = await asyncio.to_thread(back_to, base, process.pid, tasks)
    if more:
        findings.add("left behind", done, None, more)
    return findings, done, statuses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, help="end sooner, after so long")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--only", type=int, metavar="N", help="this case alone")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        findings, done, statuses = asyncio.run(run(Path(directory), options))
    print(f"seed {options.seed}: {done} connections in {time.monotonic() - began:.0f} s, {len(findings.seen)} findings")
    print("answers: " + ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())))
    for what, count in findings.seen.most_common():
        print(f"(!) {count} x {what}")
    sys.exit(1 if findings.seen else 0)


if __name__ == "__main__":
    main()
