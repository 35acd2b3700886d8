"""Bills of others as lines: Cost Explorer, the usage report in each of its forms, the simulator."""

import csv
import gzip
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from stoker.base.errors import InvalidInput
from stoker.meter import cost_explorer, costs, savings, sources, usage_report
from stoker.meter.bill import Line, attribute
from stoker.meter.bill_lines import Bill
from stoker.meter.lives import MachineLife

DAY = 86400.0
FIRST = 1793491200.0  # 2026-11-01


def answer(keys: tuple[str, ...], days: list[list[tuple[list[str], str]]], **more: Any) -> dict[str, Any]:
    """Of Cost Explorer; `keys` such as PURCHASE_TYPE or TAG:karpenter.sh/nodepool."""
    return {
        "GroupDefinitions": [
            {"Type": "TAG", "Key": key[4:]} if key.startswith("TAG:") else {"Type": "DIMENSION", "Key": key}
            for key in keys
        ],
        "ResultsByTime": [
            {
                "TimePeriod": {"Start": f"2026-11-{i:02}", "End": f"2026-11-{i + 1:02}"},
                "Total": {},
                "Groups": [
                    {"Keys": names, "Metrics": {"UnblendedCost": {"Amount": amount, "Unit": "USD"}}}
                    for names, amount in groups
                ],
            }
            for i, groups in enumerate(days, 1)
        ],
        **more,
    }


def test_all_groups_of_all_days_are_lines() -> None:
    found = cost_explorer.bill_of(
        answer(
            ("USAGE_TYPE", "PURCHASE_TYPE"),
            [
                [(["SpotUsage:g5.xlarge", "Spot Instances"], "1.5"), (["NatGateway-Hours", "On Demand"], "0.25")],
                [(["USE1-BoxUsage:m5.large", "Savings Plans"], "2"), (["USE1-EBS:VolumeUsage.gp3", ""], "-0.125")],
            ],
        )
    )
    two = FIRST + DAY
    assert found.lines == [
        Line(1_500_000_000, FIRST, two, "instance", capacity="spot", type="g5.xlarge"),
        Line(250_000_000, FIRST, two, "NAT gateway", is_shared=True),
        Line(2_000_000_000, two, two + DAY, "instance (savings plan)", capacity="on-demand", type="m5.large"),
        Line(-125_000_000, two, two + DAY, "volumes", is_shared=True),
    ]


def test_groups_by_tag_and_type_and_no_groups_at_all() -> None:
    tagged = answer(
        ("TAG:karpenter.sh/nodepool", "INSTANCE_TYPE"),
        [[(["karpenter.sh/nodepool$gpu", "g5.xlarge"], "1"), (["karpenter.sh/nodepool$", "NoInstanceType"], "2")]],
    )
    assert cost_explorer.bill_of(tagged).lines == [
        Line(10**9, FIRST, FIRST + DAY, pool="gpu", type="g5.xlarge"),
        Line(2 * 10**9, FIRST, FIRST + DAY, "other", is_shared=True),
    ]
    whole = answer((), [[]])
    whole["ResultsByTime"][0]["Total"] = {"UnblendedCost": {"Amount": "0.1", "Unit": "USD"}}
    assert cost_explorer.bill_of(whole).lines == [Line(10**8, FIRST, FIRST + DAY)]


def test_lines_of_a_time_are_those_that_began_in_it() -> None:
    days = [[(["BoxUsage:m5.large"], amount)] for amount in ("1", "2", "4")]
    bill = cost_explorer.bill_of(answer(("USAGE_TYPE",), days))
    found = [bill.within(FIRST, FIRST + DAY), bill.within(FIRST + 1, None), bill.within(None, FIRST + 2 * DAY + 1)]
    assert [each.nano_usd // 10**9 for each in found] == [1, 6, 7]
    assert Bill("x", [], if_known=bill.lines).within(FIRST + DAY, FIRST + 2 * DAY).if_known == bill.lines[1:2]


def test_what_hours_of_a_type_cost_is_rounded_once() -> None:
    found = answer(("USAGE_TYPE",), [[(["SpotUsage:m5.large"], "0.0000008")]] * 2)
    for result in found["ResultsByTime"]:
        result["Groups"][0]["Metrics"]["UsageQuantity"] = {"Amount": "1.5", "Unit": "Hrs"}
    bill = cost_explorer.bill_of(found)
    spot = savings.of_bill(bill, lambda *_: 1)["spot"]
    assert (spot["hours"], spot["paid_usd"]) == (3.0, 0.000002)
    # Of one day there are the hours of one day.
    assert savings.of_bill(bill.within(FIRST + DAY, None), lambda *_: 1)["spot"]["hours"] == 1.5


def test_a_credit_says_no_hours_of_spot_again(tmp_path: Path) -> None:
    spot = {"lineItem/UsageType": "SpotUsage:m5.large", "lineItem/UsageAmount": "10", "lineItem/UnblendedCost": "3"}
    credit = {"lineItem/LineItemType": "Credit", "lineItem/UnblendedCost": "-2"}
    (tmp_path / "x").write_bytes(as_csv([LEGACY | spot, LEGACY | spot | credit]))
    bill = sources.read(tmp_path / "x", "unblended", "prod")
    assert isinstance(bill, Bill)
    found = savings.of_bill(bill, lambda *_: 10**9)["spot"]
    assert (bill.nano_usd, found["hours"], found["paid_usd"]) == (10**9, 10, 3)


def test_an_answer_without_its_last_page_is_refused_and_pages_are_joined() -> None:
    one = answer(("SERVICE",), [[(["Tax"], "1")]])
    with pytest.raises(InvalidInput, match="goes on"):
        cost_explorer.bill_of({**one, "NextPageToken": "x"})
    assert cost_explorer.bill_of([{**one, "NextPageToken": "x"}, one]).nano_usd == 2 * 10**9
    with pytest.raises(InvalidInput, match="has no AmortizedCost; it has UnblendedCost"):
        cost_explorer.bill_of(one, "amortized")


LEGACY = {
    "lineItem/LineItemType": "Usage",
    "lineItem/UsageStartDate": "2026-11-01T05:00:00Z",
    "lineItem/ProductCode": "AmazonEC2",
    "lineItem/UsageType": "BoxUsage:m5.large",
    "lineItem/ResourceId": "i-1",
    "lineItem/AvailabilityZone": "us-east-1a",
    "lineItem/UsageAmount": "1",
    "lineItem/UnblendedCost": "0",
    "reservation/EffectiveCost": "",
    "savingsPlan/SavingsPlanEffectiveCost": "",
    "savingsPlan/TotalCommitmentToDate": "",
    "savingsPlan/UsedCommitment": "",
    "resourceTags/user:eks:eks-cluster-name": "prod",
    "resourceTags/user:karpenter.sh/nodepool": "cpu",
}


def rows() -> list[dict[str, str]]:
    def row(usd: str, **changed: str) -> dict[str, str]:
        names = {"kind": "lineItem/LineItemType", "usage": "lineItem/UsageType", "id": "lineItem/ResourceId"}
        names |= {"effective": "savingsPlan/SavingsPlanEffectiveCost", "cluster": list(LEGACY)[-2]}
        names |= {"total": "savingsPlan/TotalCommitmentToDate", "used": "savingsPlan/UsedCommitment"}
        names |= {"reserved": "reservation/EffectiveCost"}
        return LEGACY | {"lineItem/UnblendedCost": usd} | {names[name]: value for name, value in changed.items()}

    return [
        row("0.096"),
        row("0.096"),
        row("0.03", usage="SpotUsage:m5.large", id="i-2"),
        row("0.096", kind="SavingsPlanCoveredUsage", id="i-3", effective="0.07"),
        row("-0.096", kind="SavingsPlanNegation", id="i-3"),
        row("0.1", kind="SavingsPlanRecurringFee", usage="ComputeSP", id="", total="0.1", used="0.07"),
        row("0", kind="DiscountedUsage", id="i-4", reserved="0.05"),
        row("-1", kind="Credit", id=""),
        row("2", kind="Tax", id=""),
        row("0.5", usage="NatGateway-Bytes", id="nat-1"),
        row("7", id="i-9", cluster="other"),
        row("0.2", id="i-8", cluster=""),
    ]


def as_csv(of: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(of[0]))
    writer.writeheader()
    writer.writerows(of)
    return text.getvalue().encode()


def forms(folder: Path, of: list[dict[str, str]]) -> list[Path]:
    """The same rows as each kind of file, under names that say nothing."""
    new = [
        {
            **{usage_report.column(k): v for k, v in row.items() if not k.startswith("resourceTags")},
            "resource_tags": json.dumps(
                {"user_eks_eks_cluster_name": row[list(LEGACY)[-2]], "user_karpenter_sh_nodepool": "cpu"}
            ),
        }
        for row in of
    ]
    found = [folder / name for name in ("a", "b", "c", "d")]
    found[0].write_bytes(as_csv(of))
    found[1].write_bytes(gzip.compress(as_csv(of)))
    found[2].write_bytes(as_csv(new))
    maps = [{**row, "resource_tags": list(json.loads(row["resource_tags"]).items())} for row in new]
    schema = pyarrow.schema(
        [
            (name, pyarrow.map_(pyarrow.string(), pyarrow.string()) if name == "resource_tags" else pyarrow.string())
            for name in maps[0]
        ]
    )
    parquet.write_table(pyarrow.Table.from_pylist(maps, schema), found[3])
    return found


def test_every_form_of_a_usage_report_says_the_same(tmp_path: Path) -> None:
    for file in forms(tmp_path, rows()):
        found = sources.read(file, "unblended", "prod")
        assert isinstance(found, Bill)
        by = {(line.machine, line.item): line.nano_usd for line in found.lines}
        assert by == {
            ("i-1", "instance"): 192_000_000,
            ("i-2", "instance"): 30_000_000,
            ("", "savings plan"): 100_000_000,
            ("", "credit"): -(10**9),
            ("", "tax"): 2 * 10**9,
            ("", "NAT gateway"): 500_000_000,
        }
        assert found.lines[0] == Line(
            192_000_000, FIRST, FIRST + DAY, "instance", "i-1", "cpu", "on-demand", "m5.large", "us-east-1a"
        )
        assert (found.left_out_nano_usd, found.left_out_rows) == (7 * 10**9, 1)
        assert found.known_to({"i-8"}).nano_usd == found.nano_usd + 200_000_000
        assert found.known_to(set()).left_out_nano_usd == 7_200_000_000
        everything = sources.read(file, "unblended", "prod", take_all=True)
        assert isinstance(everything, Bill)
        assert everything.nano_usd == sum(int(Decimal(row["lineItem/UnblendedCost"]) * 10**9) for row in rows())


def test_amortized_is_what_plans_and_reservations_cost_for_their_usage(tmp_path: Path) -> None:
    file = forms(tmp_path, rows())[0]
    found = usage_report.bill_of(file, "amortized", "prod")
    by = {(line.machine, line.item): line.nano_usd for line in found.lines}
    assert by[("i-3", "instance (savings plan)")] == 70_000_000
    assert by[("i-4", "instance (reserved)")] == 50_000_000
    assert by[("", "savings plan")] == 30_000_000  # of the hour's commitment, what nobody used


RESERVED = {
    "reservation/UnusedAmortizedUpfrontFeeForBillingPeriod": "3",
    "reservation/UnusedRecurringFee": "0.5",
    "reservation/ReservationARN": "arn:aws:ec2:us-east-1:1:reserved-instances/1",
    "lineItem/UnblendedCost": "10",
    "lineItem/ResourceId": "",
    "lineItem/UsageType": "HeavyUsage:m5.large",
}


@pytest.mark.parametrize(
    ("changed", "usd"),
    [
        ({"lineItem/LineItemType": "RIFee"}, 3.5),
        ({"lineItem/LineItemType": "Fee"}, 0),
        ({"lineItem/LineItemType": "Fee", "reservation/ReservationARN": ""}, 10),
        ({"lineItem/LineItemType": "SavingsPlanUpfrontFee"}, 0),
    ],
)
def test_amortized_fees_are_what_nobody_used(tmp_path: Path, changed: dict[str, str], usd: float) -> None:
    (tmp_path / "x").write_bytes(as_csv([LEGACY | RESERVED | changed]))
    found = sources.read(tmp_path / "x", "amortized", "prod")
    assert isinstance(found, Bill)
    assert found.nano_usd == usd * 10**9


def test_what_a_plan_cost_is_not_0_where_the_file_does_not_say_it(tmp_path: Path) -> None:
    row = LEGACY | {"lineItem/LineItemType": "SavingsPlanCoveredUsage", "lineItem/UnblendedCost": "1"}
    del row["savingsPlan/SavingsPlanEffectiveCost"]
    (tmp_path / "x").write_bytes(as_csv([row]))
    assert isinstance(sources.read(tmp_path / "x", "unblended", "prod"), Bill)
    with pytest.raises(InvalidInput, match="row 2 has no savings_plan_savings_plan_effective_cost"):
        sources.read(tmp_path / "x", "amortized", "prod")
    (tmp_path / "x").write_bytes(as_csv([LEGACY, LEGACY])[:-60])
    with pytest.raises(InvalidInput, match="row 3 has no line_item_unblended_cost"):
        sources.read(tmp_path / "x", "unblended", "prod")


def test_a_bill_alone_says_no_tenant_but_its_own_words(tmp_path: Path) -> None:
    found = usage_report.bill_of(forms(tmp_path, rows())[0], "unblended", "prod")
    report = sources.of_file_alone(costs.Asked(("capacity",), FIRST, FIRST + DAY), found)
    assert {row["key"]: row["nano_usd"] for row in report["rows"]} == {
        "(tax)": 2 * 10**9,
        "(NAT gateway)": 500_000_000,
        "on-demand": 192_000_000,
        "(savings plan)": 100_000_000,
        "spot": 30_000_000,
        "(credit)": -(10**9),
    }
    with pytest.raises(InvalidInput, match="by tenant: a bill alone does not say it"):
        sources.of_file_alone(costs.Asked(("tenant",), FIRST, FIRST + DAY), found)


def a_cell(nano: int, part: str = "work", tenant: str = "", **changed: Any) -> dict[str, Any]:
    of = {"item": "instances", "nodepool": "gpu", "capacity": "spot", "type": "g6.xlarge", "zone": "us-east-1a"}
    return {**of, "part": part, "model": "general", "tenant": tenant, "nano_usd": nano, **changed}


def a_simulated_report(*cells: Any) -> dict[str, Any]:
    return {"cost_usd": {"total": 3.0, "cells": list(cells)}, "began_at": "2026-11-01T00:00:00Z", "ended_at_s": 60.0}


def test_the_simulators_rows() -> None:
    found = a_simulated_report(
        a_cell(2_000_000_100, tenant="a"),
        a_cell(500_000_300, tenant="b", capacity="on-demand"),
        a_cell(400_000_000, "idle"),
        a_cell(99_999_600, "idle"),
        a_cell(7, "start-up", model=""),
    )
    report = sources.of_simulator(found, "tenant,model")
    assert [(row["tenant"], row["model"], row["nano_usd"], row["usd"]) for row in report["rows"]] == [
        ("a", "general", 2_000_000_100, 2.0),
        ("b", "general", 500_000_300, 0.5),
        ("(idle)", "general", 499_999_600, 0.5),  # the larger remainder: so that what is shown sums
        ("(start-up)", "(start-up)", 7, 0.0),
    ]
    assert report["bill_usd"] == report["total_usd"] == 3.0
    assert report["bill_nano_usd"] == 3_000_000_007
    assert report["parts"] == {"idle": 0.5, "start-up": 0.0, "work": 2.5}
    assert (report["source"], report["since"], report["until"]) == ("simulator", FIRST, FIRST + 60)
    of = {row["key"]: row for row in sources.of_simulator(found, "capacity")["rows"]}
    assert (of["spot"]["nano_usd"], of["spot"]["work_usd"], of["spot"]["idle_usd"]) == (2_499_999_707, 2.0, 0.5)
    few = sources.of_simulator(found, "tenant", most_rows=1)["rows"]
    assert [(row["key"], row["nano_usd"]) for row in few] == [("a", 2_000_000_100), ("(3 others)", 999_999_907)]


def test_what_the_simulators_report_does_not_have() -> None:
    with pytest.raises(InvalidInput, match="has no session, day; it has tenant, model, nodepool, capacity"):
        sources.of_simulator(a_simulated_report(), "session,day")
    for cell, error in (
        (7, r"cells\[1\].tenant must be a text"),
        (a_cell(1, "wasted"), r"cells\[1\].part is 'wasted'; it must be one of work, idle, start-up"),
        (a_cell(1, zone=None), r"cells\[1\].zone must be a text"),
        ({**a_cell(1), "nano_usd": 1.5}, r"cells\[1\].nano_usd is 1.5; it must be a whole number"),
    ):
        with pytest.raises(InvalidInput, match=error):
            sources.of_simulator(a_simulated_report(a_cell(1), cell), "tenant")
    with pytest.raises(InvalidInput, match=r"cost_usd\.cells must be a list") as caught:
        sources.of_simulator({"cost_usd": {"total": 3.0}}, "tenant")
    assert caught.value.hint == "run `stoker simulate --json` again: earlier versions did not write it"


def test_what_is_no_bill_is_refused(tmp_path: Path) -> None:
    for content in (b'{"a": 1}', b"a,b\n1,2\n", b"PAR1xxxx", b'{"ResultsByTime": 3}', b"[" * 200_000):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(InvalidInput):
            sources.read(tmp_path / "x", "unblended", "prod")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"lineItem/CurrencyCode": "CNY"}, "row 2 is in CNY; only USD is read"),
        ({"lineItem/UnblendedCost": "1e300"}, "row 2: the amount is 1e300; it must be at most 1,000,000,000,000"),
    ],
)
def test_money_that_cannot_be_added_is_refused(tmp_path: Path, said: dict[str, str], why: str) -> None:
    (tmp_path / "x").write_bytes(as_csv([LEGACY | said]))
    with pytest.raises(InvalidInput, match=why):
        sources.read(tmp_path / "x", "unblended", "prod")


amounts = st.decimals(min_value=-50, max_value=500, places=11, allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(amounts, st.sampled_from(["i-1", "i-2", "i-7", "nat-1", ""])), min_size=1, max_size=30),
    st.lists(st.tuples(st.floats(0, DAY), st.floats(1, DAY)), max_size=2),
)
def test_rows_sum_to_the_bill_whatever_is_in_it(
    billed: list[tuple[Decimal, str]], lives: list[tuple[float, float]]
) -> None:
    of = [LEGACY | {"lineItem/UnblendedCost": str(usd), "lineItem/ResourceId": name} for usd, name in billed]
    machines = [
        MachineLife(
            id=f"i-{i}",
            pool="cpu",
            capacity="on-demand",
            type="m5.large",
            zone="us-east-1a",
            nano_usd_per_hour=10**8,
            began_at=FIRST + began,
            seen_at=FIRST + began + lasted,
        )
        for i, (began, lasted) in enumerate(lives, 1)
    ]
    report = [{usage_report.column(name): value for name, value in row.items()} for row in of]
    explorer = answer(("USAGE_TYPE",), [[([f"BoxUsage:{name}"], str(usd)) for usd, name in billed if name]])
    exact = sum((usd for usd, _ in billed), Decimal())
    for bill, usd in (
        (usage_report.summed(report, "x", "unblended", "prod"), exact),
        (cost_explorer.bill_of(explorer), sum((usd for usd, name in billed if name), Decimal())),
    ):
        assert abs(bill.nano_usd - usd * 10**9) <= Decimal("0.5")
        assert sum(attribute(bill.lines, machines, [], {}).values()) == bill.nano_usd
