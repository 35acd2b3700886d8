"""Other people's clients, unmodified, against the real processes: every endpoint that they know and we have says what
plain HTTP says, refusals are the client's own exceptions, and the ledger has what the client was told."""

import sys

import pytest
from client_parts import HERE, INSTALLED, Account, Json, make_account, run_client
from flow_parts import Running, wait_until
from test_requests import counts, records

PYTHON = INSTALLED / "python" / "bin" / "python"

pytestmark = [pytest.mark.clients, pytest.mark.flow, pytest.mark.redis]

ANSWERS = [
    *("chat", "chat stream", "completion", "completion stream"),
    *("response", "response stream", "embeddings"),
]
ASYNC = "chat async stream"  # of the Python clients, whose other HTTP client is behind it
BATCH = "chat batch"
MODELS = ["general", "code", "vision", "auto"]

OPENAI_REFUSALS = {
    "wrong key": ("AuthenticationError", 401, "invalid_api_key"),
    "unknown model": ("NotFoundError", 404, "model_not_found"),
    "unknown model to retrieve": ("NotFoundError", 404, "model_not_found"),
    "budget of a month": ("RateLimitError", 429, "tokens_budget_exceeded"),
    "a batch that has ended": ("ConflictError", 409, "conflict"),
    "a file that is gone": ("NotFoundError", 404, "file_not_found"),
    "an unknown batch": ("NotFoundError", 404, "batch_not_found"),
}
# What OpenAI's SDKs say of files and batches.
FILES_AND_BATCHES = {
    "file": ["file", "größe.jsonl", "batch", True, True],
    "begin": "validating",
    "end": ["completed", {"job": "nightly"}, 1, 1],
    "fault": ["failed", ["url_mismatch"]],
    "files": [2, True],
    "batches": True,
    "purposes": True,
    "deleted": [True, True],
}


def used(running: Running, key: Json) -> list[tuple[str, str, int, int]]:
    """What the ledger has of a key, the oldest first: model, and how it ended with how many tokens."""
    of_key = [record for record in records(running).values() if record.key_id == key["id"]]
    return [(record.model, *counts(record)) for record in sorted(of_key, key=lambda record: record.started_at)]


def check_answers(lines: list[Json], plain: Json, cases: list[str], untold: tuple[str, ...] = ()) -> None:
    """Each answer says what plain HTTP says, whole and streamed alike; with its usage, but for what is `untold`."""
    assert plain["chat"]["text"] == plain["response"]["text"] == "6 times 7 is 42."
    answers = [line for line in lines if "text" in line or "vectors" in line]
    assert [line["case"] for line in answers] == cases
    assert tuple(line["case"] for line in answers if "usage" not in line) == untold
    for line in answers:
        expected = plain[line["case"].split()[0]]
        assert line.get("usage", expected["usage"]) == expected["usage"], line["case"]
        if "text" in line:
            assert line["text"] == line.get("deltas", line["text"]) == expected["text"], line["case"]
        else:
            assert [len(vector) for vector in line["vectors"]] == [192, 192]
            for vector, wanted in zip(line["vectors"], expected["vectors"], strict=True):
                assert vector == pytest.approx(wanted, abs=1e-6)


def check_ledger(running: Running, account: Account, plain: Json, cases: list[str]) -> None:
    """Each answer is one record, in order, with the tokens that every client is told; a refusal leaves none."""
    told = [("general", "done", *plain[case.split()[0]]["usage"]) for case in cases]
    wait_until(lambda: len(used(running, account.key)) >= len(told), 20, lambda: f"{used(running, account.key)}")
    assert used(running, account.key) == told
    assert len(used(running, account.spent)) == len(used(running, account.month)) == 1  # what spent them


def refusals(lines: list[Json]) -> dict[str, tuple[str, int, str]]:
    return {line["case"]: (line["class"], line["status"], line["code"]) for line in lines if "class" in line}


@pytest.mark.parametrize(
    ("argv", "cases", "any_other_status"),
    [
        ([sys.executable, "openai_client.py"], [*ANSWERS, ASYNC, BATCH], "APIStatusError"),
        (["node", "openai_client.cjs"], [*ANSWERS, BATCH], "APIError"),
    ],
    ids=["python", "javascript"],
)
def test_openai(
    served: Running,
    plain: Json,
    argv: list[str],
    cases: list[str],
    any_other_status: str,
    request: pytest.FixtureRequest,
) -> None:
    account = make_account(served, request.node.callspec.id)
    lines = run_client(served, account, [argv[0], HERE / argv[1]])
    check_answers(lines, plain, cases)
    assert {line["case"]: line["ids"] for line in lines if "ids" in line} == {"models": MODELS, "model": ["general"]}
    assert [line["told"] for line in lines if "told" in line] == [FILES_AND_BATCHES]
    # 402 has no class of its own in either SDK.
    spent = (any_other_status, 402, "budget_exhausted")
    assert refusals(lines) == {
        **OPENAI_REFUSALS,
        "budget that does not renew": spent,
        "a refused stream": spent,
    }
    check_ledger(served, account, plain, cases)


def test_langchain(served: Running, plain: Json) -> None:
    account = make_account(served, "langchain")
    lines = run_client(served, account, [PYTHON, HERE / "langchain_client.py"])
    check_answers(lines, plain, [*ANSWERS, ASYNC], untold=("completion stream", "embeddings"))
    # Classes of its own below the SDK's, where it has one.
    spent = ("APIStatusError", 402, "budget_exhausted")
    assert refusals(lines) == {
        "wrong key": ("OpenAIAuthenticationError", 401, "invalid_api_key"),
        "unknown model": ("OpenAIModelNotFoundError", 404, "model_not_found"),
        "budget of a month": ("OpenAIRateLimitError", 429, "tokens_budget_exceeded"),
        "budget that does not renew": spent,
        "a refused stream": spent,
        "a refused response": spent,
    }
    check_ledger(served, account, plain, [*ANSWERS, ASYNC])


def test_litellm(served: Running, plain: Json) -> None:
    account = make_account(served, "litellm")
    lines = run_client(served, account, [PYTHON, HERE / "litellm_client.py"])
    check_answers(lines, plain, [*ANSWERS, ASYNC, BATCH])
    [told] = [line["told"] for line in lines if "told" in line]
    assert told == {
        "file": ["file", "lines.jsonl", "batch", True, True],
        "begin": FILES_AND_BATCHES["begin"],
        "end": FILES_AND_BATCHES["end"],
        "files": True,
        "batches": True,
        "deleted": FILES_AND_BATCHES["deleted"],
    }
    assert [line["ids"] for line in lines if "ids" in line] == [MODELS]
    found = {line["case"]: (line["class"], line["status"]) for line in lines if "class" in line}
    spent = ("litellm.exceptions.APIError", 402)
    assert found == {
        "wrong key": ("litellm.exceptions.AuthenticationError", 401),
        "unknown model": ("litellm.exceptions.NotFoundError", 404),
        "budget of a month": ("litellm.exceptions.RateLimitError", 429),
        "budget that does not renew": spent,
        "a refused stream": spent,
        "a refused response": spent,
        "a batch that has ended": ("openai.ConflictError", 409),
    }
    messages = {line["case"]: line["message"] for line in lines if "class" in line}
    assert "this API key is not known here" in messages["wrong key"]
    assert "nothing" in messages["unknown model"]
    assert "the key's budget of 100 tokens per month has 20 tokens left" in messages["budget of a month"]
    for case in ("budget that does not renew", "a refused stream", "a refused response"):
        assert "the key's budget of 100 tokens has 20 tokens left" in messages[case], case
    check_ledger(served, account, plain, [*ANSWERS, ASYNC, BATCH])
