"""Other people's clients, unmodified, against the real processes: every endpoint that they know and we have says what
plain HTTP says, refusals are the client's own exceptions, and the ledger has what the client was told."""

import sys
from typing import Any

import pytest
from client_parts import HERE, Account, Json, make_account, run_client
from flow_parts import Running, wait_until
from test_requests import counts, records

pytestmark = [pytest.mark.clients, pytest.mark.flow, pytest.mark.redis]

MODELS = ["general", "code", "vision", "auto"]

OPENAI_REFUSALS = {
    "wrong key": ("AuthenticationError", 401, "invalid_api_key"),
    "unknown model": ("NotFoundError", 404, "model_not_found"),
    "unknown model to retrieve": ("NotFoundError", 404, "model_not_found"),
    "budget of a month": ("RateLimitError", 429, "tokens_budget_exceeded"),
}


def used(running: Running, key: Json) -> list[tuple[str, str, int, int]]:
    """What the ledger has of a key, the oldest first: model, and how it ended with how many tokens."""
    of_key = [record for record in records(running).values() if record.key_id == key["id"]]
    return [(record.model, *counts(record)) for record in sorted(of_key, key=lambda record: record.started_at)]


def check_answers(lines: list[Json], plain: Json, cases: list[str]) -> None:
    """Each answer says what plain HTTP says, whole and streamed alike."""
    assert plain["chat"]["text"] == plain["response"]["text"] == "6 times 7 is 42."
    answers = [line for line in lines if "usage" in line]
    assert [line["case"] for line in answers] == cases
    for line in answers:
        expected = plain[line["case"].removesuffix(" stream")]
        assert line["usage"] == expected["usage"], line["case"]
        for said in ("text", "deltas"):
            if said in line:
                assert line[said] == expected["text"], line["case"]
        if "vectors" in line:
            assert len(line["vectors"]) == 2
            for vector, wanted in zip(line["vectors"], expected["vectors"], strict=True):
                assert vector == pytest.approx(wanted, abs=1e-6)


def check_ledger(running: Running, account: Account, lines: list[Json]) -> None:
    """Each answer is one record with what the client was told, in order; a refusal leaves none."""
    told = [("general", "done", *line["usage"]) for line in lines if "usage" in line]
    wait_until(lambda: len(used(running, account.key)) >= len(told), 20, lambda: f"{used(running, account.key)}")
    assert used(running, account.key) == told
    assert len(used(running, account.spent)) == len(used(running, account.month)) == 1  # what spent them


def refusals(lines: list[Json]) -> dict[str, Any]:
    return {line["case"]: (line["class"], line["status"], line["code"]) for line in lines if "class" in line}


@pytest.mark.parametrize(
    ("argv", "any_other_status"),
    [([sys.executable, "openai_client.py"], "APIStatusError"), (["node", "openai_client.cjs"], "APIError")],
    ids=["python", "javascript"],
)
def test_openai(
    served: Running, plain: Json, argv: list[str], any_other_status: str, request: pytest.FixtureRequest
) -> None:
    account = make_account(served, request.node.callspec.id)
    lines = run_client(served, account, [argv[0], HERE / argv[1]])
    check_answers(
        lines,
        plain,
        [
            *("chat", "chat stream", "completion", "completion stream"),
            *("response", "response stream", "embeddings"),
        ],
    )
    assert {line["case"]: line["ids"] for line in lines if "ids" in line} == {"models": MODELS, "model": ["general"]}
    # 402 has no class of its own in either SDK.
    spent = (any_other_status, 402, "budget_exhausted")
    assert refusals(lines) == {
        **OPENAI_REFUSALS,
        "budget that does not renew": spent,
        "a refused stream": spent,
    }
    check_ledger(served, account, lines)
