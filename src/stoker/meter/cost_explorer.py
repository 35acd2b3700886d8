"""What Cost Explorer's GetCostAndUsage answers, as lines of a bill: any groups, all of them, and all days."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.meter.bill import Line
from stoker.meter.bill_lines import (
    POOL_TAGS,
    Amount,
    Bill,
    HoursSums,
    Sums,
    decimal,
    item_of,
    machine_of,
    moment,
    tag_name,
)

METRICS: Mapping[Amount, str] = {
    "unblended": "UnblendedCost",
    "net-unblended": "NetUnblendedCost",
    "blended": "BlendedCost",
    "amortized": "AmortizedCost",
    "net-amortized": "NetAmortizedCost",
}
_COMPUTE = ("amazon elastic compute cloud - compute", "amazonec2")


def is_answer(found: Any) -> bool:
    pages = found if isinstance(found, list) else [found]
    return bool(pages) and all(isinstance(page, dict) and isinstance(page.get("ResultsByTime"), list) for page in pages)


def bill_of(found: Any, amount: Amount = "unblended") -> Bill:
    """`found`: an answer, or the list of all its pages. Raises InvalidInput, also where pages are missing."""
    pages: Sequence[Mapping[str, Any]] = found if isinstance(found, list) else [found]
    if pages[-1].get("NextPageToken"):
        raise InvalidInput(
            "the answer of Cost Explorer goes on: it ends with a NextPageToken",
            hint="ask again with --next-page-token, and give the pages as one JSON list",
        )
    names = [_name(each) for page in pages for each in page.get("GroupDefinitions") or ()][:2]
    sums, hours = Sums(), HoursSums()
    for page in pages:
        for i, result in enumerate(page["ResultsByTime"]):
            where = f"ResultsByTime[{i}]"
            try:
                period = result["TimePeriod"]
                began, ended = moment(period["Start"], where), moment(period["End"], where)
                groups = result.get("Groups") or [{"Keys": [], "Metrics": result.get("Total") or {}}]
                for group in groups:
                    keys = dict(zip(names, group["Keys"], strict=False))
                    usd = _usd(group["Metrics"], METRICS[amount], where)
                    line = _line(keys, began, ended)
                    sums.add(line, usd)
                    used = group["Metrics"].get("UsageQuantity")
                    if used and line.type and line.capacity and not line.is_shared and used.get("Unit") in _HOURS:
                        hours.add(line, decimal(used["Amount"], where), usd)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise InvalidInput(f"{where} is no result of Cost Explorer: {type(error).__name__} {error}") from error
    return Bill("cost-explorer", sums.lines(), hours=hours.all)


_HOURS = ("Hrs", "Hours", "hours")


def _name(definition: Mapping[str, str]) -> str:
    key = definition.get("Key", "")
    return f"TAG:{tag_name(key)}" if definition.get("Type") == "TAG" else key


def _usd(metrics: Mapping[str, Any], name: str, where: str) -> Decimal:
    if not metrics:
        return Decimal()
    if name not in metrics:
        raise InvalidInput(f"{where} has no {name}; it has {', '.join(sorted(metrics))}", param="amount")
    if metrics[name].get("Unit", "USD") not in ("USD", "N/A"):
        raise InvalidInput(f"{where} is in {metrics[name]['Unit']}; only USD is read")
    return decimal(metrics[name].get("Amount"), where)


def _line(keys: Mapping[str, str], began: float, ended: float) -> Line:
    """What one group says. What is a machine's is told by its usage type, its type, or that the service is EC2's
    compute; what none of them says may be any machine's, unless its service or usage type is another."""
    usage, service = keys.get("USAGE_TYPE", ""), keys.get("SERVICE", "")
    type_, zone = keys.get("INSTANCE_TYPE", ""), keys.get("AZ", "")
    found = machine_of(usage) if usage else None
    resource = keys.get("RESOURCE_ID", "")
    is_shared = (
        (bool(usage) and found is None)
        or type_ == "NoInstanceType"
        or (bool(service) and service.lower() not in _COMPUTE)
        or (bool(resource) and not resource.startswith("i-"))
    )
    pool = next((value for name in POOL_TAGS if (value := _tag(keys, name))), "")
    capacity, item = purchase(keys.get("PURCHASE_TYPE", ""))
    capacity = capacity or _tag(keys, "karpenter_sh_capacity_type")
    if is_shared:
        return Line(0, began, ended, item_of(usage, service), is_shared=True)
    if found is not None:
        capacity, type_ = capacity or found[0], type_ or found[1]
    return Line(
        0,
        began,
        ended,
        item,
        resource,
        pool,
        capacity,
        type_,
        "" if zone in ("NoAZ", "No Availability Zone") or zone[-1:].isdigit() else zone,
    )


def _tag(keys: Mapping[str, str], name: str) -> str:
    """The value of `karpenter.sh/nodepool$gpu`; "" where nothing is tagged."""
    return keys.get(f"TAG:{name}", "").partition("$")[2]


def purchase(said: str) -> tuple[str, str]:
    """Capacity and item of a PURCHASE_TYPE. A machine does not know that a plan pays for it: to the platform it is on
    demand."""
    words = said.lower()
    if "spot" in words:
        return "spot", "instance"
    if "saving" in words:
        return "on-demand", "instance (savings plan)"
    if "reserved" in words:
        return "on-demand", "instance (reserved)"
    return ("on-demand", "instance") if "demand" in words else ("", "instance")
