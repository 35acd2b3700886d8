"""Traces that are made up from a line of text: `poisson:rate=5,seconds=3600,prompt=500,completion=150`.

One grammar for all kinds: `KIND:NAME=VALUE,NAME=VALUE,...`, every parameter with a default. docs/simulate/traces.md
lists them; `KINDS` is what they are.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stoker.simulate.trace import Trace
from stoker.simulate.traces.changing import check_count
from stoker.simulate.traces.making import MOST_MODELS, Options, Random, made
from stoker.simulate.traces.tables import fault
from stoker.simulate.traces.values import MOST_TOKENS, shown

DAY_S = 86400.0
_MOST_PHASES = 1_000_000
_STEPS = 4096
"""Pieces of a sinusoid's integral: straight between them, it is off by less than a millionth."""

Shares = tuple[tuple[str, float], ...]
Times = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """What was written, and the defaults."""

    kind: str
    numbers: Mapping[str, float]
    models: Shares
    tenants: int

    def __getitem__(self, name: str) -> float:
        return self.numbers[name]


@dataclass(frozen=True)
class Range:
    default: float
    least: float
    most: float = 1e12


@dataclass(frozen=True)
class SyntheticKind:
    """`mean_rate` is what `arrivals` has on average over the whole time."""

    parameters: Mapping[str, Range]
    mean_rate: Callable[[Asked], float]
    arrivals: Callable[[Asked, float, float, Random], Times]
    """Of what is asked, the scale, the seconds, the chance: times, rising."""


_LENGTHS = {
    "prompt": Range(500, 1, MOST_TOKENS),
    "prompt_cv": Range(1, 0, 100),
    "completion": Range(150, 1, MOST_TOKENS),
    "completion_cv": Range(1, 0, 100),
    "cached": Range(0, 0, 1),
    "tenants": Range(0, 0, 1_000_000),
}


# --- kinds ------------------------------------------------------------------------------------------------------------


def _poisson(asked: Asked, scale: float, seconds: float, random: Random) -> Times:
    return _even(random.poisson(asked["rate"] * scale * seconds), seconds, random)


def _even(count: int, seconds: float, random: Random) -> Times:
    return np.sort(random.random_sample(count) * seconds)


def _bursty(asked: Asked, scale: float, seconds: float, random: Random) -> Times:
    if asked["on"]:
        return _on_off(asked, scale, seconds, random)
    return _gamma_gaps(asked["rate"] * scale, asked["cv"], seconds, random)


def _gamma_gaps(rate: float, cv: float, seconds: float, random: Random) -> Times:
    """A renewal process that has been going on for ever: the first gap is what is left of one that had begun."""
    if cv == 0:
        return np.arange(random.random_sample(), rate * seconds, 1.0) / rate
    shape, size = 1 / cv**2, cv**2 / rate
    now = float(random.random_sample() * random.standard_gamma(shape + 1) * size)
    parts = [np.array([now])]
    while now < seconds:
        left = (seconds - now) * rate
        gaps = random.standard_gamma(shape, int(left + 3 * cv * math.sqrt(left) + 16)) * size
        parts.append(now + np.cumsum(gaps))
        now = float(parts[-1][-1])
    times = np.concatenate(parts)
    return times[times < seconds]


def _on_off(asked: Asked, scale: float, seconds: float, random: Random) -> Times:
    """Phases of exponential length, in turn; between bursts `idle` of the burst's rate goes on."""
    on, off, idle = asked["on"], asked["off"], asked["idle"]
    is_on = bool(random.random_sample() < on / (on + off))
    lengths: list[NDArray[np.float64]] = []
    total = 0.0
    pairs = int(seconds / (on + off)) + 8
    first, second = (on, off) if is_on else (off, on)
    while total < seconds:
        drawn = random.standard_exponential((pairs, 2)) * (first, second)
        lengths.append(drawn.ravel())
        total += float(drawn.sum())
    phases = np.concatenate(lengths)
    rate_on = asked["rate"] * scale * (on + off) / (on + idle * off)
    rates = np.where((np.arange(len(phases)) % 2 == 0) == is_on, rate_on, idle * rate_on)
    ends = np.concatenate([[0.0], np.cumsum(phases)])
    return _by_intensity(ends, np.concatenate([[0.0], np.cumsum(phases * rates)]), seconds, random)


def _diurnal(asked: Asked, scale: float, seconds: float, random: Random) -> Times:
    """Up and down as a sinusoid: `peak` at `peak_at` hours and every `period` after it, `trough` halfway between."""
    middle, swing = (asked["peak"] + asked["trough"]) / 2 * scale, (asked["peak"] - asked["trough"]) / 2 * scale
    turn = 2 * math.pi / asked["period"]
    grid = np.linspace(0.0, seconds, int(_STEPS * max(1.0, seconds / asked["period"])) + 1)
    began = asked["peak_at"] * 3600
    expected = middle * grid + swing / turn * (np.sin(turn * (grid - began)) + math.sin(turn * began))
    return _by_intensity(grid, expected, seconds, random)


def _by_intensity(grid: Times, expected: Times, seconds: float, random: Random) -> Times:
    """A Poisson process whose expected count up to each time of the grid is given."""
    total = float(np.interp(seconds, grid, expected))
    uniform = np.sort(random.random_sample(random.poisson(total))) * total
    # Where nothing is expected the count stands still, and the first of equal ones is the end of it.
    return np.interp(uniform, expected, grid)


def _mean_diurnal(asked: Asked) -> float:
    """Over the time asked for, which may be a part of a period."""
    turn, seconds, began = 2 * math.pi / asked["period"], asked["seconds"], asked["peak_at"] * 3600
    swing = (asked["peak"] - asked["trough"]) / 2
    wave = (math.sin(turn * (seconds - began)) + math.sin(turn * began)) / turn / seconds
    return (asked["peak"] + asked["trough"]) / 2 + swing * wave


_RATE = Range(1, 0, 1e9)
_HOUR = Range(3600, 0, 1e9)

KINDS: Mapping[str, SyntheticKind] = {
    "bursty": SyntheticKind(
        {
            "rate": _RATE,
            "seconds": _HOUR,
            "cv": Range(3, 0, 100),
            "on": Range(0, 0, 1e9),
            "off": Range(0, 0, 1e9),
            "idle": Range(0, 0, 1),
            **_LENGTHS,
        },
        lambda asked: asked["rate"],
        _bursty,
    ),
    "diurnal": SyntheticKind(
        {
            "peak": Range(10, 0, 1e9),
            "trough": Range(1, 0, 1e9),
            "peak_at": Range(12, 0, 1e6),
            "period": Range(DAY_S, 1, 1e9),
            "seconds": Range(DAY_S, 0, 1e9),
            **_LENGTHS,
        },
        _mean_diurnal,
        _diurnal,
    ),
    "poisson": SyntheticKind({"rate": _RATE, "seconds": _HOUR, **_LENGTHS}, lambda asked: asked["rate"], _poisson),
}


# --- what is written --------------------------------------------------------------------------------------------------


def is_synthetic(what: str) -> bool:
    return what.partition(":")[0] in KINDS


def parsed(what: str) -> Asked:
    """Raises InvalidInput with what there is to choose from."""
    kind, _, rest = what.partition(":")
    known = KINDS[kind].parameters
    there = f"{kind} has {', '.join([*known, 'models'])}"
    numbers = {name: each.default for name, each in known.items()}
    models: Shares = ()
    said: set[str] = set()
    for part in filter(None, rest.split(",")):
        name, equals, value = (each.strip() for each in part.partition("="))
        if not equals:
            raise fault(f"{what}: {shown(part)} is no NAME=VALUE", there)
        if name != "models" and name not in known:
            raise fault(f"{what}: {kind} has no parameter {shown(name)}", there)
        if name in said:
            raise fault(f"{what}: {name} is there twice")
        said.add(name)
        if name == "models":
            models = _shares(what, value)
        else:
            numbers[name] = _number(what, name, value, known[name])
    _check(what, kind, numbers, said)
    return Asked(kind, numbers, models, int(numbers["tenants"]))


def _number(what: str, name: str, value: str, allowed: Range) -> float:
    try:
        number = math.nan if "_" in value else float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise fault(f"{what}: {name} is {shown(value)}, which is no number")
    if not allowed.least <= number <= allowed.most:
        raise fault(f"{what}: {name} is {value}; it is from {allowed.least:g} to {allowed.most:g}")
    if name == "tenants" and number != int(number):
        raise fault(f"{what}: tenants is {value}; it is a whole number")
    return number


def _shares(what: str, value: str) -> Shares:
    found: dict[str, float] = {}
    for part in value.split(";"):
        name, colon, share = (each.strip() for each in part.rpartition(":"))
        if not colon:
            name, share = share, "1"
        number = _number(what, f"the share of model {name}", share, Range(1, 0))
        if not name or name in found:
            raise fault(f"{what}: models is {shown(value)}", "write each once, as NAME:SHARE;NAME:SHARE")
        found[name] = number
    if not sum(found.values()) > 0:
        raise fault(f"{what}: no model has a share above 0")
    if len(found) > MOST_MODELS:
        raise fault(f"{what}: {len(found)} models; {MOST_MODELS} is the most")
    return tuple(found.items())


def _check(what: str, kind: str, numbers: Mapping[str, float], said: set[str]) -> None:
    for name in ("rate", "seconds"):
        if numbers.get(name, 1) == 0:
            raise fault(f"{what}: {name} is 0; it is above 0")
    if kind == "diurnal":
        if numbers["trough"] > numbers["peak"]:
            raise fault(f"{what}: trough is {numbers['trough']:g}, above peak, which is {numbers['peak']:g}")
        if numbers["peak"] == 0:
            raise fault(f"{what}: peak is 0; it is above 0")
    if kind == "bursty":
        if bool(numbers["on"]) != bool(numbers["off"]):
            raise fault(f"{what}: on and off go together: mean seconds of a burst, and between bursts")
        if numbers["on"] and "cv" in said:
            raise fault(f"{what}: cv and on/off are two ways to be bursty; write one of them")
        if numbers["idle"] and not numbers["on"]:
            raise fault(f"{what}: idle goes with on and off")
        if numbers["on"] and numbers["seconds"] / (numbers["on"] + numbers["off"]) > _MOST_PHASES:
            raise fault(f"{what}: more than {_MOST_PHASES:,} bursts; make on and off longer, or seconds shorter")


# --- the requests -----------------------------------------------------------------------------------------------------


def trace(what: str, options: Options) -> Trace:
    """`Options.scale` is a factor of the rates."""
    asked = parsed(what)
    kind = KINDS[asked.kind]
    check_count(what, kind.mean_rate(asked) * asked["seconds"] * options.scale, options.scale)
    at_s = kind.arrivals(asked, options.scale, asked["seconds"], options.random("arrivals"))
    count = len(at_s)
    if not count:
        raise fault(f"{what}: no request comes in {asked['seconds']:g} s", "a higher rate, a longer time, another seed")
    prompt = _lognormal(asked["prompt"], asked["prompt_cv"], count, options.random("prompt"))
    completion = _lognormal(asked["completion"], asked["completion_cv"], count, options.random("completion"))
    models = tuple(name for name, _ in asked.models)
    tenants = tuple(f"tenant-{number}" for number in range(1, asked.tenants + 1))
    zipf = 1 / np.arange(1, asked.tenants + 1)
    return made(
        what,
        at_s,
        prompt,
        completion,
        np.floor(prompt * asked["cached"]),
        model=_drawn([share for _, share in asked.models], count, options.random("model")) if models else None,
        tenant=_drawn(zipf, count, options.random("tenant")) if tenants else None,
        models=models,
        tenants=tenants,
        notes=("made up",) if options.scale == 1.0 else (f"made up, rates times {options.scale:g} (scale)",),
    )


def _lognormal(mean: float, cv: float, count: int, random: Random) -> NDArray[np.float64]:
    """With this mean and coefficient of variation before it is rounded to whole tokens, at least one."""
    spread = math.log1p(cv**2)
    drawn = np.exp(math.log(mean) - spread / 2 + math.sqrt(spread) * random.standard_normal(count))
    return np.clip(np.rint(drawn), 1, MOST_TOKENS)


def _drawn(shares: NDArray[np.float64] | list[float], count: int, random: Random) -> NDArray[np.int64]:
    """Numbers of shares, each as often as its share."""
    edges = np.cumsum(np.asarray(shares, dtype=np.float64))
    found: NDArray[np.int64] = np.searchsorted(edges, random.random_sample(count) * edges[-1], side="right")
    return found
