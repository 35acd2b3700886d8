"""One process: its lines, its end, its leash. Real processes."""

import asyncio
import os
import signal
from collections.abc import Mapping

import pytest
from local_children import GOOD, python

from stoker.local.children import MAX_LINE_BYTES, Command, Lines, Process, describe_exit, parse_ready, start


class Notes:
    """A listener that writes down what it hears, in order."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.process: Process | None = None
        self.ready = asyncio.Event()
        self.over = asyncio.Event()

    def on_start(self, process: Process) -> None:
        self.process = process
        self.heard.append("start")

    def on_line(self, name: str, line: bytes) -> None:
        self.heard.append(line.decode())

    def on_ready(self, name: str, url: str | None, moments: Mapping[str, float]) -> None:
        self.heard.append(f"ready {url}" + "".join(f" {key}={at}" for key, at in moments.items()))
        self.ready.set()

    def on_exit(self, name: str, returncode: int) -> None:
        self.heard.append(returncode)
        self.over.set()


async def run(code: str, *argv: str, **env: str) -> list[object]:
    notes = Notes()
    async with asyncio.timeout(20):
        await start("child", python(code, *argv, env=env), notes)
        await notes.over.wait()
    return notes.heard


async def test_a_process_is_heard_from_its_start_to_its_exit_code() -> None:
    code = "import os; os.write(2, b'one\\n\\ntwo'); os.write(1, b'{\"ready\": true}\\n'); raise SystemExit(3)"

    heard = await run(code)

    assert heard[0] == "start"
    assert heard[-1] == 3
    assert sorted(map(str, heard[1:-1])) == ["one", "ready None", "two"]


async def test_a_process_that_ends_at_once_still_starts_before_it_ends() -> None:
    assert await run("raise SystemExit(0)") == ["start", 0]


async def test_a_process_that_is_killed_is_told_by_its_signal() -> None:
    heard = await run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    assert heard == ["start", -signal.SIGKILL]
    assert describe_exit(-signal.SIGKILL) == "signal SIGKILL"
    assert describe_exit(7) == "exit code 7"


async def test_the_environment_is_handed_on_and_not_the_command_line() -> None:
    heard = await run(
        "import os, sys; os.write(2, (os.environ['STOKER_SECRET'] + str(sys.argv)).encode())", STOKER_SECRET="s3cret"
    )

    assert heard[1] == "s3cret['-c']"


async def test_sigterm_asks_a_process_to_leave() -> None:
    notes = Notes()
    async with asyncio.timeout(20):
        await start("child", python(GOOD, "http://here"), notes)
        await notes.ready.wait()
        assert notes.process is not None
        notes.process.terminate()
        await notes.over.wait()

    assert notes.heard == ["start", "ready http://here", '{"event": "leaving", "level": "info", "why": "SIGTERM"}', 0]


async def test_a_process_may_say_moments_of_its_start() -> None:
    said = '{"ready": true, "url": "http://x", "listening_at": 1.5, "loaded_at": "soon", "born_at": 1.0}'
    assert await run(f"print('{said}')") == ["start", "ready http://x listening_at=1.5", 0]


async def test_what_a_dead_process_had_started_does_not_outlive_it() -> None:
    """The grandchild holds the pipes open and would sleep for a minute: the end of its parent is told all the same."""
    code = (
        "import os, subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
        "os.write(2, str(p.pid).encode() + b'\\n'); os.kill(os.getpid(), 9)"
    )

    heard = await run(code)

    assert heard[-1] == -signal.SIGKILL
    grandchild = int(str(heard[1]))
    async with asyncio.timeout(10):
        while is_running(grandchild):  # noqa: ASYNC110 - nobody tells us of the end of a process that is not our child
            await asyncio.sleep(0.01)


async def test_a_pipe_that_somebody_else_holds_open_does_not_hide_the_end() -> None:
    """The grandchild has a session of its own, so the group's end does not reach it; it leaves when the test says."""
    reading, writing = os.pipe()
    code = (
        "import os, subprocess, sys\n"
        f"read = {reading}\n"
        "subprocess.Popen([sys.executable, '-S', '-c', f'import os; os.read({read}, 1)'], start_new_session=True,\n"
        "                 pass_fds=[read])\n"
        "os.kill(os.getpid(), 9)"
    )
    notes = Notes()
    async with asyncio.timeout(20):
        await start("child", python(code), notes, inherit=[reading])
        await notes.over.wait()
    os.close(writing)
    os.close(reading)

    assert notes.heard == ["start", -signal.SIGKILL]


def is_running(pid: int) -> bool:
    """A zombie that init has not collected yet runs no more."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def test_a_program_that_does_not_exist_is_an_oserror() -> None:
    with pytest.raises(FileNotFoundError):
        await start("child", Command(["/no/such/program"]), Notes())


def test_lines_that_come_in_pieces_are_put_together() -> None:
    lines = Lines()

    assert lines.feed(b"ab") == []
    assert lines.feed(b"c\n\nde\nf") == [b"abc", b"de"]
    assert lines.rest() == [b"f"]
    assert lines.rest() == []


def test_a_line_without_end_is_cut_and_not_collected_for_ever() -> None:
    lines = Lines()

    assert lines.feed(b"x" * (MAX_LINE_BYTES - 1)) == []
    assert lines.feed(b"yz") == [b"x" * (MAX_LINE_BYTES - 1) + b"yz"]
    assert lines.rest() == []


@pytest.mark.parametrize("line", [b'{"ready": false}', b'{"ready": 1}', b"[]", b"ready", b"{", b"\xff"])
def test_only_the_line_of_the_contract_says_ready(line: bytes) -> None:
    assert parse_ready(line) is None


def test_the_ready_line_carries_fields() -> None:
    assert parse_ready(b'{"ready": true, "url": "http://x", "n": 1}') == {"ready": True, "url": "http://x", "n": 1}
