"""`stoker batches` against a gateway with a worker."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_parts import CommandLine

from stoker.base.clock import SystemClock

CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.cli.batches.LOOK_EVERY_S", 0.01)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "größe.jsonl"
    made.write_text("".join(json.dumps(a_line(number)) + "\n" for number in (1, 2)))
    return made


@pytest.fixture
def half_a_file(tmp_path: Path) -> Path:
    made = tmp_path / "half.jsonl"
    made.write_text(json.dumps(a_line(1)) + "\nnonsense\n")
    return made


@pytest.fixture
def no_file_of_requests(tmp_path: Path) -> Path:
    made = tmp_path / "other.txt"
    made.write_text("hello")
    return made


def a_line(number: int) -> Any:
    body = {"model": "general" if number == 1 else "nothing", "messages": [{"role": "user", "content": "one two"}]}
    return {"custom_id": f"line-{number}", "method": "POST", "url": CHAT, "body": body}


async def with_a_worker(cli: CommandLine) -> None:
    cli.stack.clock = SystemClock()  # the worker's; the gateway has its own
    await cli.stack.worker(await cli.stack.engine())


async def test_a_batch_is_made_waited_for_and_read(cli: CommandLine, file: Path) -> None:
    await with_a_worker(cli)
    said = await cli.does("batches", "create", str(file), "--wait", "--json")
    batch = said.json
    assert (batch["status"], batch["endpoint"], batch["completion_window"]) == ("completed", CHAT, "24h")
    assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    assert said.err.startswith("validating: 0 of 0 done, 0 failed\n")

    (line,) = (await cli.does("batches", "results", batch["id"])).out.splitlines()
    assert json.loads(line)["response"]["body"]["choices"][0]["message"]["content"] == "one two"
    (line,) = (await cli.does("batches", "results", batch["id"], "--errors")).out.splitlines()
    assert json.loads(line)["response"]["body"]["error"]["code"] == "model_not_found"

    assert [each["id"] for each in (await cli.json("batches", "list"))["batches"]] == [batch["id"]]
    shown = (await cli.does("batches", "show", batch["id"])).out
    assert "status     completed\nlines      2, 1 done, 1 failed\ntokens     2 in, 2 out\n" in shown


async def test_what_is_wrong_with_a_file_is_said_and_is_no_success(cli: CommandLine, half_a_file: Path) -> None:
    said = await cli.says("batches", "create", str(half_a_file), "--wait")
    assert said.code == 1
    assert "status     failed\n" in said.out
    assert "fault      line 2: this line is not JSON" in said.out


async def test_a_batch_is_cancelled(cli: CommandLine, file: Path) -> None:
    batch = await cli.json("batches", "create", str(file), "--window", "2d")
    assert (batch["status"], batch["completion_window"]) == ("validating", "2d")
    said = await cli.says("batches", "results", batch["id"])
    assert (said.code, said.out) == (2, "")
    assert "it has no files yet" in said.err
    assert (await cli.json("batches", "cancel", batch["id"]))["status"] == "cancelling"
    said = await cli.says("batches", "show", batch["id"], "--wait")
    assert said.code == 1
    assert "status     cancelled\n" in said.out


async def test_wrong_wishes_are_named_as_they_were_written(
    cli: CommandLine, file: Path, no_file_of_requests: Path
) -> None:
    said = await cli.says("batches", "create", str(file), "--window", "soon")
    assert (said.code, said.out) == (2, "")
    assert 'completion_window is "soon"; it has to be a time such as 24h' in said.err
    said = await cli.says("batches", "create", str(no_file_of_requests))
    assert said.code == 2
    assert f"the first line of {no_file_of_requests} is not a request of a batch" in said.err
    assert (await cli.says("batches", "show", "batch_nobody")).code == 2
