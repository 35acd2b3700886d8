"""`stoker load`: its options, its progress, and how the report is printed."""

import sys
from pathlib import Path
from typing import Any

import click

from stoker.base.errors import InvalidInput
from stoker.cli import show, target
from stoker.cli.load import arrivals, percentiles, report

MAX_SECONDS = 3600


@click.command()
@target.options
@click.option("--rate", type=click.FloatRange(0, 10_000, min_open=True), help="Open loop: requests a second.")
@click.option("--concurrency", type=click.IntRange(1, 1000), help="Closed loop: clients at once.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, MAX_SECONDS, min_open=True),
    required=True,
    help="For how long requests are sent; then the rest is waited for.",
)
@click.option("--model", default="general", show_default=True, help="Model, or auto.")
@click.option(
    "--max-tokens",
    type=click.IntRange(1, 100_000),
    default=16,
    show_default=True,
    help="Tokens of each answer at most.",
)
@click.option(
    "--prompt-words", type=click.IntRange(1, 100_000), default=16, show_default=True, help="Words of each prompt."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same arrivals and prompts.")
@click.option("--even", is_flag=True, help="Open loop: evenly spaced, not a Poisson process.")
@click.option(
    "--max-in-flight",
    type=click.IntRange(1, 10_000),
    default=1000,
    show_default=True,
    help="Open loop: what is due beyond that is not sent, and is an error.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, MAX_SECONDS, min_open=True),
    default=120.0,
    show_default=True,
    help="Seconds that one answer may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def load(
    context: click.Context,
    url: str | None,
    key: str | None,
    state: Path | None,
    rate: float | None,
    concurrency: int | None,
    seconds: float,
    model: str,
    max_tokens: int,
    prompt_words: int,
    seed: int,
    even: bool,
    max_in_flight: int,
    timeout: float,
    as_json: bool,
) -> None:
    """Send requests for a while and print a table of latencies. Exit code 1 when any request failed."""
    import asyncio

    from stoker.cli.load.driver import Ask

    if (rate is None) == (concurrency is None):
        raise InvalidInput("give one of --rate R (open loop) and --concurrency C (closed loop)", param="rate")
    found = target.find(target.Asked(url, key, state))
    ask = Ask(model=model, max_tokens=max_tokens, prompt_words=prompt_words, seed=seed, timeout_s=timeout)
    times = None
    if rate is not None:
        times = arrivals.even(rate, seconds) if even else arrivals.poisson(rate, seconds, seed)
    result = asyncio.run(_drive(found, ask, times, concurrency or 0, seconds, max_in_flight))
    _print(
        {"model": model, "rate": rate, "concurrency": concurrency, "seconds": seconds, "seed": seed, **result}, as_json
    )
    if result["errors"]:
        context.exit(1)


async def _drive(
    found: target.Target, ask: Any, times: Any, clients: int, seconds: float, most_in_flight: int
) -> dict[str, Any]:
    import asyncio

    from stoker.base.clock import SystemClock
    from stoker.cli.load.driver import Driver
    from stoker.web.client import HttpClient, Timeouts

    clock = SystemClock()
    async with HttpClient(found.url, key=found.key, timeouts=Timeouts(5.0, ask.timeout_s)) as client:
        driver = Driver(client, ask, clock)
        began_at = clock.monotonic()
        progress = asyncio.create_task(_progress(driver, clock, began_at))
        try:
            if times is not None:
                await driver.open_loop(times, most_in_flight=most_in_flight)
            else:
                await driver.closed_loop(clients, seconds=seconds)
        finally:
            progress.cancel()
    return report.build(driver.seen, began_at=began_at, ended_at=clock.monotonic())


async def _progress(driver: Any, clock: Any, began_at: float) -> None:
    """Each second on a terminal, in one line; each ten seconds anywhere else."""
    is_terminal = sys.stderr.isatty()
    while True:
        await clock.sleep(1.0 if is_terminal else 10.0)
        failed = sum(1 for one in driver.seen if one.error)
        text = (
            f"{clock.monotonic() - began_at:.0f} s: {len(driver.seen)} sent, {driver.in_flight} in flight, "
            f"{failed} failed"
        )
        click.echo(f"\r{text:<70}" if is_terminal else text, err=True, nl=not is_terminal)


def _print(result: dict[str, Any], as_json: bool) -> None:
    if sys.stderr.isatty():
        click.echo(err=True)
    if as_json:
        show.as_json(result)
        return
    for line in report.lines(result):
        click.echo(line)
    click.echo()
    show.table(["milliseconds", *(f"p{p}" for p in percentiles.SHOWN), "max"], report.rows(result))
