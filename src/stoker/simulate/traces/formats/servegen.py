"""Rates of ServeGen's clients: for each client and window of ten minutes, how many requests came and what the gaps
between them looked like. The requests are made up from that.

In a window a client sends as many requests as were counted (its rate times 600 s). The gaps between them are drawn from
the fitted family, one after the other: a renewal process. Where they fill less than the window, the run begins at an
even chance within the room that is left; where they would fill more, all are shortened alike.

A scale below 1 keeps each request with that chance. So that a small share of a large trace takes little time, what is
left out is never made: the gap between two that are kept is the sum of a geometric number of gaps, which for Gamma is
a Gamma again, and for Weibull is taken as the Gamma with the same mean and variance. A scale above 1 is so many of the
same clients side by side, each with draws of its own, and a kept share for the part after the point.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.base import json_text
from stoker.simulate.trace import Trace
from stoker.simulate.traces.changing import check_count
from stoker.simulate.traces.formats.base import Format, required, unused
from stoker.simulate.traces.making import Options, Random, made
from stoker.simulate.traces.tables import Columns, Table, at, fault, read
from stoker.simulate.traces.values import MOST_TOKENS, Column, Count, Seconds, Text

WINDOW_S = 600.0
LENGTHS = "servegen_lengths.json"
DATA = Path(__file__).parent.parent / "data"
_FALLBACK = "m-large"
"""Whose lengths are taken for a model of which none are known."""
_FAMILIES = ("Gamma", "Weibull")


def _columns() -> tuple[Column, ...]:
    return (
        Column("client", Text()),
        Column("t_s", Seconds()),
        Column("rate_rps", Seconds()),
        Column("dist", Text()),
        Column("param1", Seconds(is_positive=True)),
        Column("param2", Seconds(is_positive=True)),
    )


@dataclass(frozen=True, eq=False)
class _Windows:
    """Columns, one row for a client's window; `count` requests of it are wanted, `of` were there."""

    client: NDArray[np.int64]
    t_s: NDArray[np.float64]
    is_gamma: NDArray[np.bool_]
    shape: NDArray[np.float64]
    size: NDArray[np.float64]
    count: NDArray[np.int64]
    kept: NDArray[np.float64]
    """The share of its requests that these are."""

    def where(self, which: NDArray[Any]) -> "_Windows":
        return _Windows(**{name: column[which] for name, column in self.__dict__.items()})


def _read(table: Table, options: Options, beside: Path) -> Trace:
    columns = _columns()
    found = read(table, columns)
    windows = _windows(table, found, options)
    expected = float(windows.count.sum()) * options.scale
    check_count(table.name, expected, options.scale)
    random = options.random("arrivals")
    side_by_side = _scaled(windows, options.scale, random)
    times, clients = _arrivals(side_by_side, random)
    if not len(times):
        raise fault(f"{table.name}: no request is left at scale {options.scale:g}")
    order = np.argsort(times, kind="stable")
    model = _model_of(table.name)
    lengths, of_model = _lengths(beside, model)
    sizes = options.random("lengths")
    prompt, completion = (_sampled(lengths[each], len(times), sizes) for each in ("input_tokens", "output_tokens"))
    names = found.texts["client"]
    share = "" if options.scale == 1.0 else f", {options.scale:.4g} times as many requests as were recorded"
    notes = [f"made up from the rates of {len(names)} clients{share}; prompt and answer lengths are independent"]
    if of_model != model:
        notes.append(f"the lengths are those of {of_model}: none are known of {model or 'this file'}")
    return made(
        table.name,
        times[order],
        prompt,
        completion,
        tenant=clients[order],
        tenants=tuple(f"client-{name}" for name in names),
        notes=(*notes, *unused(table, (*columns, Column("cv", Count())))),
    )


def _windows(table: Table, found: Columns, options: Options) -> _Windows:
    values = found.values
    families = found.texts["dist"]
    strange = [number for number, name in enumerate(families) if name not in _FAMILIES]
    bad = np.isin(values["dist"], [*strange, -1])
    if bad.any():
        place = int(np.argmax(bad))
        name = families[values["dist"][place]] if values["dist"][place] >= 0 else ""
        raise at(table, int(found.lines[place]), f"dist is {name!r}; known are {' and '.join(_FAMILIES)}")
    _check_order(table, found)
    is_gamma = np.array([name == "Gamma" for name in families])[values["dist"]]
    windows = _Windows(
        client=values["client"].astype(np.int64),
        t_s=values["t_s"],
        is_gamma=is_gamma,
        shape=values["param1"],
        size=values["param2"],
        count=np.rint(values["rate_rps"] * WINDOW_S).astype(np.int64),
        kept=np.ones(len(found)),
    )
    steep = ~is_gamma & (windows.shape < 0.02)
    if steep.any():
        place = int(np.argmax(steep))
        raise at(
            table, int(found.lines[place]), f"param1 is {windows.shape[place]:g}; a Weibull of below 0.02 has no use"
        )
    return windows.where(windows.t_s < options.until_s) if options.until_s is not None else windows


def _check_order(table: Table, found: Columns) -> None:
    """Windows of a client come one after the other, and none overlap."""
    values = found.values
    by_client = np.argsort(values["client"], kind="stable")
    apart = np.diff(values["t_s"][by_client])
    wrong = (apart < WINDOW_S) & (np.diff(values["client"][by_client]) == 0)
    if wrong.any():
        place = int(by_client[1:][wrong].min())
        raise at(
            table,
            int(found.lines[place]),
            f"t_s is {values['t_s'][place]:g}, less than {WINDOW_S:g} s after the window before it of client "
            f"{found.texts['client'][values['client'][place]]!r}",
        )


def _scaled(windows: _Windows, scale: float, random: Random) -> _Windows:
    whole, part = int(scale), scale - int(scale)
    thinned = _Windows(
        **{
            **windows.__dict__,
            "count": random.binomial(windows.count, part).astype(np.int64),
            "kept": np.full(len(windows.count), part),
        }
    )
    if not whole:
        return thinned.where(thinned.count > 0)
    each = [windows] * whole + ([thinned] if part else [])
    together = _Windows(**{name: np.concatenate([one.__dict__[name] for one in each]) for name in windows.__dict__})
    return together.where(together.count > 0)


def _arrivals(windows: _Windows, random: Random) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times and clients of all requests, window after window."""
    # One gap more than requests: the last one ends the run.
    gaps = windows.count + 1
    ends = np.cumsum(gaps)
    if not len(ends):
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    drawn = _gaps(windows, gaps, random)
    passed = np.cumsum(drawn)
    begins = np.concatenate([[0.0], passed[ends[:-1] - 1]])
    spans = passed[ends - 1] - begins
    room = np.maximum(WINDOW_S - spans, 0.0)
    shortened = np.minimum(1.0, WINDOW_S / np.maximum(spans, 1e-300))
    offsets = windows.t_s + room * random.random_sample(len(spans))
    within = (passed - np.repeat(begins, gaps)) * np.repeat(shortened, gaps)
    times = np.repeat(offsets, gaps) + np.clip(within, 0.0, WINDOW_S)
    is_request = np.ones(len(times), dtype=bool)
    is_request[ends - 1] = False
    clients: NDArray[np.int64] = np.repeat(windows.client, windows.count)
    return times[is_request], clients


def _gaps(windows: _Windows, gaps: NDArray[np.int64], random: Random) -> NDArray[np.float64]:
    """As many for each window as `gaps` says, in seconds."""
    summed = random.geometric(np.repeat(windows.kept, gaps))
    is_alone = summed == 1
    mean, variance = _weibull_moments(windows)
    # Of the Gamma that stands for a sum: its shape for one summand, and its size.
    shape = np.where(windows.is_gamma, windows.shape, mean**2 / variance)
    size = np.where(windows.is_gamma, windows.size, variance / mean)
    drawn: NDArray[np.float64] = random.standard_gamma(np.repeat(shape, gaps) * summed) * np.repeat(size, gaps)
    one_weibull = is_alone & np.repeat(~windows.is_gamma, gaps)
    if one_weibull.any():
        shapes, sizes = (np.repeat(each, gaps)[one_weibull] for each in (windows.shape, windows.size))
        drawn[one_weibull] = random.standard_exponential(len(shapes)) ** (1 / shapes) * sizes
    return drawn


def _weibull_moments(windows: _Windows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """1 and 1 where it is none."""
    mean, variance = np.ones(len(windows.shape)), np.ones(len(windows.shape))
    for place in np.flatnonzero(~windows.is_gamma):
        shape, size = float(windows.shape[place]), float(windows.size[place])
        first = math.gamma(1 + 1 / shape)
        spread = math.exp(math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape)) - 1
        mean[place] = first * size
        variance[place] = max(spread, 1e-12) * mean[place] ** 2
    return mean, variance


# --- lengths ----------------------------------------------------------------------------------------------------------


def _model_of(name: str) -> str:
    """`m-large` of `servegen_m-large_rates.csv.gz`, or of the shipped `servegen-m-large`."""
    match = re.match(r"servegen[-_](.+?)(?:_rates.*|\.csv.*)?$", name)
    return match[1] if match else ""


def _lengths(beside: Path, model: str) -> tuple[Mapping[str, Any], str]:
    """Those of the file beside the rates, where there is one and it knows the model; else those that are shipped."""
    for path in (beside / LENGTHS, DATA / LENGTHS):
        if path.is_file():
            known = _read_lengths(path)
            if model in known:
                return known[model], model
    return known[_FALLBACK], _FALLBACK


def _read_lengths(path: Path) -> Mapping[str, Any]:
    try:
        models = json_text.loads(path.read_bytes())["models"]
        for fields in models.values():
            for name in ("input_tokens", "output_tokens"):
                quantiles = np.array(fields[name]["quantiles"], dtype=np.float64)
                if len(quantiles) < 2 or not np.isfinite(quantiles).all() or (np.diff(quantiles) < 0).any():
                    raise ValueError(name)
    except OSError as exc:
        raise fault(f"{path.name} cannot be read: {exc.strerror or exc}") from exc
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise fault(
            f"{path.name} holds no lengths: models, then for each input_tokens and output_tokens with rising quantiles"
        ) from exc
    return models  # type: ignore[no-any-return]  # JSON


def _sampled(field: Mapping[str, Any], count: int, random: Random) -> NDArray[np.float64]:
    """Drawn from the distribution that the quantiles describe: straight between them, but for the last two. There lies
    the tail, and the way from one to the other is bent so that the mean is the recorded one."""
    quantiles = np.array(field["quantiles"], dtype=np.float64)
    last = len(quantiles) - 1
    place = random.random_sample(count) * last
    is_tail = place >= last - 1
    drawn = np.interp(place, np.arange(last + 1), quantiles)
    low, high = quantiles[-2], quantiles[-1]
    drawn[is_tail] = low + (high - low) * (place[is_tail] - (last - 1)) ** _bend(quantiles, field.get("mean"))
    return np.clip(np.rint(drawn), 1, MOST_TOKENS)


def _bend(quantiles: NDArray[np.float64], mean: object) -> float:
    """The power with which the tail rises; 1 where no mean is known, or none that it could have."""
    low, high, count = quantiles[-2], quantiles[-1], len(quantiles) - 1
    if not isinstance(mean, int | float) or high <= low:
        return 1.0
    body = float(((quantiles[:-2] + quantiles[1:-1]) / 2).sum())
    above = mean * count - body - low  # of the tail's own mean, above its lower end
    return float(np.clip((high - low) / above - 1, 1.0, 1000.0)) if above > 0 else 1000.0


FORMAT = Format("ServeGen rates", required(_columns()), _read, makes=True)
