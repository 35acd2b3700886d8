"""What gateways put into CloudWatch, read back from moto's server."""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from gateway_parts import HELLO, KEY, OTHER_KEY, SPEC, Stack, a_stack

from stoker.aws import cloudwatch_names as names
from stoker.aws.cloudwatch import MOST_VALUES, Counted, Datum, Metrics, Statistics
from stoker.base.errors import InvalidInput
from stoker.gateway.cloudwatch import CloudWatch, Figures, machines, queues
from stoker.gateway.settling import Settler
from stoker.meter import UsageRecord
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.queue import Depth, MemoryBudgets, MemoryQueue, MemoryRegistry
from stoker.render.cloudwatch_alarms import alarms
from stoker.render.cloudwatch_dashboard import body
from stoker.render.plan import Plan
from stoker.spec import loads
from stoker.testing import ManualClock
from stoker.testing.aws import CREDENTIALS, Gate

ON = "\nglobal: {cluster: {name: CLUSTER}, observability: {cloudwatch: true, cloudwatchTenants: [other]}}"
T0 = 1_800_000_000.0  # the beginning of a minute


@pytest.fixture
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of CloudWatch; what the gateways of this test put goes there, too."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": moto_url, "STOKER_CLOUDWATCH": "on"}.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("cloudwatch", region_name="us-west-2")
    yield client
    client.close()


@pytest.fixture
async def gateways(tmp_path: Path) -> AsyncIterator[Callable[[], Any]]:
    """Each call starts one more gateway on the same Redis and ledger."""
    queue, registry = MemoryQueue(), MemoryRegistry()
    async with AsyncExitStack() as parts:

        async def start(cluster: str = "blue") -> Stack:
            platform = loads(SPEC.replace("TOTAL", "20").replace("CONNECT", "2") + ON.replace("CLUSTER", cluster))
            made = a_stack(tmp_path, platform=platform, queue=queue, registry=registry, budgets=MemoryBudgets(queue))
            return await parts.enter_async_context(made)

        yield start


def named(dimensions: Any) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in dimensions}


def total(aws: Any, namespace: str, metric: str, statistic: str = "Sum", **dimensions: str) -> float:
    asked = [{"Name": name, "Value": value} for name, value in dimensions.items()]
    now = datetime.now(UTC)
    found = aws.get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=asked,
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(hours=1),
        Period=60,
        Statistics=[statistic],
    )["Datapoints"]
    return math.fsum(each[statistic] for each in found)


async def test_two_gateways_put_what_all_requests_and_tasks_came_to(aws: Any, gateways: Any) -> None:
    one, two = await gateways(), await gateways()
    engine = await one.engine()
    await two.gateway.fleet.refresh()
    await one.worker(engine)
    for stack, key in ((one, KEY), (two, KEY), (two, OTHER_KEY)):
        client = await stack.sdk(key=key)
        await client.chat.completions.create(model="general", messages=HELLO, max_tokens=10)
    stream = await (await one.sdk()).chat.completions.create(model="general", messages=HELLO, stream=True)
    assert [each async for each in stream]
    http = await two.http()
    task = await http.post_json("/v1/tasks", {"model": "general", "messages": HELLO, "max_tokens": 5})
    async with asyncio.timeout(20):
        while (await http.get_json(f"/v1/tasks/{task['id']}"))["state"] != "done":  # noqa: ASYNC110 - far side
            await asyncio.sleep(0.01)
    # A report of either reads everything, also what the other one may be storing.
    records = await one.records() and await two.records()
    assert len(records) == 5
    await one.shut()
    await two.shut()
    of_model = {"ClusterName": "blue", "ModelName": "general"}
    assert total(aws, "AgenticAI/Tokens", "Requests", **of_model) == 5
    assert total(aws, "AgenticAI/Tokens", "Errors", **of_model) == 0
    assert total(aws, "AgenticAI/Tokens", "PromptTokens", **of_model) == sum(each.prompt_tokens for each in records)
    said = sum(each.completion_tokens for each in records)
    assert total(aws, "AgenticAI/Tokens", "CompletionTokens", **of_model) == said > 0
    usd = sum(each.nano_usd for each in records) / 1e9
    assert total(aws, "AgenticAI/Cost", "ListPrice", **of_model) == pytest.approx(usd, rel=1e-12)
    seen = sum(each.first_token_at is not None for each in records)
    assert total(aws, "AgenticAI/Tokens", "TimeToFirstToken", "SampleCount", **of_model) == seen >= 1
    assert total(aws, "AgenticAI/Tokens", "Requests", ClusterName="blue", TenantName="other") == 1
    listed = aws.list_metrics(Namespace="AgenticAI/Tokens", MetricName="Requests")["Metrics"]
    found = [named(metric["Dimensions"]) for metric in listed]
    # moto lists a metric once for each minute in which it was put.
    ours = {str(each): each for each in found if each["ClusterName"] == "blue"}
    assert [ours[each] for each in sorted(ours)] == [
        {"ClusterName": "blue", "ModelName": "general"},
        {"ClusterName": "blue", "TenantName": "other"},
    ]


async def test_gauges_of_the_queue_are_put_once_a_minute(aws: Any, gateways: Any) -> None:
    stack = await gateways("green")
    http = await stack.http()
    for _ in range(3):
        await http.post_json("/v1/tasks", {"model": "code", "messages": HELLO})
    await stack.gateway.cloudwatch.put()
    await stack.shut()
    of_model = {"ClusterName": "green", "ModelName": "code"}
    assert total(aws, "AgenticAI/Queue", "TasksWaiting", "Maximum", **of_model) == 3
    assert total(aws, "AgenticAI/Queue", "TasksRunning", "Maximum", **of_model) == 0
    assert total(aws, "AgenticAI/Tokens", "MetricsDropped", ClusterName="green") == 0


async def test_the_rendered_dashboard_and_alarms_are_taken_and_ask_for_what_is_put(aws: Any, gateways: Any) -> None:
    """What Terraform makes of them, by the same calls; with Terraform itself: `make test-terraform`."""
    stack = await gateways("yellow")
    await stack.engine()
    client = await stack.sdk()
    await client.chat.completions.create(model="general", messages=HELLO, max_tokens=4)
    await stack.records()
    await stack.gateway.cloudwatch.put()
    await stack.shut()
    plan = Plan(stack.platform, "karpenter")
    aws.put_dashboard(DashboardName="yellow-stoker", DashboardBody=json.dumps(body(plan)))
    for alarm in alarms(plan):
        aws.put_metric_alarm(
            AlarmName=alarm.name,
            Namespace=alarm.namespace,
            MetricName=alarm.metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in alarm.dimensions],
            Statistic=alarm.statistic,
            Period=alarm.period_s,
            EvaluationPeriods=alarm.periods,
            ComparisonOperator="GreaterThanThreshold" if alarm.above is not None else "LessThanThreshold",
            Threshold=float(alarm.above if alarm.above is not None else alarm.below or 0.0),
            TreatMissingData="notBreaching",
        )
    made = {each["AlarmName"]: each for each in aws.describe_alarms()["MetricAlarms"]}
    assert {"queue_general", "queue_code", "queue_vision", "node_failed"} <= set(made)
    for name, alarm in made.items():
        if name.startswith("queue_"):
            found = aws.list_metrics(
                Namespace=alarm["Namespace"], MetricName=alarm["MetricName"], Dimensions=alarm["Dimensions"]
            )["Metrics"]
            assert named(alarm["Dimensions"]) in [named(each["Dimensions"]) for each in found]
    shown = aws.get_dashboard(DashboardName="yellow-stoker")["DashboardBody"]
    searched = re.findall(r"SEARCH\('\{(AgenticAI/\w+),([^}]*)\} MetricName=\\\"(\w+)\\\"", shown)
    assert len(searched) >= 9
    for namespace, dimensions, metric in searched:
        found = aws.list_metrics(Namespace=namespace, MetricName=metric)["Metrics"]
        sets = {tuple(sorted(each["Name"] for each in one["Dimensions"])) for one in found}
        assert tuple(sorted(dimensions.split(","))) in sets or metric == "TimeToFirstToken", metric


async def test_nothing_is_put_from_a_laptop_or_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = loads(SPEC.replace("TOTAL", "20").replace("CONNECT", "2") + ON)
    async with a_stack(tmp_path, platform=platform) as stack:
        assert stack.gateway.cloudwatch is None
    monkeypatch.setenv("STOKER_CLOUDWATCH", "on")
    async with a_stack(tmp_path) as stack:
        assert stack.gateway.cloudwatch is None


async def test_without_boto3_the_gateway_says_so_at_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_CLOUDWATCH", "on")
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    platform = loads(SPEC.replace("TOTAL", "20").replace("CONNECT", "2") + ON)
    with pytest.raises(InvalidInput, match="metrics for CloudWatch need boto3"):
        async with a_stack(tmp_path, platform=platform):
            pass


# --- what is counted --------------------------------------------------------------------------------------------------


def a_record(number: int, **changed: Any) -> UsageRecord:
    said: dict[str, Any] = {
        "id": f"r{number}",
        "kind": "request",
        "status": "done",
        "tenant": "acme",
        "key_id": "key_1",
        "model": "general",
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "cached_tokens": 3,
        "nano_usd": 5_000_000,
        "started_at": T0 + number,
        "ended_at": T0 + number,
    }
    return UsageRecord(**said | changed)


def by_name(data: list[Datum]) -> dict[str, Any]:
    return {each.name: each.value for each in data}


def test_the_page_names_all_that_is_put_since_each_metric_costs_money() -> None:
    page = (Path(__file__).parents[2] / "docs/telemetry/cloudwatch.md").read_text()
    assert [name for _, name in names.PUT if f"`{name}`" not in page] == []


def test_a_minute_is_put_when_it_is_over_with_its_least_and_most() -> None:
    figures = Figures("blue", ["general"], [])
    figures.count([a_record(0), a_record(59, status="failed", prompt_tokens=30), a_record(60, status="lost")], T0 + 61)
    assert figures.take(T0 + 59) == []
    data = figures.take(T0 + 60)
    assert {each.at for each in data} == {T0}
    assert by_name(data) == {
        "Requests": Statistics(2, 2.0, 1.0, 1.0),
        "Errors": Statistics(2, 1.0, 0.0, 1.0),
        "PromptTokens": Statistics(2, 40, 10, 30),
        "CachedTokens": Statistics(2, 6, 3, 3),
        "CompletionTokens": Statistics(2, 8, 4, 4),
        "ListPrice": Statistics(2, 0.01, 0.005, 0.005),
    }
    late = by_name(figures.take(math.inf))
    assert (late["Requests"], late["Errors"]) == (Statistics(1, 1.0, 1.0, 1.0),) * 2
    assert figures.take(math.inf) == []


def test_ten_thousand_tenants_and_unknown_models_make_no_series_of_their_own() -> None:
    figures = Figures("blue", ["general"], ["t7"])
    records = [a_record(i % 60, id=str(i), tenant=f"t{i}", model=("general", f"m{i}")[i % 2]) for i in range(10_000)]
    figures.count([*records, a_record(0, kind="step", model="agents")], T0 + 61)
    data = figures.take(math.inf)
    assert {tuple(each.dimensions.items()) for each in data} == {
        (("ClusterName", "blue"), ("ModelName", "general")),
        (("ClusterName", "blue"), ("ModelName", "(other)")),
        (("ClusterName", "blue"), ("TenantName", "t7")),
    }
    assert sum(each.value.sum for each in data if each.name == "Requests" and "ModelName" in each.dimensions) == 10_000  # type: ignore[union-attr]


def test_times_to_the_first_token_keep_their_percentiles_in_few_values() -> None:
    figures = Figures("blue", ["general"], [])
    times = [0.001 * i for i in range(1, 2001)]
    figures.count([a_record(0, id=str(i), first_token_at=T0 + each) for i, each in enumerate(times)], T0)
    parts = [each.value for each in figures.take(math.inf) if each.name == "TimeToFirstToken"]
    assert all(isinstance(each, Counted) and len(each.counts) <= MOST_VALUES for each in parts)
    spread = sorted(value for part in parts for value, often in part.counts.items() for _ in range(often))  # type: ignore[union-attr]
    assert len(spread) == 2000
    assert spread[999] == pytest.approx(1.0, rel=0.05)
    assert spread[1899] == pytest.approx(1.9, rel=0.05)


def test_what_is_too_old_for_cloudwatch_or_too_much_is_counted_as_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.gateway.cloudwatch.MOST_WAITING", 2)
    figures = Figures("blue", ["general"], [])
    figures.count([a_record(0, ended_at=T0 - 14 * 86400), a_record(0, ended_at=T0 + 2 * 3600)], T0 + 130)
    assert (figures.dropped, figures.take(math.inf)) == (2, [])
    figures.count([a_record(0), a_record(60), a_record(120)], T0 + 130)
    assert figures.dropped == 3
    assert len(figures.take(math.inf)) == 12


async def test_while_aws_is_away_the_oldest_go_and_their_number_is_put(
    aws: Any, moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gate(moto_url) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
        gate.shut = True
        clock = ManualClock(start=T0)
        metrics = Metrics(names.TOKENS, region="us-west-2", pause_s=0.01, most_waiting=8)
        figures = Figures("red", ["general"], [])

        async def look() -> tuple[dict[str, Any], dict[str, int]]:
            return {}, {}

        cloudwatch = CloudWatch(figures, metrics, clock, cluster="red", look=look)
        for minute in range(40):
            cloudwatch.count([a_record(60 * minute, id=str(minute))])
        metrics.put(*figures.take(math.inf))
        assert metrics.dropped >= 6 * 40 - 2 * 8  # as many may wait as are being sent
        said = metrics.dropped
        await cloudwatch.put()
        gate.shut = False
        await asyncio.to_thread(cloudwatch.close)
    found = aws.list_metrics(Namespace=names.TOKENS, Dimensions=[{"Name": "ClusterName", "Value": "red"}])["Metrics"]
    assert "MetricsDropped" in {each["MetricName"] for each in found}
    period = {"StartTime": T0 - 60, "EndTime": T0 + 60, "Period": 60, "Statistics": ["Sum"]}
    [point] = aws.get_metric_statistics(
        Namespace=names.TOKENS, MetricName="MetricsDropped", Dimensions=found[0]["Dimensions"][:1], **period
    )["Datapoints"]
    assert said <= point["Sum"] <= said + 16


async def test_what_was_dropped_is_told_once() -> None:
    class Kept:
        dropped = 5

        def put(self, *data: Datum) -> None:
            self.data = {each.name: each.value for each in data}

    async def look() -> tuple[dict[str, Any], dict[str, int]]:
        return {}, {}

    kept = Kept()
    cloudwatch = CloudWatch(Figures("red", [], []), kept, ManualClock(start=T0), cluster="red", look=look)  # type: ignore[arg-type]
    told = []
    for dropped in (5, 5, 7):
        kept.dropped = dropped
        await cloudwatch.put()
        told.append(kept.data["MetricsDropped"])
    assert told == [5, 0, 2]


def test_what_a_gateway_puts_has_the_dimensions_that_are_asked_for() -> None:
    figures = Figures("blue", ["general"], ["acme"])
    figures.count([a_record(0, first_token_at=T0 + 0.5)], T0)
    depths = {"general": (Depth(lag=1, pending=2, delayed=3, dead=4), 5)}
    lost = Datum("MetricsDropped", 0.0, "Count", T0, {"ClusterName": "blue"}, names.TOKENS)
    costs = machines("blue", {("g5.xlarge", "spot"): 1.5}, T0)
    data = [*figures.take(math.inf), *queues("blue", depths, {"general": 6}, T0), *costs, lost]
    put = {(each.namespace, each.name, tuple(sorted(each.dimensions))) for each in data}
    assert put == {(*key, sorted_set) for key, sets in names.PUT.items() for sorted_set in sets}


async def test_a_record_that_several_gateways_store_is_counted_by_one(tmp_path: Path) -> None:
    """As when a report settles what another gateway has read."""
    store = Store(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    counted: list[str] = []
    for name in ("one", "two"):
        settler = Settler(MemoryQueue(), Ledger(store), name, ManualClock(start=T0))
        settler.counted = lambda records: counted.extend(each.id for each in records)
        await settler.store([a_record(1), a_record(2), a_record(2)])
    await settler.store([a_record(3), a_record(1)])
    store.close()
    assert sorted(counted) == ["r1", "r2", "r3"]


def test_a_minute_is_one_call_for_each_namespace() -> None:
    """Calls are paid for."""
    calls: list[tuple[str, int]] = []

    class Client:
        def put_metric_data(self, **said: Any) -> None:
            calls.append((said["Namespace"], len(said["MetricData"])))

    figures = Figures("blue", ["general", "code"], ["acme"])
    figures.count([a_record(0, first_token_at=T0 + 1), a_record(1, model="code", first_token_at=T0 + 2)], T0)
    metrics = Metrics(names.TOKENS)
    metrics._client = Client()
    metrics.send([*figures.take(math.inf), *queues("blue", {"code": (Depth(1, 2, 3, 4), 5)}, {}, T0)])
    assert calls == [("AgenticAI/Tokens", 18), ("AgenticAI/Cost", 3), ("AgenticAI/Queue", 3)]
