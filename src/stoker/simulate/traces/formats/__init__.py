"""What files of traces look like, each in its module, and the one list of them."""

from stoker.base.errors import InvalidInput
from stoker.simulate.traces.formats import agent_calls, azure, mooncake, own, servegen, usage
from stoker.simulate.traces.formats.base import Format
from stoker.simulate.traces.tables import Table, fault

FORMATS: tuple[Format, ...] = (
    agent_calls.FORMAT,
    azure.FORMAT,
    azure.ORIGINAL,
    mooncake.FORMAT,
    own.FORMAT,
    own.WITH_MOMENTS,
    servegen.FORMAT,
    usage.FORMAT,
)

_SUMS = {"rows", "total"}
"""`stoker usage --json`."""


def recognised(table: Table) -> Format:
    """By the columns alone. Raises InvalidInput that says which columns are missing, or which formats there are."""
    there = set(table.columns)
    for each in FORMATS:
        if set(each.required) <= there:
            return each
    if there >= _SUMS:
        raise fault(
            f"{table.name} holds sums of usage, not requests", "`stoker usage export` writes the requests themselves"
        )
    raise _unknown(table, there)


def _unknown(table: Table, there: set[str]) -> InvalidInput:
    nearest = max(FORMATS, key=lambda each: len(there & set(each.required)) / len(each.required))
    known = "; ".join(f"{each.about}: {', '.join(each.required)}" for each in FORMATS)
    found = ", ".join(name or "''" for name in table.columns[:20]) or "none"
    if there & set(nearest.required):
        missing = [name for name in nearest.required if name not in there]
        what = f"the column {missing[0]} is" if len(missing) == 1 else f"the columns {', '.join(missing)} are"
        return fault(
            f"{table.name}: {what} missing; it has {found}, most like {nearest.about}", f"formats and columns: {known}"
        )
    return fault(
        f"{table.name} is in no known format; its columns are {found[:400]}",
        f"its first line must name columns; formats and columns: {known}",
    )
