"""`stoker tasks dead | replay | drop | dropped`: what is typed and what a person reads."""

import pytest
from cli_parts import CommandLine
from gateway_parts import HELLO

from stoker.base.ids import ModelName, TaskId
from stoker.cli.letters import _forwarding
from stoker.queue import State


async def a_letter(cli: CommandLine, code: str = "boom") -> str:
    body = {"model": "general", "messages": HELLO}
    answer = await (await cli.stack.http()).post_json("/v1/tasks", body)
    [claim] = await cli.stack.queue.claim(ModelName("general"), "w1", wait_s=20)
    error = {"message": f"the engine said {code}", "code": code}
    await cli.stack.queue.fail(claim, "no answer", retry_in_s=None, error=error)
    return str(answer["id"])


async def test_letters_are_listed_narrowed_and_paged(cli: CommandLine) -> None:
    first, second = await a_letter(cli, "early"), await a_letter(cli, "late")
    listed = await cli.json("tasks", "dead")
    assert [task["id"] for task in listed["tasks"]] == [second, first]
    assert [task["id"] for task in (await cli.json("tasks", "dead", "--reason", "early"))["tasks"]] == [first]
    assert (await cli.json("tasks", "dead", "--tenant", "other"))["tasks"] == []

    page = await cli.does("tasks", "dead", "--limit", "1")
    assert page.out.splitlines()[0].split() == ["id", "model", "tenant", "attempts", "died", "reason", "error"]
    assert page.out.splitlines()[1].startswith(f"{second}  general  acme")
    assert page.out.splitlines()[1].endswith("late    the engine said late")
    [note] = page.err.splitlines()
    cursor = note.removeprefix("there are more: --after ")
    assert [task["id"] for task in (await cli.json("tasks", "dead", "--after", cursor))["tasks"]] == [first]


async def test_one_letter_is_shown_with_its_attempts_and_its_body_when_asked(cli: CommandLine) -> None:
    task_id = await a_letter(cli)
    said = await cli.does("tasks", "dead", task_id)
    assert f"id         {task_id}" in said.out.splitlines()
    assert "reason     boom" in said.out.splitlines()
    [attempt] = [line for line in said.out.splitlines() if line.startswith("attempt 1")]
    assert attempt.endswith("  w1  no answer")
    assert "one two three four" not in said.out
    assert "one two three four" in (await cli.does("tasks", "dead", task_id, "--body")).out


async def test_letters_are_replayed_and_what_stays_is_said(cli: CommandLine) -> None:
    task_id = await a_letter(cli)
    said = await cli.does("tasks", "replay", task_id, "task_none")
    assert said.out.split() == ["replayed", task_id]
    assert said.err.startswith("task_none stays: there is no task 'task_none'")
    assert (await cli.stack.queue.get(TaskId(task_id))).state is State.QUEUED


async def test_as_many_as_were_asked_for_and_a_word_that_there_are_more(cli: CommandLine) -> None:
    ids = [await a_letter(cli) for _ in range(2)]
    said = await cli.does("tasks", "replay", "--all", "--max", "1")
    assert (said.out.split(), said.err) == (
        ["replayed", ids[1]],
        "there may be more: run it again, or with a larger --max\n",
    )


async def test_letters_are_dropped_and_the_log_says_why(cli: CommandLine) -> None:
    task_id = await a_letter(cli)
    assert (await cli.does("tasks", "drop", "--reason", "boom", "--why", "a test of ours")).out.split() == [
        "dropped",
        task_id,
    ]
    log = await cli.does("tasks", "dropped")
    assert log.out.splitlines()[0].split() == ["id", "model", "tenant", "reason", "dropped", "by", "why"]
    assert log.out.splitlines()[1].endswith("  a test of ours")
    [entry] = (await cli.json("tasks", "dropped"))["dropped"]
    assert (entry["id"], entry["code"], entry["why"]) == (task_id, "boom", "a test of ours")


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["replay"], "nothing says which are meant", "name IDs, narrow them (--tenant, ...), or say --all"),
        (["drop", "--why", "x"], "nothing says which are meant", "name IDs, narrow them (--tenant, ...), or say --all"),
        (["replay", "task_1", "--all"], "both IDs and options say which are meant", "leave one of them out"),
        (
            ["replay", "--from-sqs", "--all"],
            "--from-sqs takes what SQS delivers",
            "leave IDs and other options than --max out",
        ),
        (
            ["dead", "--older-than", "soon"],
            "--older-than is 'soon'; it must be a time span such as 90s, 30m, 24h or 30d",
            "`stoker tasks dead --help` shows what can be asked",
        ),
    ],
)
async def test_what_is_asked_wrongly_is_said(cli: CommandLine, arguments: list[str], error: str, hint: str) -> None:
    said = await cli.says("tasks", *arguments)
    assert (said.code, said.err.splitlines()[0]) == (2, f"error: {error}")
    assert said.err.splitlines()[-1] == f"hint: {hint}"


async def test_from_sqs_where_there_is_none_says_what_to_switch_on(cli: CommandLine) -> None:
    said = await cli.says("tasks", "replay", "--from-sqs")
    assert (said.code, said.err) == (
        1,
        "error: dead letters are not sent to SQS here, so none come back\n\n"
        "hint: keda.scalers.sqs: true in platform.yaml switches it on\n",
    )


def test_the_list_says_how_many_wait_for_sqs_and_why() -> None:
    said = {
        "queue": "dead",
        "waiting": 3,
        "state": "away",
        "sent": 7,
        "error": "cannot send",
        "refused": {"task_1": "big"},
    }
    assert _forwarding(said) == (
        "3 wait to be sent to the SQS queue dead; 7 were sent; SQS is away: cannot send\ntask_1 stays here: big"
    )
    assert _forwarding({"queue": "dead", "waiting": 0, "state": "starting"}) == (
        "0 wait to be sent to the SQS queue dead; 0 were sent"
    )
