import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tool_boxes import said, the_tool, toolbox

from stoker.agents.tools.toolbox import Toolbox
from stoker.base.errors import InvalidInput


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Toolbox]:
    async with toolbox(tmp_path, {"files": {"workspace": {"maxBytes": 2000}}}) as made:
        yield made


async def write(box: Toolbox, path: str, content: str, run: str = "run_1") -> str:
    return (await said(box, await the_tool(box, "files_write", "files"), run, path=path, content=content)).text


async def read(box: Toolbox, path: str, run: str = "run_1") -> str:
    return (await said(box, await the_tool(box, "files_read", "files"), run, path=path)).text


async def listed(box: Toolbox, run: str = "run_1") -> str:
    return (await said(box, await the_tool(box, "files_list", "files"), run)).text


class TestFiles:
    async def test_what_was_written_is_read_and_listed(self, box: Toolbox) -> None:
        assert await listed(box) == "there are no files yet"
        assert await write(box, "notes/plan.md", "Größe") == "wrote 7 bytes to notes/plan.md"
        await write(box, "a.txt", "")
        assert await read(box, "notes/plan.md") == "Größe"
        assert await listed(box) == "a.txt (0 bytes)\nnotes/plan.md (7 bytes)"

    async def test_each_run_has_its_own(self, box: Toolbox) -> None:
        await write(box, "a.txt", "mine")
        assert await read(box, "a.txt", "run_2") == "there are no files yet"
        assert await listed(box, "run_1.2") == "there are no files yet"

    async def test_a_file_is_replaced_whole_and_nothing_else_is_left(self, box: Toolbox, tmp_path: Path) -> None:
        await write(box, "a.txt", "long text")
        await write(box, "a.txt", "short")
        assert await read(box, "a.txt") == "short"
        assert os.listdir(tmp_path / "runs/run_1") == ["a.txt"]

    async def test_effects(self, box: Toolbox) -> None:
        found = await box.tools_of(["files"])
        assert [(each.name, each.effect, each.repeatable, each.approval) for each in found] == [
            ("files_list", "read", True, "never"),
            ("files_read", "read", True, "never"),
            ("files_write", "write", True, "afterUntrusted"),
        ]

    async def test_a_file_that_is_not_there(self, box: Toolbox) -> None:
        await write(box, "a/b.txt", "x")
        missing = " is not a file of this run; list the files to see those that are"
        assert await read(box, "c.txt") == "c.txt" + missing
        assert await read(box, "a") == "a" + missing
        assert await read(box, "a/b.txt/c") == "a/b.txt" + missing
        assert await write(box, "a", "x") == "a is a folder; write to a file in it"
        assert await write(box, "a/b.txt/c", "x") == "a/b.txt is not a folder of this run"


class TestBounds:
    async def test_bytes_of_all_files(self, box: Toolbox) -> None:
        await write(box, "a.txt", "x" * 1500)
        refused = "1000 bytes do not fit: 500 of 2000 are left. Write less, or shorten others"
        assert await write(box, "b.txt", "x" * 1000) == refused
        assert await write(box, "a.txt", "x" * 2000) == "wrote 2000 bytes to a.txt"

    async def test_writers_at_once_do_not_get_past_it(self, box: Toolbox) -> None:
        done = await asyncio.gather(*(write(box, f"{n}.txt", "x" * 700) for n in range(6)))
        assert sorted(text.startswith("wrote") for text in done) == [False, False, False, False, True, True]

    async def test_binary(self, box: Toolbox, tmp_path: Path) -> None:
        await write(box, "a.txt", "x")
        (tmp_path / "runs/run_1/b.bin").write_bytes(b"\xff\xfe\x00")
        assert await read(box, "b.bin") == "b.bin is not text in UTF-8"

    async def test_a_pipe_is_not_waited_for(self, box: Toolbox, tmp_path: Path) -> None:
        await write(box, "a.txt", "x")
        os.mkfifo(tmp_path / "runs/run_1/pipe")
        assert await read(box, "pipe") == "pipe is not a file of this run; list the files to see those that are"


HOSTILE = [
    *("../run_2/a.txt", "../../../../etc/passwd", "/etc/passwd", "a/../../b", "./a", "a//b", "a/", "..", ".", "a\\b"),
    *("a\0b", "a\nb", ".hidden", "a/.git/config", "x/" * 9 + "x", "y" * 201),
]


class TestNothingOutside:
    @pytest.mark.parametrize("path", HOSTILE)
    async def test_paths_that_lead_elsewhere(self, box: Toolbox, path: str) -> None:
        await write(box, "a.txt", "mine")
        await write(box, "a.txt", "theirs", "run_2")
        assert "is not a path of this run" in await read(box, path)
        assert "is not a path of this run" in await write(box, path, "x")
        assert await listed(box) == "a.txt (4 bytes)"

    async def test_links(self, box: Toolbox, tmp_path: Path) -> None:
        """Something else put them there, such as a tool of an MCP server."""
        await write(box, "a.txt", "x")
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret.txt").write_text("secret")
        (tmp_path / "runs/run_1/file").symlink_to(outside / "secret.txt")
        (tmp_path / "runs/run_1/folder").symlink_to(outside)
        assert "is not a file of this run" in await read(box, "file")
        assert "is not a file of this run" in await read(box, "folder/secret.txt")
        assert await write(box, "folder/new.txt", "x") == "folder is not a folder of this run"
        assert await listed(box) == "a.txt (1 bytes)"
        await write(box, "file", "mine")
        assert (outside / "secret.txt").read_text() == "secret"
        assert await read(box, "file") == "mine"

    @pytest.mark.parametrize("run", ["", "..", ".", "../x", "a/b", "/etc", "x" * 300])
    async def test_the_id_of_a_run_is_no_path(self, box: Toolbox, run: str) -> None:
        with pytest.raises(InvalidInput, match="is not the id of a run"):
            box.place(run)
