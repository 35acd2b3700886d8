import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tool_boxes import said, the_tool, toolbox

from stoker.agents.tools.mcp import names_of
from stoker.agents.tools.toolbox import Toolbox
from stoker.base.errors import InvalidInput, TimedOut, Unavailable

SERVER = str(Path(__file__).parent / "tool_server.py")


def stdio(folder: Path, **more: Any) -> dict[str, Any]:
    return {"mcp": {"command": [sys.executable, SERVER, str(folder)], **more}}


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Toolbox]:
    async with toolbox(tmp_path, {"ours": stdio(tmp_path)}) as made:
        yield made


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


class TestSomebodyElses:
    async def test_the_time_server_of_the_registry(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "mcp_server_time", "--local-timezone", "Europe/Vienna"]
        async with toolbox(tmp_path, {"time": {"mcp": {"command": command}}}) as box:
            now, convert = await box.tools_of(["time"])
            assert (now.name, convert.name) == ("time_get_current_time", "time_convert_time")
            assert convert.parameters["required"] == ["source_timezone", "time", "target_timezone"]
            done = await said(box, convert, source_timezone="Asia/Tokyo", time="09:30", target_timezone="Asia/Kolkata")
            assert '"time_difference": "-3.5h"' in done.text
            assert not done.is_error
            wrong = await said(box, convert, source_timezone="Asia/Tokyo", time="9 o'clock", target_timezone="UTC")
            assert wrong.is_error
            with pytest.raises(InvalidInput, match="'timezone' is a required property"):
                now.check({})


class TestWhatItSays:
    async def test_tools_are_listed_with_what_the_server_says_of_them(self, box: Toolbox) -> None:
        tools = {each.name: each for each in await box.tools_of(["ours"])}
        long = next(name for name in tools if "longlong" in name)
        assert list(tools) == [
            *("ours_add", "ours_die", "ours_hang", "ours_refuse", "ours_env", "ours_files", "ours_lies"),
            *("ours_endless", "ours_slow", "ours_dotted_name_with_spaces", long),
        ]
        assert len(long) == 64
        add, die, files = tools["ours_add"], tools["ours_die"], tools["ours_files"]
        assert (add.effect, add.repeatable, add.approval, add.trusted) == ("read", True, "never", False)
        assert (die.effect, die.repeatable, die.approval, die.trusted) == ("write", False, "afterUntrusted", False)
        assert (files.effect, files.repeatable) == ("write", True)
        assert add.description == "does add"

    async def test_platform_yaml_wins_over_what_the_server_says(self, tmp_path: Path) -> None:
        tools = {"ours": {**stdio(tmp_path, only=["add"]), "effect": "spend", "approval": "always", "trusted": True}}
        async with toolbox(tmp_path, tools) as box:
            (add,) = await box.tools_of(["ours"])
            assert (add.effect, add.approval, add.trusted, add.description) == ("spend", "always", True, "does add")

    async def test_a_tool_that_is_not_there(self, tmp_path: Path) -> None:
        async with toolbox(tmp_path, {"ours": stdio(tmp_path, only=["add", "sub"])}) as box:
            with pytest.raises(InvalidInput, match="the MCP server ours has no tool sub; it has: add, die, hang"):
                await box.tools_of(["ours"])

    def test_names_fit_any_model_and_are_one_each(self) -> None:
        names = list(names_of("t", ["a.b", "a b", "a_b", "x" * 100, "x" * 101]))
        assert names[:1] == ["t_a_b"]
        assert len(set(names)) == 5
        assert {len(name) <= 64 for name in names} == {True}
        assert names == list(names_of("t", ["a.b", "a b", "a_b", "x" * 100, "x" * 101]))


class TestCalls:
    async def test_a_call(self, box: Toolbox) -> None:
        assert (await said(box, await the_tool(box, "ours_add", "ours"), a=40, b=2)).text == "42"

    async def test_arguments_are_checked_before_they_are_sent(self, box: Toolbox) -> None:
        add = await the_tool(box, "ours_add", "ours")
        with pytest.raises(InvalidInput) as caught:
            add.check({"a": "40", "b": 2})
        assert caught.value.message == (
            "the arguments of ours_add are wrong: a: '40' is not of type 'integer'. "
            "It takes: a (required), b (required)"
        )
        with pytest.raises(InvalidInput, match="'c' was unexpected"):
            add.check({"a": 1, "b": 2, "c": 3})

    async def test_a_schema_without_end_is_given_up(self, box: Toolbox) -> None:
        endless = await the_tool(box, "ours_endless", "ours")
        with pytest.raises(InvalidInput, match="the arguments of ours_endless take too long to check"):
            endless.check({"x": 1})

    async def test_no_regular_expression_of_a_server_is_run(self, box: Toolbox) -> None:
        """This one would take longer than the age of the universe."""
        slow = await the_tool(box, "ours_slow", "ours")
        assert (await said(box, slow, x="a" * 60 + "!")).text == "slow was called"

    async def test_the_tool_says_no(self, box: Toolbox) -> None:
        done = await said(box, await the_tool(box, "ours_refuse", "ours"))
        assert (done.text, done.is_error) == ("no such city", True)

    async def test_images_and_resources(self, box: Toolbox) -> None:
        done = await said(box, await the_tool(box, "ours_files", "ours"))
        assert done.images == ["data:image/png;base64,iVBORw=="]
        assert done.text.splitlines() == [
            "two",
            "[an image (image/tiff) was left out: too large, too many, or of no known kind]",
            "[audio was left out: only text and images can be read]",
            "plan: file:///plan.md",
            "file:///a.txt",
            "inside",
        ]
        assert done.citations == [{"source": "file:///plan.md", "title": "plan"}, {"source": "file:///a.txt"}]

    async def test_an_answer_that_is_not_what_was_declared(self, box: Toolbox) -> None:
        done = await said(box, await the_tool(box, "ours_lies", "ours"))
        assert done.is_error
        assert done.text.startswith("the server's answer is not what it declares: ")

    async def test_many_calls_at_once_go_over_one_server(self, box: Toolbox, tmp_path: Path) -> None:
        add = await the_tool(box, "ours_add", "ours")
        results = await asyncio.gather(*(said(box, add, a=n, b=n) for n in range(20)))
        assert [each.text for each in results] == [str(2 * n) for n in range(20)]
        assert (tmp_path / "starts").read_text() == "."


class TestFaults:
    async def test_it_dies_in_the_middle_of_a_call_and_is_started_again_with_the_next(
        self, box: Toolbox, tmp_path: Path
    ) -> None:
        add, die = await the_tool(box, "ours_add", "ours"), await the_tool(box, "ours_die", "ours")
        with pytest.raises(Unavailable) as caught:
            await said(box, die)
        assert caught.value.message == ("the MCP server ours went away during the call, and nobody knows how it ended")
        assert (await said(box, add, a=1, b=2)).text == "3"
        assert (tmp_path / "starts").read_text() == ".."

    async def test_it_died_between_two_calls(self, box: Toolbox, tmp_path: Path) -> None:
        """The next one is no call during which it died."""
        add = await the_tool(box, "ours_add", "ours")
        session = box._servers["ours"]._session
        assert session is not None
        os.kill(int((tmp_path / "pid").read_text()), 9)
        await session._over.wait()
        assert (await said(box, add, a=1, b=2)).text == "3"

    async def test_a_call_takes_no_longer_than_it_may(self, tmp_path: Path) -> None:
        async with toolbox(tmp_path, {"ours": {**stdio(tmp_path), "timeoutSeconds": 1}}) as box:
            add, hang = await the_tool(box, "ours_add", "ours"), await the_tool(box, "ours_hang", "ours")
            with pytest.raises(TimedOut, match="the tool ours_hang did not end within 1 s"):
                await said(box, hang)
            await until(tmp_path / "cancelled")
            assert (await said(box, add, a=1, b=2)).text == "3"
        assert (tmp_path / "starts").read_text() == "."

    async def test_a_call_that_is_cancelled_is_cancelled_at_the_server(self, box: Toolbox, tmp_path: Path) -> None:
        hang = await the_tool(box, "ours_hang", "ours")
        call = asyncio.create_task(said(box, hang))
        await until(tmp_path / "hanging")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(tmp_path / "cancelled")
        assert (await said(box, await the_tool(box, "ours_add", "ours"), a=1, b=2)).text == "3"

    async def test_no_process_is_left(self, tmp_path: Path) -> None:
        async with toolbox(tmp_path, {"ours": stdio(tmp_path)}) as box:
            await box.tools_of(["ours"])
            pid = int((tmp_path / "pid").read_text())
            assert not has_ended(pid)
        assert has_ended(pid)

    async def test_nothing_is_left_of_a_start_that_nobody_waits_for_any_more(self, tmp_path: Path) -> None:
        script = "import os, pathlib, sys; pathlib.Path('pid').write_text(str(os.getpid())); sys.stdin.read()"
        async with toolbox(
            tmp_path, {"ours": {"mcp": {"command": [sys.executable, "-c", script]}, "timeoutSeconds": 600}}
        ) as box:
            start = asyncio.create_task(box.tools_of(["ours"]))
            await until(tmp_path / "pid")
            start.cancel()
            with pytest.raises(asyncio.CancelledError):
                await start
            assert has_ended(int((tmp_path / "pid").read_text()))

    async def test_a_closed_toolbox_starts_nothing(self, tmp_path: Path) -> None:
        async with toolbox(tmp_path, {"ours": stdio(tmp_path)}) as box:
            add = await the_tool(box, "ours_add", "ours")
        with pytest.raises(Unavailable, match="the MCP server ours was closed"):
            await said(box, add, a=1, b=2)
        assert (tmp_path / "starts").read_text() == "."

    async def test_no_such_program(self, tmp_path: Path) -> None:
        async with toolbox(tmp_path, {"ours": {"mcp": {"command": ["no-such-program"]}}}) as box:
            with pytest.raises(Unavailable) as caught:
                await box.tools_of(["ours"])
        assert caught.value.message == "the MCP server ours cannot be started or reached"
        assert "no-such-program" in str(caught.value.detail)

    async def test_a_program_that_ends_at_once_is_quoted_in_the_log_without_secrets(self, tmp_path: Path) -> None:
        script = "import os, sys; sys.exit('no licence for ' + os.environ['KEY'])"
        tools = {"ours": {"mcp": {"command": [sys.executable, "-c", script], "env": {"KEY": "LICENCE"}}}}
        async with toolbox(tmp_path, tools, {"LICENCE": "licence-4711"}) as box:
            with pytest.raises(Unavailable) as caught:
                await box.tools_of(["ours"])
        assert str(caught.value.detail).endswith("no licence for [secret LICENCE]")

    async def test_a_program_that_says_nothing(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        async with toolbox(tmp_path, {"ours": {"mcp": {"command": command}, "timeoutSeconds": 0.5}}) as box:
            with pytest.raises(Unavailable, match="the MCP server ours was not ready within"):
                await box.tools_of(["ours"])


class TestEnvironment:
    async def test_it_gets_what_it_was_given_and_little_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STOKER_AGENTS_KEY", "the-key-of-grants")
        tools = {"ours": stdio(tmp_path, env={"TOKEN": "CITY_TOKEN"})}
        async with toolbox(tmp_path, tools, {"CITY_TOKEN": "city-token-1", "OTHER": "x"}) as box:
            done = await said(box, await the_tool(box, "ours_env", "ours"))
            assert "('TOKEN', '[secret CITY_TOKEN]')" in done.text
            assert "STOKER_AGENTS_KEY" not in done.text
            assert "OTHER" not in done.text

    async def test_a_variable_that_is_not_set(self, tmp_path: Path) -> None:
        async with toolbox(tmp_path, {"ours": stdio(tmp_path, env={"TOKEN": "CITY_TOKEN"})}) as box:
            with pytest.raises(
                InvalidInput, match="the environment variable CITY_TOKEN, which a tool needs, is not set"
            ):
                await box.tools_of(["ours"])


class TestOverHttp:
    async def test_headers_by_reference(self, tmp_path: Path) -> None:
        with served(tmp_path) as (port, _):
            tools = {"ours": {"mcp": {"url": f"http://127.0.0.1:{port}/mcp", "headers": {"X-Token": "TOKEN"}}}}
            async with toolbox(tmp_path, tools, {"TOKEN": "token-4711"}) as box:
                assert (await said(box, await the_tool(box, "ours_env", "ours"))).text == "[secret TOKEN]"

    async def test_an_answer_that_never_came_is_no_answer_and_the_next_call_begins_anew(self, tmp_path: Path) -> None:
        with served(tmp_path) as (port, _):
            async with toolbox(tmp_path, {"ours": {"mcp": {"url": f"http://127.0.0.1:{port}/mcp"}}}) as box:
                with pytest.raises(Unavailable, match="went away during the call, and nobody knows how it ended"):
                    await said(box, await the_tool(box, "ours_die", "ours"))
                assert (await said(box, await the_tool(box, "ours_add", "ours"), a=1, b=2)).text == "3"
        assert (tmp_path / "sessions").read_text() == ".."

    async def test_a_server_that_goes_away(self, tmp_path: Path) -> None:
        with served(tmp_path) as (port, process):
            url = f"http://127.0.0.1:{port}/mcp"
            async with toolbox(tmp_path, {"ours": {"mcp": {"url": url}}}) as box:
                add = await the_tool(box, "ours_add", "ours")
                assert (await said(box, add, a=40, b=2)).text == "42"
                process.kill()
                process.wait()
                with pytest.raises(Unavailable, match="went away during the call, and nobody knows how it ended"):
                    await said(box, add, a=1, b=2)
                with pytest.raises(Unavailable, match="the MCP server ours cannot be started or reached"):
                    await said(box, add, a=1, b=2)


@contextmanager
def served(folder: Path) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    process = subprocess.Popen([sys.executable, SERVER, str(folder), "http"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def until(path: Path) -> None:
    async with asyncio.timeout(20):
        while not os.path.exists(path):  # noqa: ASYNC110, ASYNC240 - another process makes it
            await asyncio.sleep(0.01)
