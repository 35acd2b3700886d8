"""`stoker tasks submit`: the same submission again, by its key."""

from cli_parts import CommandLine

from stoker.base.ids import ModelName


async def test_a_submission_is_made_once_however_often_it_is_typed(cli: CommandLine) -> None:
    typed = ("tasks", "submit", "hello", "--model", "general", "--idempotency-key", "nightly 7")
    first, again = await cli.json(*typed), await cli.json(*typed)
    assert again["id"] == first["id"]
    assert (await cli.stack.queue.depth(ModelName("general"))).lag == 1
    other = await cli.says("tasks", "submit", "another", "--model", "general", "--idempotency-key", "nightly 7")
    assert other.code == 2
    assert "this Idempotency-Key was sent before with another request" in other.err
