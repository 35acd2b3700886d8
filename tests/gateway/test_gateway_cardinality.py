"""What people choose (tenants, keys, sessions, names of models that nobody knows) adds no series."""

from gateway_parts import HELLO, Stack

from stoker.gateway.measures import MOST_CODES, Measures
from stoker.meter import UsageRecord
from stoker.telemetry.metrics import Metrics

MANY = 10_000


def series(text: str) -> set[str]:
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def a_record(number: int) -> UsageRecord:
    return UsageRecord(
        id=f"r{number}",
        kind="request",
        status="done",
        tenant=f"tenant-{number}",
        key_id=f"key-{number}",
        session=f"session-{number}",
        run=f"run-{number}",
        team=f"team-{number}",
        replica=f"general-{number}",
        model="general",
        prompt_tokens=3,
        completion_tokens=4,
        nano_usd=5,
        started_at=0.0,
        first_token_at=1.0,
        ended_at=2.0,
    )


def test_ten_thousand_tenants_keys_and_sessions_have_as_many_series_as_one() -> None:
    measures = Measures(Metrics())
    measures.ended(a_record(0))
    before = series(measures.metrics.text().decode())
    for number in range(MANY):
        measures.ended(a_record(number))
    text = measures.metrics.text().decode()
    assert series(text) == before
    assert f'stoker_requests_total{{model="general",status="done"}} {MANY + 1}.0' in text


def test_codes_that_somebody_elses_server_makes_up_end_in_one() -> None:
    measures = Measures(Metrics())
    for number in range(MANY):
        measures.refused(f"code-{number}")
    found = [name for name in series(measures.metrics.text().decode()) if name.startswith("stoker_refused_total")]
    assert len(found) == MOST_CODES + 1
    assert 'stoker_refused_total{code="(other)"}' in found


async def test_models_that_nobody_knows_have_no_series(stack: Stack) -> None:
    http = await stack.http()

    async def look() -> set[str]:
        """Without budgets: those are looked up beside it, for the first time when that is done."""
        found = series((await http.request("GET", "/metrics")).body.decode())
        return {name for name in found if not name.startswith("stoker_budgets")}

    async def ask(model: str) -> int:
        body = {"model": model, "messages": HELLO, "user": model}
        answer = await http.request("POST", "/v1/chat/completions", body=body, headers={"x-session-id": model})
        return int(answer.status)

    assert await ask("nobody-0") == 404
    before = await look()
    assert {await ask(f"nobody-{number}") for number in range(100)} == {404}
    assert await look() == before
