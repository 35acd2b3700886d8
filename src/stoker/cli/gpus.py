"""`stoker gpus`: what each GPU does, who has it, and what is wrong with it, by which rule."""

import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stoker.base.errors import InvalidInput, NotFound, StokerError
from stoker.base.terminal import printable
from stoker.cli import show, target

if TYPE_CHECKING:
    from stoker.cli.gpus_sources import Seen
    from stoker.policy.gpu_health import Gpu, Holder, Look, Warned

_MOST_LOOKS = 720
_BAR = 8
_WIDE = 220
"""Columns of a terminal that all of the table fits into; on a narrower one these go first."""
_FIRST_TO_GO = ("name", "slowed by", "ecc", "pod")


@click.group(invoke_without_command=True)
@click.option("--from", "places", multiple=True, metavar="URL|FILE", help="What a DCGM exporter serves; repeatable.")
@click.option("--prometheus", metavar="URL", help="A Prometheus that reads DCGM exporters.")
@click.option("--for", "for_text", default="0s", help="Look for that long: 60s, 15m. Default: once.")
@click.option("--every", "every_text", default="5s", help="Time between two looks. Default: 5s.")
@click.option("--instance-type", help="EC2 type of machines that do not say theirs, for dollars: g5.xlarge.")
@click.option(
    "-f", "--file", "spec_file", type=click.Path(path_type=Path), help="platform.yaml, for its prometheusUrl."
)
@click.option("--state", type=click.Path(path_type=Path), help="State directory of the platform.")
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one object a line.")
@click.pass_context
def gpus(
    context: click.Context,
    places: tuple[str, ...],
    prometheus: str | None,
    for_text: str,
    every_text: str,
    instance_type: str | None,
    spec_file: Path | None,
    state: Path | None,
    watch: bool,
    as_json: bool,
) -> None:
    """GPUs, worst first, and warnings with their rule and what was seen.

    From --from or --prometheus; else this machine's by NVML; else those of platform.yaml's prometheusUrl; else the
    engines of a running `stoker up` as simulated ones. docs/telemetry/gpus.md has the rules."""
    if context.invoked_subcommand is not None:
        return
    if places and prometheus:
        raise InvalidInput("--from and --prometheus are two sources; name one of them", param="from")
    asked = _Asked(
        places,
        prometheus,
        _duration(for_text, "for"),
        _duration(every_text, "every", least_s=0.1),
        _priced(instance_type),
        spec_file,
        state or target.default_state(),
    )
    if asked.for_s / asked.every_s > _MOST_LOOKS:
        raise InvalidInput(f"--for {for_text} --every {every_text} is more than {_MOST_LOOKS} looks", param="every")
    reader = _reader(asked)
    if not watch:
        _print(_window(reader, asked), reader.kind, asked, as_json=as_json)
        return
    seen: list[Look] = []
    while True:
        seen = [*seen, *reader.read().looks][-_MOST_LOOKS:]
        if sys.stdout.isatty() and not as_json:
            click.clear()
        _print(seen, reader.kind, asked, as_json=as_json)
        time.sleep(asked.every_s)


@gpus.command()
@click.option("--port", default=9400, show_default=True, help="Port; 0: any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--state", type=click.Path(path_type=Path), help="State directory of the platform, for who has a GPU.")
def export(port: int, host: str, state: Path | None) -> None:
    """Serve this machine's GPUs as the DCGM exporter does, where there is no DCGM."""
    from stoker.telemetry import gpu_exporter, nvml

    where = state or target.default_state()
    gpu_exporter.serve(nvml.load(), host, port, lambda: _processes(where), show.note)


@dataclass(frozen=True)
class _Asked:
    places: tuple[str, ...]
    prometheus: str | None
    for_s: float
    every_s: float
    instance_type: str | None
    spec: Path | None
    state: Path


@dataclass(frozen=True)
class _Reader:
    """`kind`: what the GPUs are, in a word. `has_past`: the source gives the whole window in one answer."""

    kind: str
    read: Callable[[], "Seen"]
    has_past: bool = False


# --- which source -----------------------------------------------------------------------------------------------------


def _reader(asked: _Asked) -> _Reader:
    """The source that is named, or else the first that has GPUs. Raises NotFound when none has."""
    from stoker.cli import gpus_sources as sources

    if asked.places:
        return _Reader("remote", lambda: sources.from_places(asked.places))
    if asked.prometheus:
        return _of_prometheus(asked.prometheus, asked)
    try:
        return _of_this_machine(asked)
    except NotFound as none_here:
        show.note(none_here.message)
    if url := _prometheus_of(asked.spec):
        try:
            reader = _of_prometheus(url, asked)
            first = reader.read()
        except StokerError as error:
            show.note(f"{error.message} (global.observability.prometheusUrl)")
        else:
            if first.looks:
                return reader
            show.note(f"{url} knows no GPU (global.observability.prometheusUrl)")
    return _of_engines(asked)


def _of_prometheus(url: str, asked: _Asked) -> _Reader:
    from stoker.cli import gpus_sources as sources

    return _Reader(
        "remote", lambda: sources.from_prometheus(url, asked.for_s, asked.every_s, time.time()), has_past=True
    )


def _of_this_machine(asked: _Asked) -> _Reader:
    from stoker.cli.gpus_sources import Seen
    from stoker.policy.gpu_health import Look
    from stoker.telemetry import nvml

    driver = nvml.load()
    node = socket.gethostname()

    def read() -> Seen:
        return Seen([Look(time.time(), nvml.gpus(driver, node, _processes(asked.state)), frozenset({node}))])

    if not read().looks[0].gpus:
        raise NotFound("this machine has no GPU")
    return _Reader("here", read)


def _of_engines(asked: _Asked) -> _Reader:
    from stoker.cli import gpus_sources as sources
    from stoker.local.state import StateDirectory
    from stoker.local.status import current

    hint = "name exporters with --from http://NODE:9400/metrics, or a Prometheus with --prometheus URL"
    try:
        run: dict[str, Any] = current(StateDirectory(asked.state))
    except NotFound as error:
        raise NotFound("there is no GPU to show: no platform runs here either", hint=hint) from error
    if run.get("state") != "up":
        raise NotFound(f"there is no GPU to show: the platform is {run.get('state')}", hint=hint)
    show.note("what follows is simulated: each engine of this platform as a GPU of its own")
    return _Reader("simulated", lambda: sources.Seen([sources.simulated(run, time.time())]))


def _prometheus_of(spec_file: Path | None) -> str | None:
    """The URL that platform.yaml says itself: the default is the name of a Service, which only a cluster knows."""
    from stoker import spec

    path = spec_file or Path("platform.yaml")
    if spec_file is None and not path.exists():
        return None
    said = spec.load(path).global_.observability
    return said.prometheus_url if "prometheus_url" in said.model_fields_set else None


def _processes(state: Path) -> Mapping[int, "Holder"]:
    """Process ids of a platform that runs on this machine, with their names and models."""
    from stoker.local.state import StateDirectory
    from stoker.local.status import current
    from stoker.policy.gpu_health import Holder

    try:
        run: dict[str, Any] = current(StateDirectory(state))
    except StokerError:
        return {}
    return {
        each["pid"]: Holder(pod=str(each.get("name", "")), model=str(each.get("model") or ""))
        for each in run.get("processes") or []
        if each.get("pid")
    }


def _window(reader: _Reader, asked: _Asked) -> list["Look"]:
    """One look, or one each `every_s` until `for_s` are over."""
    ends_at = time.monotonic() + asked.for_s
    found: list[Look] = []
    noted: set[str] = set()
    while True:
        seen = reader.read()
        found += seen.looks
        for note in seen.notes:
            if note not in noted:
                noted.add(note)
                show.note(f"left out: {note}")
        if reader.has_past or time.monotonic() + asked.every_s > ends_at:
            return found
        time.sleep(asked.every_s)


# --- what is printed --------------------------------------------------------------------------------------------------


def _print(looks: Sequence["Look"], kind: str, asked: _Asked, *, as_json: bool) -> None:
    from stoker.policy import gpu_health

    if not looks:
        raise NotFound("no GPU is known there", hint="is a DCGM exporter scraped? Ask it for DCGM_FI_DEV_FB_USED")
    typed = [replace(look, gpus=[_typed(gpu, asked.instance_type) for gpu in look.gpus]) for look in looks]
    warned = gpu_health.warnings(typed)
    gone = gpu_health.missing(typed)
    shown = _worst_first([*gone, *typed[-1].gpus], warned)
    if as_json:
        show.as_json(
            {
                "source": kind,
                "looks": len(typed),
                "seconds": round(typed[-1].at - typed[0].at, 3),
                "gpus": [_dict(gpu, gone) for gpu in shown],
                "warnings": [_warning(each) for each in warned],
            }
        )
        return
    if not shown:
        show.note("no GPU is there")
        return
    _table(shown, warned, gone)
    for each in warned:
        click.echo("\n" + "\n".join(printable(line) for line in _told(each)))
    if not warned:
        click.echo("\nNo rule warns." if kind != "simulated" else "\nSimulated GPUs are not judged.")


def _typed(gpu: "Gpu", instance_type: str | None) -> "Gpu":
    return gpu if gpu.instance_type or instance_type is None else replace(gpu, instance_type=instance_type)


def _worst_first(gpus: Sequence["Gpu"], warned: Sequence["Warned"]) -> list["Gpu"]:
    """As the warnings are ordered; those without one behind them, the busiest first."""
    rank: dict[tuple[str, str, str], int] = {}
    for place, each in enumerate(warned):
        rank.setdefault(each.gpu.key, place)
    return sorted(gpus, key=lambda gpu: (rank.get(gpu.key, len(warned)), -(gpu.utilization or 0), gpu.key))


def _table(gpus: Sequence["Gpu"], warned: Sequence["Warned"], gone: Sequence["Gpu"]) -> None:
    rules: dict[tuple[str, str, str], list[str]] = {}
    for each in warned:
        rules.setdefault(each.gpu.key, []).append(each.rule)
    rows = [_row(gpu, rules.get(gpu.key, []), gpu in gone) for gpu in gpus]
    if sys.stdout.isatty() and shutil.get_terminal_size().columns < _WIDE:
        rows = [{**row, "node": _first_part(row["node"]), "xid": _first_part(row["xid"])} for row in rows]
        rows = [{name: cell for name, cell in row.items() if name not in _FIRST_TO_GO} for row in rows]
    show.table(list(rows[0]), [list(row.values()) for row in rows], right=("util", "temp", "power", "ecc"))


def _first_part(cell: show.Cell) -> show.Cell:
    """Of a host's name, or of an XID and its meaning."""
    return cell if not isinstance(cell, str) else re.split(r"[. ]", cell, maxsplit=1)[0]


def _row(gpu: "Gpu", rules: Sequence[str], is_gone: bool) -> dict[str, show.Cell]:
    from stoker.catalog.xids import meaning

    if is_gone:
        gpu = replace(gpu, utilization=None, memory_used_mib=None, temperature_c=None, power_w=None, clock_reasons=None)
    xid = None if gpu.xid is None else (f"{gpu.xid} {meaning(gpu.xid)}" if gpu.xid else "0")
    return {
        "node": printable(gpu.node),
        "gpu": f"{gpu.index}.{gpu.mig_id}" if gpu.mig_id else gpu.index,
        "name": printable(f"{gpu.name} {gpu.mig_profile}".strip()) or None,
        "util": _part(None if gpu.utilization is None else gpu.utilization / 100, _percent(gpu.utilization)),
        "memory": _memory(gpu),
        "temp": _with_unit(gpu.temperature_c, " C"),
        "power": _power(gpu),
        "slowed by": _slowed_by(gpu),
        "ecc": _ecc(gpu),
        "xid": xid,
        "pod": printable(",".join(_pod(each) for each in gpu.holders if each.pod)) or None,
        "model": printable(",".join(gpu.models)) or None,
        "warnings": ",".join(rules) or None,
    }


def _pod(holder: "Holder") -> str:
    text = f"{holder.namespace}/{holder.pod}" if holder.namespace else holder.pod
    return f"{text}:{holder.container}" if holder.container else text


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f} %"


def _with_unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:.0f}{unit}"


def _part(part: float | None, text: str | None) -> str | None:
    """On a terminal with a bar."""
    if part is None or text is None or not sys.stdout.isatty():
        return text
    full = round(min(max(part, 0.0), 1.0) * _BAR)
    return "█" * full + "░" * (_BAR - full) + f" {text}"


def _memory(gpu: "Gpu") -> str | None:
    if gpu.cache_part is not None:
        return _part(gpu.cache_part, f"{gpu.cache_part * 100:.0f} % of cache")
    if gpu.memory_used_mib is None:
        return None
    if gpu.memory_free_mib is None:
        return f"{gpu.memory_used_mib:.0f} MiB"
    total = gpu.memory_used_mib + gpu.memory_free_mib
    return _part(gpu.memory_part, f"{gpu.memory_used_mib:.0f}/{total:.0f} MiB")


def _power(gpu: "Gpu") -> str | None:
    if gpu.power_w is None or gpu.power_limit_w is None:
        return _with_unit(gpu.power_w, " W")
    return f"{gpu.power_w:.0f}/{gpu.power_limit_w:.0f} W"


def _slowed_by(gpu: "Gpu") -> str | None:
    from stoker.policy.gpu_health import SLOWDOWNS

    if gpu.clock_reasons is None:
        return None
    return ", ".join(dict.fromkeys(what for bit, what in SLOWDOWNS.items() if gpu.clock_reasons & bit)) or "nothing"


def _ecc(gpu: "Gpu") -> str | None:
    """Corrected, uncorrected, rows remapped."""
    counts = (gpu.ecc_corrected, gpu.ecc_uncorrected, gpu.rows_replaced)
    if all(count is None for count in counts):
        return None
    return "/".join("-" if count is None else f"{count:.0f}" for count in counts) + ("!" if gpu.remap_failed else "")


def _told(warned: "Warned") -> Iterator[str]:
    gpu = warned.gpu
    instance = f".{gpu.mig_id}" if gpu.mig_id else ""
    who = f"{gpu.node} gpu {gpu.index}{instance}" + (f" ({gpu.name})" if gpu.name else "")
    yield f"{warned.severity} {warned.rule}: {who}"
    yield f"  seen  {warned.seen}"
    yield f"  rule  {warned.threshold}"
    usd = _usd_per_hour(gpu) if warned.rule == "GpuIdle" else None
    if usd is not None:
        yield f"  cost  ${usd:.2f} an hour: its part of {gpu.instance_type}, on demand in {_region()}"
    yield f"  do    {warned.advice}"


def _usd_per_hour(gpu: "Gpu") -> float | None:
    """What this GPU costs as its part of the instance, of which it may be one of several; None: not known."""
    from stoker.catalog import ec2

    found = ec2.find(gpu.instance_type) if gpu.instance_type else None
    price = found.usd_per_hour() if found is not None else None
    return None if found is None or price is None or not found.gpu_count else price / found.gpu_count


def _region() -> str:
    from stoker.catalog.ec2 import REGION

    return REGION


def _dict(gpu: "Gpu", gone: Sequence["Gpu"]) -> dict[str, Any]:
    from stoker.catalog.xids import meaning

    return {
        **asdict(gpu),
        "slowed_by": None if gpu.clock_reasons is None else _slowed_by(gpu),
        "xid_meaning": meaning(gpu.xid) if gpu.xid else None,
        "is_missing": gpu in gone,
    }


def _warning(warned: "Warned") -> dict[str, Any]:
    usd = _usd_per_hour(warned.gpu) if warned.rule == "GpuIdle" else None
    return {
        "rule": warned.rule,
        "severity": warned.severity,
        "node": warned.gpu.node,
        "gpu": warned.gpu.index,
        "mig_id": warned.gpu.mig_id,
        "uuid": warned.gpu.uuid,
        "threshold": warned.threshold,
        "seen": warned.seen,
        "usd_per_hour": usd,
        "advice": warned.advice,
    }


# --- options ----------------------------------------------------------------------------------------------------------

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def _duration(text: str, option: str, least_s: float = 0.0) -> float:
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.replace(".", "", 1).isdigit() and number.isascii():
        seconds = float(number) * _UNITS[unit]
        if least_s <= seconds <= 24 * 3600:
            return seconds
    raise InvalidInput(
        f"--{option} is {text[:40]!r}; it must be a time such as 5s, 15m or 1h, at most 24h", param=option
    )


def _priced(instance_type: str | None) -> str | None:
    from stoker.catalog import ec2

    if instance_type is None:
        return None
    found = ec2.find(instance_type)
    if found is None or not found.gpu_count:
        raise InvalidInput(
            f"--instance-type is {instance_type!r}; it must be an EC2 type with GPUs, such as g5.xlarge",
            param="instance-type",
        )
    return instance_type
