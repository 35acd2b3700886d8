"""Search over documents, with citations: BM25 over passages of text, Markdown, HTML and code.

The index is in memory. It is built with the first search and again when a file has changed.
"""

import contextlib
import math
import os
import re
import stat
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stoker.agents.tools import pages
from stoker.agents.tools.interface import Json, Place, Result
from stoker.agents.tools.threads import in_thread
from stoker.base import logs
from stoker.base.errors import InvalidInput
from stoker.spec import agents as spec

MOST_FILES = 10_000
MOST_BYTES = 20_000_000
MOST_OF_ONE = 2_000_000
_PASSAGE = 900
"""Characters after which a passage ends at the next line."""
_LONGEST_LINE = 2000

# Those of Robertson and Zaragoza, The Probabilistic Relevance Framework (2009).
_K1, _B = 1.5, 0.75

DESCRIPTION = (
    "Search the documents by words. Each passage comes with its source, as [number] path:line (title); cite it."
)
PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "minLength": 1, "maxLength": 1000, "description": "Words to look for"},
    },
    "required": ["query"],
    "additionalProperties": False,
}

_log = logs.get("agents")


@dataclass(frozen=True, slots=True)
class Passage:
    """`source` is the path below the folder, `line` that of its first line, from 1."""

    source: str
    line: int
    title: str
    text: str


class Documents:
    """One `search` tool."""

    def __init__(self, said: spec.Search, base: Path) -> None:
        """Raises InvalidInput when there is no such folder or file."""
        self._root = (base / said.path).resolve()
        self._results = said.results
        self._lock = threading.Lock()
        self._seen: Sequence[tuple[str, int, int]] | None = None
        self._index = Index(())
        if not self._root.exists():
            raise InvalidInput(f"search: there is no folder or file {said.path}", param="search.path")

    async def call(self, arguments: Json, place: Place) -> Result:
        query = arguments["query"]
        found = await in_thread(lambda: self._current().best(query, self._results))
        if not found:
            return Result(text=f'no document has a word of "{query[:100]}"; try other words')
        shown = [
            f"[{number}] {passage.source}:{passage.line} ({passage.title})\n{passage.text}"
            for number, passage in enumerate(found, 1)
        ]
        citations = [{"source": each.source, "line": each.line, "title": each.title} for each in found]
        return Result(text="\n\n".join(shown), citations=citations)

    def _current(self) -> "Index":
        with self._lock:
            seen = self._files()
            if seen != self._seen:
                self._index = Index([each for path, *_ in seen for each in self._passages(path)])
                self._seen = seen
            return self._index

    def _files(self) -> Sequence[tuple[str, int, int]]:
        """Path, time of change and size of all that are searched."""
        found: list[tuple[str, int, int]] = []
        size = 0
        for path, status in sorted(_documents(self._root)):
            size += status.st_size
            if len(found) == MOST_FILES or size > MOST_BYTES:
                _log.warning("search_cut", folder=str(self._root), files=len(found), most_bytes=MOST_BYTES)
                break
            found.append((path, status.st_mtime_ns, status.st_size))
        return found

    def _passages(self, source: str) -> Iterator[Passage]:
        path = self._root if self._root.is_file() else self._root / source
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                data = file.read(MOST_OF_ONE + 1)
            if b"\0" not in data:
                yield from passages_of(source, data.decode())
        except (OSError, UnicodeDecodeError):
            return  # gone since it was seen, or no text


def _documents(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Files below the folder, by their path. Hidden ones are none; a link is one only if it leads to a file in the
    folder, which is there under its own name then."""
    if root.is_file():
        yield root.name, root.stat()
        return
    for at, folders, names in os.walk(root, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(os.path.join(at, name))
                if stat.S_ISREG(status.st_mode) and status.st_size <= MOST_OF_ONE and not name.startswith("."):
                    yield os.path.relpath(os.path.join(at, name), root), status


# --- passages -----------------------------------------------------------------------------------------------------


def passages_of(source: str, text: str) -> Iterator[Passage]:
    name = source.lower()
    if name.endswith((".html", ".htm", ".xhtml")):
        page = pages.readable(text)
        yield from _grouped(source, page.title or Path(source).name, page.blocks, has_headings=True)
    else:
        is_markdown = name.endswith((".md", ".markdown", ".mdx"))
        yield from _grouped(source, Path(source).name, list(enumerate(text.splitlines(), 1)), has_headings=is_markdown)


def _grouped(source: str, title: str, lines: Sequence[tuple[int, str]], *, has_headings: bool) -> Iterator[Passage]:
    """Lines until there are enough of them; a heading begins a new passage, and is its title."""
    held: list[tuple[int, str]] = []
    size, is_code = 0, False

    def passage() -> Iterator[Passage]:
        while held and not held[0][1].strip():
            held.pop(0)
        text = "\n".join(text for _, text in held).rstrip()
        if text:
            yield Passage(source, held[0][0], title, text)
        held.clear()

    for number, line in lines:
        if has_headings and line.startswith("```"):
            is_code = not is_code
        heading = re.match(r"#{1,6} +(.{1,200})", line) if has_headings and not is_code else None
        if heading or size > _PASSAGE:
            yield from passage()
            size = 0
        if heading:
            title = heading[1].strip().rstrip("#").strip()
        held.append((number, line[:_LONGEST_LINE]))
        size += len(held[-1][1])
    yield from passage()


# --- ranking ------------------------------------------------------------------------------------------------------


def words_of(text: str) -> list[str]:
    """In lower case; of a name in code, such as readFile or read_file, its parts, and the whole without its joints."""
    found = []
    for word in re.findall(r"\w+", text):
        parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W_A-Z]+", word)
        found += [part.lower() for part in parts]
        if len(parts) > 1:
            found.append("".join(parts).lower())
    return found


class Index:
    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._postings: dict[str, list[tuple[int, int]]] = {}
        self._lengths = []
        for at, passage in enumerate(passages):
            # The title counts, too: the heading of a passage may be on one before it.
            counts = Counter(words_of(passage.text) + words_of(passage.title))
            self._lengths.append(counts.total())
            for word, count in counts.items():
                self._postings.setdefault(word, []).append((at, count))
        self._mean = sum(self._lengths) / len(passages) if passages else 1.0

    def best(self, query: str, most: int) -> Sequence[Passage]:
        """Those with a word of the query, the best first; of equals the first in path and line."""
        scores: Counter[int] = Counter()
        for word in dict.fromkeys(words_of(query)):
            postings = self._postings.get(word, ())
            rarity = math.log(1 + (len(self._passages) - len(postings) + 0.5) / (len(postings) + 0.5))
            for at, count in postings:
                weight = count + _K1 * (1 - _B + _B * self._lengths[at] / self._mean)
                scores[at] += rarity * count * (_K1 + 1) / weight  # type: ignore[assignment]  # scores are no counts
        order = sorted(scores, key=lambda at: (-scores[at], at))
        return [self._passages[at] for at in order[:most]]
