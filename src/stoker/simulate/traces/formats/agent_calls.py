"""Calls of agents' sessions, as derived from LMCache's agent traces: characters, and seconds since each session began.

When sessions began is not recorded, so that is made up: a Poisson process with a session every `SESSION_EVERY_S` on
average, in the order of the file, the first one at 0. Within a session calls come with the gaps as recorded.
"""

from pathlib import Path

import numpy as np

from stoker.simulate.trace import Trace
from stoker.simulate.traces.formats.base import Format, required, unused
from stoker.simulate.traces.making import Options, made, picked
from stoker.simulate.traces.tables import Table, at, read
from stoker.simulate.traces.values import Column, Count, Seconds, Text

SESSION_EVERY_S = 60.0

_COLUMNS = (
    Column("agent", Text()),
    Column("session", Text()),
    Column("t_s", Seconds()),
    Column("input_chars", Count()),
    Column("output_chars", Count()),
    Column("shared_prefix_chars", Count(), default=0),
)


def _read(table: Table, options: Options, _beside: Path) -> Trace:
    agents, sessions = Text(), Text()
    columns = (Column("agent", agents), Column("session", sessions), *_COLUMNS[2:])
    found = read(table, columns)
    values = found.values
    # A session is one agent's: two agents may count their sessions alike.
    keys = values["agent"].astype(np.int64) * (len(sessions.names) + 1) + values["session"]
    _, firsts, which = np.unique(keys, return_index=True, return_inverse=True)
    by_session = np.argsort(which, kind="stable")
    falls = (np.diff(values["t_s"][by_session]) < 0) & (np.diff(which[by_session]) == 0)
    if falls.any():
        place = int(by_session[1:][falls].min())
        raise at(
            table,
            int(found.lines[place]),
            f"t_s is {values['t_s'][place]:g}, which is earlier than the call before it of session "
            f"{sessions.names[values['session'][place]]!r}",
        )
    order_of_sessions = np.argsort(np.argsort(firsts))  # by the first call's place in the file
    gaps = options.random("sessions").exponential(SESSION_EVERY_S, len(firsts))
    gaps[0] = 0.0
    at_s = np.cumsum(gaps)[order_of_sessions][which] + values["t_s"]
    prompt, completion = (np.ceil(values[name] * options.tokens_per_char) for name in ("input_chars", "output_chars"))
    cached = np.floor(values["shared_prefix_chars"] * options.tokens_per_char)
    trace = made(
        table.name,
        at_s,
        prompt,
        completion,
        cached,
        tenant=values["agent"],
        tenants=agents.names,
        notes=(
            f"tokens are estimated: {options.tokens_per_char:g} for each character",
            f"{len(firsts)} sessions begin as a Poisson process, one every {SESSION_EVERY_S:g} s on average",
            *unused(table, (*_COLUMNS, Column("call", Count()))),
        ),
    )
    return picked(trace, np.argsort(at_s, kind="stable"))


FORMAT = Format("agents' calls", required(_COLUMNS), _read)
