"""`stoker runs`: what became of training runs, where their time and money went, and whether their checkpoints are
whole."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stoker.base.errors import Conflict, InvalidInput, NotFound, StokerError
from stoker.base.terminal import printable
from stoker.cli import show, target
from stoker.cli.curve import bar, curve

if TYPE_CHECKING:
    from stoker.registry.heads import Entry
    from stoker.registry.runs import RunStore
    from stoker.registry.stores import Store
    from stoker.train.record import Summary

_WIDTH = 64
_state = click.option("--state", type=click.Path(path_type=Path), help="State directory. Default: .stoker")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_prices = click.option(
    "--prices", metavar="FILE", help="Prices over time, as of `stoker simulate`. Default: what each launch wrote down."
)


class _Group(click.Group):
    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if args[0].startswith("-"):
                raise
            raise click.UsageError(
                f"{args[0]!r} is none of its words; `stoker runs show {args[0]}` shows a run", ctx
            ) from None


@click.group(cls=_Group, invoke_without_command=True)
@_state
@_json
@click.pass_context
def runs(context: click.Context, state: Path | None, as_json: bool) -> None:
    """Training runs: losses, goodput, lost work, dollars. Alone: the list of them."""
    if context.invoked_subcommand is None:
        _list(state, as_json)
    elif state is not None or as_json:
        raise click.UsageError(f"options belong behind the word {context.invoked_subcommand}", context)


@runs.command("list")
@_state
@_json
def list_(state: Path | None, as_json: bool) -> None:
    """All runs of the state directory."""
    _list(state, as_json)


@runs.command("show")
@click.argument("run", metavar="ID")
@_state
@_prices
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page that needs nothing else.")
@_json
def show_(run: str, state: Path | None, prices: str | None, html: Path | None, as_json: bool) -> None:
    """One run, by its name or its place in S3 (s3://...)."""
    found = _read(_state_of(state), run, prices)
    if html is not None:
        _write_page(html, found)
    if as_json:
        show.as_json(as_dict(found))
    elif html is None:
        _tell(found)


@runs.command()
@click.argument("run", metavar="ID")
@click.argument("checkpoint")
@click.option("--unpin", is_flag=True, help="Let retention delete it again.")
@_state
def pin(run: str, checkpoint: str, unpin: bool, state: Path | None) -> None:
    """Keep a checkpoint for good. CHECKPOINT is its name, or the number of its step."""
    _, store = _opened(_state_of(state), run)
    entry = _entry(store, checkpoint)
    store.pin(entry.name, not unpin)
    show.note(f"{entry.name} is {'not pinned any more' if unpin else 'kept'}")


@runs.command()
@click.argument("run", metavar="ID")
@click.option("--checkpoint", help="Only this one: its name, or the number of its step.")
@_state
@_json
def verify(run: str, checkpoint: str | None, state: Path | None, as_json: bool) -> int:
    """Read checkpoints, every byte, and compare with their digests. Exit code 1 when one is damaged."""
    _, store = _opened(_state_of(state), run)
    entries = _entries(store) if checkpoint is None else [_entry(store, checkpoint)]
    said = []
    for entry in reversed(entries):
        why = _damage(store, entry)
        said.append({"name": entry.name, "step": entry.step, "size_bytes": entry.size_bytes, "damage": why})
        if not as_json:
            state_of = "whole" if why is None else f"damaged: {printable(why)}"
            click.echo(f"{entry.name}  {show.size(entry.size_bytes):>9}  {state_of}")
    if as_json:
        show.as_json({"checkpoints": said})
    elif not entries:
        show.note("there is no checkpoint yet")
    return 1 if any(each["damage"] for each in said) else 0


# --- finding ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    name: str
    url: str
    summary: "Summary"
    checkpoints: "list[Entry]"
    """Those that HEAD names, oldest first."""
    trouble: str | None = None
    """Why HEAD cannot be read."""
    now: float = 0.0


def _state_of(state: Path | None) -> Path:
    return state if state is not None else target.default_state()


def _opened(state: Path, run: str) -> "tuple[Store, RunStore]":
    from stoker.registry.runs import RunStore
    from stoker.train import runs as places

    known, store = places.find(state, run)
    return store, RunStore(store, known.name if known is not None else _name(store))


def _name(store: "Store") -> str:
    """Of a run that began elsewhere: its record has it."""
    from stoker.train import record

    for each in record.follow(store):
        if each.get("run"):
            return str(each["run"])
    raise NotFound(f"there is no run in {store.url}")


def _read(state: Path, run: str, prices: str | None) -> Found:
    from stoker.train import record

    plain, store = _opened(state, run)
    now = time.time()
    trouble, entries = None, []
    try:
        entries = _entries(store)
    except Conflict as error:
        trouble = error.message
    summary = record.summary(record.follow(plain), now=now, prices=_timeline(prices))
    return Found(store.run, plain.url, summary, entries, trouble, now)


def _timeline(prices: str | None) -> Any:
    from stoker.meter.prices import EPOCH, read_prices
    from stoker.train.accounting import AS_RECORDED

    return AS_RECORDED if prices is None else read_prices(prices, EPOCH, may_move=False)


def _entries(store: "RunStore") -> "list[Entry]":
    head = store.head()
    return [] if head is None else list(head[0].entries)


def _entry(store: "RunStore", asked: str) -> "Entry":
    entries = _entries(store)
    for each in reversed(entries):
        if asked in (each.name, str(each.step)):
            return each
    there = ", ".join(f"{each.name} (step {each.step})" for each in entries)
    raise NotFound(f"{store.run} has no checkpoint {asked[:80]!r}; it has: {there or 'none'}")


def _damage(store: "RunStore", entry: "Entry") -> str | None:
    from stoker.registry.shards import Damaged, verify_shard

    try:
        for shard in store.manifest(entry).shards:
            verify_shard(store.store, store.prefix(entry.name), shard)
    except Damaged as error:
        return error.why
    return None


# --- list -------------------------------------------------------------------------------------------------------------


def _list(state: Path | None, as_json: bool) -> None:
    from stoker.train import runs as places

    rows = []
    for known in places.known(_state_of(state)):
        try:
            rows.append(_row(_read(_state_of(state), known.name, None)))
        except StokerError as error:
            rows.append({"run": known.name, "state": "unreadable", "why": error.message, "store": known.store_url})
    if as_json:
        show.as_json({"runs": rows})
        return
    if not rows:
        show.note(f"there is no run in {_state_of(state)} yet; `stoker train RUN.yaml` begins one")
        return
    headers = ["run", "state", "step", "loss", "goodput", "dollars", "launches", "age"]
    show.table(headers, [_cells(each) for each in rows], right=["step", "loss", "goodput", "dollars", "age"])
    for each in rows:
        if "why" in each:
            show.note(f"{each['run']}: {printable(each['why'])}")


def _row(found: Found) -> dict[str, Any]:
    summary = found.summary
    last = summary.ended_at if summary.ended_at is not None else found.now
    return {
        "run": found.name,
        "state": summary.state,
        "step": summary.steps,
        "steps_of_all": summary.steps_of_all,
        "loss": _finite(_last_loss(summary)),
        "goodput": summary.goodput,
        "usd": summary.usd,
        "launches": summary.launches,
        "age_s": max(0.0, found.now - last) if summary.launches else None,
        "store": found.url,
    }


def _cells(row: Mapping[str, Any]) -> list[show.Cell]:
    if "why" in row:
        return [row["run"], row["state"], *[None] * 6]
    from stoker.train.progress import dollars, span

    return [
        row["run"],
        row["state"],
        f"{row['step']} of {row['steps_of_all']}",
        None if row["loss"] is None else f"{row['loss']:.4g}",
        _percent(row["goodput"]),
        None if row["usd"] is None else dollars(row["usd"]),
        row["launches"],
        None if row["age_s"] is None else span(row["age_s"]),
    ]


# --- show -------------------------------------------------------------------------------------------------------------


def as_dict(found: Found) -> dict[str, Any]:
    """What scripts rely on: DESIGN's `stoker runs show ID --json`. A loss that is no number is null."""
    summary = found.summary
    return {
        "run": found.name,
        "store": found.url,
        "state": summary.state,
        "steps": summary.steps,
        "steps_of_all": summary.steps_of_all,
        "tokens": summary.tokens,
        "losses": {str(step): _finite(loss) for step, loss in summary.losses.items()},
        "validation": {str(step): _finite(loss) for step, loss in summary.validation.items()},
        "lost_steps": summary.lost_steps,
        "lost_work_s": summary.lost_work_s,
        "goodput": summary.goodput,
        "seconds": dict(summary.seconds),
        "usd": summary.usd,
        "usd_by_cause": dict(summary.usd_by_cause),
        "unpriced_s": summary.unpriced_s,
        "started_at": summary.started_at,
        "ended_at": summary.ended_at,
        "launches": [
            {
                "epoch": each.epoch,
                "state": each.state,
                "why": each.why,
                "began_at": each.began_at,
                "ended_at": each.ended_at,
                "from_step": each.from_step,
                "to_step": each.to_step,
                "processes": each.processes,
                "nodes": [dict(node) for node in each.nodes],
                "seconds": dict(each.seconds),
                "usd": each.usd,
            }
            for each in summary.lives
        ],
        "interruptions": list(summary.interruptions),
        "checkpoints": [
            {
                "name": each.name,
                "step": each.step,
                "size_bytes": each.size_bytes,
                "created_at": each.created_at,
                "loss": _finite(each.loss),
                "pinned": each.pinned,
            }
            for each in found.checkpoints
        ],
        "trouble": found.trouble,
    }


def _tell(found: Found) -> None:
    from stoker.train.progress import short, span

    summary = found.summary
    rate = summary.tokens / max(summary.seconds.get("useful", 0.0), 1e-9)
    far = f"step {summary.steps} of {summary.steps_of_all}" if summary.launches else "no process of it has begun yet"
    click.echo(f"{found.name}: {summary.state}, {far}")
    click.echo(f"{found.url}")
    if summary.launches:
        lasted = (summary.ended_at or found.now) - (summary.started_at or found.now)
        until = "up to now" if summary.state == "running" else "in all"
        click.echo(
            f"began {show.local_time(summary.started_at)}, {span(lasted)} {until}; "
            f"{short(summary.tokens)} tokens, {short(rate)} tok/s of useful time"
        )
    if found.trouble:
        click.echo(f"checkpoints cannot be read: {printable(found.trouble)}")
    _tell_losses(summary)
    _tell_time(summary)
    _tell_launches(summary)
    _tell_checkpoints(found)


def _tell_losses(summary: "Summary") -> None:
    if not summary.losses:
        return
    steps = list(summary.losses)
    click.echo("\nloss")
    lines = curve(list(summary.losses.values()), width=_WIDTH)
    click.echo("\n".join(lines))
    edge = lines[0].index("│") + 1
    click.echo(f"{'':>{edge}}{steps[0]}{steps[-1]:>{max(1, min(_WIDTH, len(steps)) - len(str(steps[0])))}}")
    told = f"last {_last_loss(summary):.6g}"
    if summary.validation:
        step, loss = min(summary.validation.items(), key=lambda each: (math.isnan(each[1]), each[1]))
        told += f"; validation {list(summary.validation.values())[-1]:.6g}, at best {loss:.6g} at step {step}"
    click.echo(told)


def _tell_time(summary: "Summary") -> None:
    from stoker.train.progress import dollars, span

    whole = sum(summary.seconds.values())
    if not whole:
        return
    paid = "" if summary.usd is None else f", {dollars(summary.usd)}"
    click.echo(f"\n{_percent(summary.goodput)} of {span(whole)} was useful{paid}")
    if summary.usd is None:
        click.echo("no price of the machines is known: set prices in the run file, or give --prices")
    elif summary.unpriced_s:
        click.echo(f"without {span(summary.unpriced_s)} of machines whose price is not known")
    for cause, seconds in summary.seconds.items():
        if seconds:
            usd = "" if summary.usd is None else f"{dollars(summary.usd_by_cause.get(cause, 0.0)):>10}"
            click.echo(f"{cause:<10}{span(seconds):>11}{usd}{_percent(seconds / whole):>7}  {bar(seconds / whole)}")
    if summary.lost_steps:
        click.echo(f"lost: {summary.lost_steps} steps, {span(summary.lost_work_s)} of work")


def _tell_launches(summary: "Summary") -> None:
    from stoker.train.progress import dollars, span

    if not summary.lives:
        return
    click.echo("")
    show.table(
        ["launch", "began", "lasted", "steps", "ended", "dollars"],
        [
            [
                each.epoch,
                show.local_time(each.began_at),
                span(each.ended_at - each.began_at),
                f"{each.from_step}-{each.to_step}",
                printable(f"{each.state}: {each.why}" if each.why else each.state)[:60],
                None if each.usd is None else dollars(each.usd),
            ]
            for each in summary.lives
        ],
        right=["lasted", "steps", "dollars"],
    )


def _tell_checkpoints(found: Found) -> None:
    if not found.checkpoints:
        return
    click.echo("")
    show.table(
        ["checkpoint", "step", "size", "when", "validation", ""],
        [
            [
                each.name,
                each.step,
                show.size(each.size_bytes),
                show.local_time(each.created_at),
                None if each.loss is None else f"{each.loss:.4g}",
                "pinned" if each.pinned else "",
            ]
            for each in reversed(found.checkpoints)
        ],
        right=["size", "validation"],
    )


def _write_page(path: Path, found: Found) -> None:
    from stoker.cli.runs_page import page

    try:
        path.write_text(page(found), encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}", param="html") from error
    show.note(f"written to {path}")


def _last_loss(summary: "Summary") -> float | None:
    return summary.losses[next(reversed(list(summary.losses)))] if summary.losses else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{100 * part:.0f} %"
