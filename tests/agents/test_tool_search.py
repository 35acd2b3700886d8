import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tool_boxes import said, the_tool, toolbox

from stoker.agents.tools import search
from stoker.agents.tools.search import Index, Passage, passages_of, words_of
from stoker.agents.tools.toolbox import Toolbox
from stoker.base.errors import InvalidInput

GUIDE = """# The guide

Start here.

## Installing

Run the installer.
Then restart.

```
# not a heading
```

## Backups

A backup is made each night.
"""


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "more").mkdir(parents=True)
    (folder / "guide.md").write_text(GUIDE)
    (folder / "more/page.html").write_text(
        "<html><head><title>Prices</title></head>\n<body>\n<p>A night costs\n 90 euros.</p></body></html>"
    )
    (folder / "code.py").write_text("import os\n\n\ndef readConfigFile(path):\n    return path\n")
    return folder


@pytest.fixture
async def box(docs: Path, tmp_path: Path) -> AsyncIterator[Toolbox]:
    async with toolbox(tmp_path, {"docs": {"search": {"path": "docs", "results": 2}}}) as made:
        yield made


async def find(box: Toolbox, query: str) -> list[str]:
    """path:line (title) of each passage."""
    done = await said(box, await the_tool(box, "docs"), query=query)
    return [f"{each['source']}:{each['line']} ({each['title']})" for each in done.citations]


class TestCitations:
    async def test_a_passage_with_its_source(self, box: Toolbox) -> None:
        done = await said(box, await the_tool(box, "docs"), query="How do I restart?")
        assert done.text == (
            "[1] guide.md:5 (Installing)\n## Installing\n\nRun the installer.\nThen restart.\n\n"
            "```\n# not a heading\n```"
        )
        assert done.citations == [{"source": "guide.md", "line": 5, "title": "Installing"}]

    async def test_the_best_come_first_and_no_more_than_wanted(self, box: Toolbox) -> None:
        assert await find(box, "night backup") == ["guide.md:14 (Backups)", "more/page.html:3 (Prices)"]
        assert len(await find(box, "the a is night path")) == 2

    async def test_parts_of_names_in_code(self, box: Toolbox) -> None:
        assert await find(box, "config") == ["code.py:1 (code.py)"]
        assert await find(box, "readConfigFile") == ["code.py:1 (code.py)"]
        assert await find(box, "read_config_file") == ["code.py:1 (code.py)"]

    async def test_nothing(self, box: Toolbox) -> None:
        done = await said(box, await the_tool(box, "docs"), query="zebra")
        assert (done.text, done.is_error) == ('no document has a word of "zebra"; try other words', False)


class TestChanges:
    async def test_the_index_is_made_once(self, box: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
        def counted(passages: Sequence[Passage]) -> Index:
            made.append(len(passages))
            return Index(passages)

        await box.tools_of(["docs"])
        made: list[int] = []
        monkeypatch.setattr(search, "Index", counted)
        await find(box, "night")
        await find(box, "restart")
        assert made == [5]

    async def test_and_again_when_a_file_has_changed_has_come_or_has_gone(self, box: Toolbox, docs: Path) -> None:
        assert await find(box, "zebra") == []
        (docs / "zoo.txt").write_text("A zebra.")
        assert await find(box, "zebra") == ["zoo.txt:1 (zoo.txt)"]
        (docs / "zoo.txt").write_text("\nA lion and a zebra.")
        assert await find(box, "zebra") == ["zoo.txt:2 (zoo.txt)"]
        (docs / "zoo.txt").unlink()
        assert await find(box, "zebra") == []


class TestWhatIsNotRead:
    async def test_binary_hidden_and_other_encodings(self, box: Toolbox, docs: Path) -> None:
        (docs / "image.bin").write_bytes(b"zebra\0zebra")
        (docs / "old.txt").write_bytes("zebra Größe".encode("latin-1"))
        (docs / ".env").write_text("zebra=1")
        (docs / ".git").mkdir()
        (docs / ".git/config").write_text("zebra")
        assert await find(box, "zebra") == []

    async def test_links(self, box: Toolbox, docs: Path, tmp_path: Path) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside/secret.txt").write_text("zebra")
        (docs / "file.txt").symlink_to(tmp_path / "outside/secret.txt")
        (docs / "folder").symlink_to(tmp_path / "outside")
        (docs / "loop").symlink_to(docs)
        os.mkfifo(docs / "pipe")
        assert await find(box, "zebra") == []

    async def test_more_than_there_is_room_for(self, box: Toolbox, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "MOST_FILES", 3)
        (docs / "zoo.txt").write_text("A zebra.")
        assert await find(box, "zebra") == []
        assert await find(box, "restart") == ["guide.md:5 (Installing)"]

    async def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        async with toolbox(tmp_path, {"docs": {"search": {"path": "no-docs"}}}) as box:
            with pytest.raises(InvalidInput, match="search: there is no folder or file no-docs"):
                await box.tools_of(["docs"])

    async def test_one_file(self, docs: Path, tmp_path: Path) -> None:
        async with toolbox(tmp_path, {"docs": {"search": {"path": "docs/guide.md"}}}) as box:
            assert await find(box, "restart") == ["guide.md:5 (Installing)"]


def test_words() -> None:
    assert words_of("readFile HTTPServer snake_case, Größe 4711") == [
        *("read", "file", "readfile", "http", "server", "httpserver", "snake", "case", "snakecase", "größe", "4711"),
    ]


def test_a_long_text_is_cut_into_passages_that_know_their_lines() -> None:
    lines = "\n".join(f"line {number} " + "x" * 90 for number in range(1, 31))
    assert [passage.line for passage in passages_of("a.txt", lines)] == [1, 11, 21]


def test_rare_words_weigh_more_than_common_ones_and_short_passages_more_than_long_ones() -> None:
    texts = ["common common common", "common rare", "common rare " + "other " * 50, "common"]
    index = Index([Passage("a", line, "", text) for line, text in enumerate(texts)])
    assert [passage.line for passage in index.best("common rare", 4)] == [1, 2, 0, 3]
