"""`stoker ps` beside a real gateway: what it thinks of the replicas."""

import os

from cli_parts import CommandLine

from stoker.base.errors import Unreachable


async def test_the_breakers_of_the_replicas_stand_below_the_processes(cli: CommandLine) -> None:
    await cli.stack.engine("general")
    await cli.stack.engine("code")
    fleet = cli.stack.gateway.services.fleet
    try:
        with fleet.busy(fleet.members["code-1"]):
            raise Unreachable("cannot reach replica code-1: it refused the connection")
    except Unreachable:
        pass
    cli.state.write_run({"pid": os.getpid(), "url": cli.stack.url, "state": "up", "started_at": 0.0, "processes": []})
    with cli.state.lock() as lock:
        lock.say(pid=os.getpid(), url=cli.stack.url)
        said = await cli.does("ps")
        shown = await cli.json("ps")
    [_, empty, header, code, general] = said.out.splitlines()
    assert (empty, header.split()) == ("", ["replica", "model", "state", "in", "flight", "breaker", "for", "why"])
    assert code.split()[:5] == ["code-1", "code", "down", "0/4", "open"]
    assert code.endswith("cannot reach replica code-1: it refused the connection")
    assert general.split()[:5] == ["general-0", "general", "up", "0/4", "closed"]
    assert [one["breaker_since"] for one in shown["replicas"]] == [cli.clock.now()] * 2


async def test_a_gateway_that_does_not_answer_takes_nothing_from_the_rest(cli: CommandLine) -> None:
    cli.state.write_run({"pid": os.getpid(), "url": cli.stack.url, "state": "up", "started_at": 0.0, "processes": []})
    with cli.state.lock() as lock:
        lock.say(pid=os.getpid(), url=cli.stack.url)
        await cli.stack.shut()
        said = await cli.does("ps")
        assert (await cli.json("ps"))["replicas"] is None
    assert said.err.splitlines()[1] == "the gateway does not say which replicas there are"
