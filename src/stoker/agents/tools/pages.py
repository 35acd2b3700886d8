"""HTML as text that a model can read: headings, paragraphs, lists, cells, and where links lead."""

from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser

_LEFT_OUT = frozenset(("script", "style", "noscript", "template", "svg", "iframe", "object"))
_BLOCK_NAMES = (
    "address article aside blockquote body br dd div dl dt fieldset figure footer form h1 h2 h3 h4 h5 h6 head header "
    "hr html li main nav ol p pre section table title tr ul"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}


@dataclass(frozen=True, slots=True)
class Page:
    """`blocks`: the line on which each begins, from 1, and its text."""

    title: str
    blocks: Sequence[tuple[int, str]]

    @property
    def text(self) -> str:
        return "\n".join(text for _, text in self.blocks)


def readable(html: str) -> Page:
    parser = _Reader()
    parser.feed(html)
    parser.close()
    parser.end_block()
    return Page(" ".join("".join(parser.title).split())[:300], parser.blocks)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self.blocks: list[tuple[int, str]] = []
        self._parts: list[str] = []
        self._line = 1
        self._left_out = 0
        self._preformatted = 0
        self._is_title = False
        self._href: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _LEFT_OUT:
            self._left_out += 1
        if tag in _BLOCKS:
            self.end_block()
        if tag == "title":
            self._is_title = True
        elif tag == "pre":
            self._preformatted += 1
        elif tag == "a":
            href = dict(attrs).get("href") or ""
            self._href = href if href.startswith(("http://", "https://", "/")) and len(href) <= 500 else None
        elif tag in ("td", "th") and self._parts:
            self._parts.append(" | ")
        elif tag in _HEADINGS:
            self._add(f"{_HEADINGS[tag]} ")
        elif tag == "li":
            self._add("- ")

    def handle_endtag(self, tag: str) -> None:
        if tag in _LEFT_OUT:
            self._left_out = max(0, self._left_out - 1)
        if tag == "a" and self._href is not None:
            self._add(f" ({self._href})")
            self._href = None
        if tag in _BLOCKS:
            self.end_block()
        if tag == "title":
            self._is_title = False
        elif tag == "pre":
            self._preformatted = max(0, self._preformatted - 1)

    def handle_data(self, data: str) -> None:
        if self._left_out:
            return
        if self._is_title:
            self.title.append(data)
        else:
            self._add(data)

    def _add(self, text: str) -> None:
        if self._left_out or not (text.strip() or self._parts):
            return
        if not self._parts:
            self._line = self.getpos()[0] + text[: len(text) - len(text.lstrip())].count("\n")
        self._parts.append(text)

    def end_block(self) -> None:
        raw = "".join(self._parts)
        text = raw.strip("\n") if self._preformatted else " ".join(raw.split())
        if text.strip(" -#|"):
            self.blocks.append((self._line, text))
        self._parts.clear()
