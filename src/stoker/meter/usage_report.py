"""The cost and usage report of AWS as lines of a bill: legacy columns (`lineItem/UsageType`) and those of CUR 2.0 and
of Athena (`line_item_usage_type`); CSV, also compressed, and Parquet. Read a row at a time, and summed by machine and
day.

What a row costs, "amortized" (AWS, "Understanding your reservation/savings plans line items"): of a savings plan's
usage its effective cost, and of its fee what was not used (commitment to date less what was used of it); its negations
and upfront fees are 0. Of a reservation's usage its effective cost, of its monthly fee what was not used, and of its
upfront fee 0. All else is unblended.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, cast

from stoker.base.errors import InvalidInput
from stoker.meter.bill import Line
from stoker.meter.bill_lines import (
    POOL_TAGS,
    Amount,
    Bill,
    HoursSums,
    Sums,
    day_of,
    decimal,
    is_of_cluster,
    item_of,
    machine_of,
    moment,
    nano_of,
    tag_name,
)

START = "line_item_usage_start_date"
TYPE = "line_item_line_item_type"
Row = Mapping[str, Any]
_COLUMNS: Mapping[Amount, str] = {
    "unblended": "line_item_unblended_cost",
    "net-unblended": "line_item_net_unblended_cost",
    "blended": "line_item_blended_cost",
    "amortized": "line_item_unblended_cost",
}
_OF_TYPE = {
    "tax": "tax",
    "credit": "credit",
    "refund": "refund",
    "edpdiscount": "discount",
    "privateratediscount": "discount",
    "bundleddiscount": "discount",
}
_FEES = {
    "savingsplanrecurringfee": "savings plan",
    "savingsplanupfrontfee": "savings plan",
    "savingsplannegation": "savings plan",
    "rifee": "reservation",
    "fee": "fee",
}
_USED = ("Usage", "DiscountedUsage", "SavingsPlanCoveredUsage")
"""Rows whose amounts are hours that a machine ran; credits and negations say the same hours again."""
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_TAGS = "resource_tags"
_MOST_FIELD = 1 << 20


def bill_of(path: Path, amount: Amount, cluster: str, *, take_all: bool = False) -> Bill:
    """Raises InvalidInput with the row."""
    if amount not in _COLUMNS:
        raise InvalidInput(f"a usage report has no amount {amount}; it has {', '.join(_COLUMNS)}", param="amount")
    with path.open("rb") as file:
        return summed(_rows(file, path.name), path.name, amount, cluster, take_all=take_all)


def summed(rows: Iterable[Row], name: str, amount: Amount, cluster: str, *, take_all: bool = False) -> Bill:
    ours, if_known = Sums(), Sums()
    left_out, left_out_rows = Decimal(), 0
    hours = HoursSums()
    for i, row in enumerate(rows, 2):
        where = f"{name}, row {i}"
        if i == 2:
            _check(row, amount, name)
        usd = amount_of(row, amount, where)
        tags = tags_of(row)
        line = line_of(row, tags, where)
        belongs = True if take_all else is_of_cluster(tags, cluster)
        if belongs:
            ours.add(line, usd)
            if not line.is_shared and line.type and row.get(TYPE) in _USED:
                hours.add(line, decimal(row.get("line_item_usage_amount"), where), usd)
        elif belongs is None and line.machine:
            if_known.add(line, usd)
        else:
            left_out += usd
            left_out_rows += 1
    return Bill(
        "usage-report",
        ours.lines(),
        if_known.lines(),
        nano_of(left_out),
        left_out_rows,
        hours.all,
    )


def line_of(row: Row, tags: Mapping[str, str], where: str) -> Line:
    """Of a row, without its money; of its day."""
    began, ended = day_of(moment(row.get(START), where))
    kind = str(row.get(TYPE) or "").lower()
    usage, service = _text(row, "line_item_usage_type"), _text(row, "line_item_product_code")
    resource = _text(row, "line_item_resource_id").rpartition("/")[2]
    found = machine_of(usage)
    pool = next((tags[name] for name in POOL_TAGS if tags.get(name)), "")
    if kind in _OF_TYPE and not resource.startswith("i-"):
        return Line(0, began, ended, _OF_TYPE[kind], is_shared=True)
    if kind in _FEES and not resource.startswith("i-"):
        return Line(0, began, ended, _FEES[kind], is_shared=True)
    if found is None and not resource.startswith("i-"):
        return Line(0, began, ended, item_of(usage, service), is_shared=True)
    capacity, type_ = found or ("", "")
    item = "instance" if found else item_of(usage, service)
    item = {
        "discountedusage": "instance (reserved)",
        "savingsplancoveredusage": "instance (savings plan)",
        "savingsplannegation": "instance (savings plan)",
    }.get(kind, _OF_TYPE.get(kind, item))
    type_ = _text(row, "product_instance_type") or type_
    zone = _text(row, "line_item_availability_zone")
    return Line(0, began, ended, item, resource, pool, capacity, type_, "" if zone[-1:].isdigit() else zone)


def amount_of(row: Row, amount: Amount, where: str) -> Decimal:
    """Dollars of a row; see the module."""

    def usd(column: str) -> Decimal:
        if column not in row:  # reports leave out what is not bought, and a file may be cut in a row
            raise InvalidInput(f"{where} has no {column}", param="bill", hint="export the whole file, with this column")
        return decimal(row[column], where)

    if (currency := row.get("line_item_currency_code") or "USD") != "USD":
        raise InvalidInput(f"{where} is in {currency}; only USD is read", param="bill")
    kind = str(row.get(TYPE) or "")
    if amount == "amortized":
        if kind == "SavingsPlanCoveredUsage":
            return usd("savings_plan_savings_plan_effective_cost")
        if kind == "SavingsPlanRecurringFee":
            return usd("savings_plan_total_commitment_to_date") - usd("savings_plan_used_commitment")
        if kind in ("SavingsPlanNegation", "SavingsPlanUpfrontFee"):
            return Decimal()
        if kind == "DiscountedUsage":
            return usd("reservation_effective_cost")
        if kind == "RIFee":
            return usd("reservation_unused_amortized_upfront_fee_for_billing_period") + usd(
                "reservation_unused_recurring_fee"
            )
        if kind == "Fee" and row.get("reservation_reservation_a_r_n"):
            return Decimal()
    return usd(_COLUMNS[amount])


def tags_of(row: Row) -> dict[str, str]:
    """By `tag_name`."""
    held = row.get(_TAGS)
    if isinstance(held, str):
        try:
            held = json.loads(held) if held else {}
        except ValueError:
            held = {}
    pairs = held.items() if isinstance(held, dict) else held or ()
    found = {tag_name(str(name)): str(value) for name, value in pairs if value}
    for name, value in row.items():
        if name.startswith(_TAGS + "_") and value:
            found[tag_name(name.removeprefix(_TAGS + "_"))] = str(value)
    return found


def column(name: str) -> str:
    """`lineItem/UsageStartDate` -> line_item_usage_start_date, as Athena and CUR 2.0 have it."""
    if name.startswith("resourceTags/"):
        return f"{_TAGS}_{name.removeprefix('resourceTags/')}"
    found = _WORDS.sub("_", name.strip()).replace("/", "_").lower()
    return {"reservation_reservation_arn": "reservation_reservation_a_r_n"}.get(found, found)


def is_report(columns: Iterable[str]) -> bool:
    return START in {column(each) for each in columns}


def _text(row: Row, name: str) -> str:
    return str(row.get(name) or "")


def _check(row: Row, amount: Amount, name: str) -> None:
    missing = [each for each in (START, TYPE, "line_item_usage_type", _COLUMNS[amount]) if each not in row]
    if missing:
        raise InvalidInput(f"{name} has no column {', '.join(missing)}", param="bill", hint="export it with them")


def _rows(file: BinaryIO, name: str) -> Iterator[Row]:
    magic = file.read(4)
    file.seek(0)
    if magic == b"PAR1":
        yield from _of_parquet(file, name)
        return
    raw = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if magic[:2] == b"\x1f\x8b" else file
    csv.field_size_limit(_MOST_FIELD)
    try:
        with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            header = [column(each) for each in next(reader, [])]
            if START not in header:
                raise _unknown(name)
            for row in reader:
                if row:
                    yield dict(zip(header, row, strict=False))
    except (UnicodeDecodeError, csv.Error, OSError, EOFError) as error:
        raise InvalidInput(f"{name} cannot be read: {error}", param="bill") from error


def _of_parquet(file: BinaryIO, name: str) -> Iterator[Row]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InvalidInput(
            "Parquet is read with pyarrow, which is not installed here",
            param="bill",
            hint="`pip install 'stoker[parquet]'`, or export CSV",
        ) from error
    try:
        held = parquet.ParquetFile(file)
    except Exception as error:
        raise InvalidInput(f"{name} is no Parquet that can be read: {error}", param="bill") from error
    names = held.schema_arrow.names
    if not is_report(names):
        raise _unknown(name)
    wanted = [each for each in names if _is_used(column(each))]
    for batch in held.iter_batches(batch_size=5000, columns=wanted):
        for row in batch.to_pylist():
            yield {column(each): value for each, value in row.items()}


def _is_used(name: str) -> bool:
    return name.startswith(("line_item_", "reservation_", "savings_plan_", _TAGS)) or name == "product_instance_type"


def _unknown(name: str) -> InvalidInput:
    return InvalidInput(
        f"{name} is no bill that is known",
        param="bill",
        hint="give the JSON of `aws ce get-cost-and-usage` or of `stoker simulate --json`, or a cost and usage report",
    )
