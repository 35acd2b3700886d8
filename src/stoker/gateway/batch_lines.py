"""The lines of a batch: those of the file that a client sends, and those of the files that it gets. Pure.

OpenAI's form: {"custom_id", "method": "POST", "url", "body"} in, {"id", "custom_id", "response", "error"} out.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from stoker.base import json_text
from stoker.base.errors import StokerError
from stoker.meter.batches import EndedLine, Line, LineState
from stoker.web import problems

Json = dict[str, Any]

LONGEST_CUSTOM_ID = 512
# What is wrong with a batch is told up to so many times.
MOST_ERRORS = 100


class Fault(Exception):
    """What is wrong with a line, or with the whole file (`line` is None)."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param

    def shown(self, line: int | None) -> Json:
        return {"code": self.code, "line": line, "message": self.message, "param": self.param}


class Splitter:
    """Lines of a file that comes in blocks, with their numbers; blank ones are counted and left out. Raises Fault for
    one of more than `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._rest = b""
        self.number = 0

    def feed(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        *whole, self._rest = (self._rest + block).split(b"\n")
        for line in whole:
            yield from self._one(line)
        if len(self._rest) > self._most:
            self.number += 1
            raise self._too_long()

    def end(self) -> Iterator[tuple[int, bytes]]:
        """What comes after the last line break."""
        rest, self._rest = self._rest, b""
        if rest:
            yield from self._one(rest)

    def _one(self, line: bytes) -> Iterator[tuple[int, bytes]]:
        self.number += 1
        if len(line) > self._most:
            raise self._too_long()
        if line := line.strip():
            yield self.number, line

    def _too_long(self) -> Fault:
        return Fault(
            "line_too_long", f"this line has more than {self._most} bytes, which is all that a request may have"
        )


class Checker:
    """Looks at every line of a batch in turn, and remembers what is wrong."""

    def __init__(self, endpoint: str, most_lines: int) -> None:
        self._endpoint = endpoint
        self._most_lines = most_lines
        self._seen: dict[str, int] = {}  # number by custom_id
        self.total = 0
        self.faults: list[Json] = []

    def sound(self, lines: Iterator[tuple[int, bytes]]) -> Sequence[Line]:
        """Those that can be done as far as can be told beforehand."""
        kept = []
        for number, content in lines:
            self.total += 1
            if self.total > self._most_lines:
                self.note(too_many(self._most_lines), None)
                break
            try:
                self._check(number, content)
            except Fault as fault:
                self.note(fault, number)
            else:
                kept.append(Line(number, content))
        return kept

    def note(self, fault: Fault, number: int | None) -> None:
        if len(self.faults) < MOST_ERRORS:
            self.faults.append(fault.shown(number))

    @property
    def has_seen_enough(self) -> bool:
        return len(self.faults) >= MOST_ERRORS or self.total > self._most_lines

    def _check(self, number: int, content: bytes) -> None:
        custom_id = _custom_id(_checked(content, self._endpoint))
        first = self._seen.setdefault(custom_id, number)
        if first != number:
            raise Fault("duplicate_custom_id", f"line {first} has the same custom_id, {custom_id[:64]!r}", "custom_id")


def too_many(most: int) -> Fault:
    return Fault("too_many_tasks", f"the file has more than {most} lines, which is all that a batch may have")


def empty() -> Fault:
    return Fault("empty_batch", "the file has no lines; a batch needs one at least")


def _checked(content: bytes, endpoint: str) -> Json:
    """Raises Fault."""
    try:
        line = json_text.loads(content)
    except (ValueError, RecursionError) as exc:
        raise Fault("invalid_json_line", f"this line is not JSON: {exc}") from exc
    if not isinstance(line, dict):
        raise Fault("invalid_json_line", "this line is JSON, but no object")
    _custom_id(line)
    _same(line, "method", "POST", "invalid_method")
    _same(line, "url", endpoint, "url_mismatch")
    body = line.get("body")
    if body is None:
        raise _missing("body")
    if not isinstance(body, dict):
        raise Fault("invalid_value", "body has to be the JSON object that you would send to the endpoint", "body")
    if body.get("stream"):
        raise Fault("invalid_value", "stream is true; an answer in a file comes as a whole", "body.stream")
    return line


def _custom_id(line: Json) -> str:
    custom_id = line.get("custom_id")
    if custom_id is None:
        raise _missing("custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= LONGEST_CUSTOM_ID:
        raise Fault("invalid_value", f"custom_id has to be a text of 1 to {LONGEST_CUSTOM_ID} characters", "custom_id")
    return custom_id


def _same(line: Json, name: str, wanted: str, code: str) -> None:
    value = line.get(name)
    if value is None:
        raise _missing(name)
    if value != wanted:
        raise Fault(
            code, f"{name} is {json_text.dumps(value)[:80].decode()}; in this batch it has to be {wanted}", name
        )


def _missing(name: str) -> Fault:
    return Fault("missing_required_parameter", f"{name} is missing", name)


# --- what came of them ------------------------------------------------------------------------------------------------


_TASK = "batch_req_"


def task_id(batch_id: str, number: int) -> str:
    """The id of a line's task, of its usage record, and of its line in the output: always the same."""
    return f"{_TASK}{batch_id.removeprefix('batch_')}_{number}"


def is_line(task_id: str) -> bool:
    """Whether the task is a line of some batch, which fetches what came of it."""
    return task_id.startswith(_TASK)


def body_of(line: Line) -> Json:
    """What is to be asked. The line was checked when its batch began."""
    body: Json = json_text.loads(line.content)["body"]
    return body


def done(batch_id: str, line: Line, answer: Json, usage: Json | None) -> EndedLine:
    """`usage`: as the engine counted it."""
    counted = usage or {}
    details = counted.get("prompt_tokens_details") or {}
    return EndedLine(
        line.number,
        "done",
        _out(batch_id, line, {"status_code": 200, "body": answer}, None),
        prompt_tokens=_count(counted.get("prompt_tokens")),
        cached_tokens=_count(details.get("cached_tokens") if isinstance(details, dict) else 0),
        completion_tokens=_count(counted.get("completion_tokens")),
    )


def refused(batch_id: str, line: Line, error: StokerError) -> EndedLine:
    """As the endpoint would have answered."""
    response = {"status_code": error.status, "body": problems.body_of(error)}
    return EndedLine(line.number, "failed", _out(batch_id, line, response, None))


def not_done(batch_id: str, line: Line, why: LineState) -> EndedLine:
    """`why`: expired or cancelled."""
    when = "the completion window ended" if why == "expired" else "the batch was cancelled"
    error = {"code": f"batch_{why}", "message": f"this request was not done before {when}"}
    return EndedLine(line.number, why, _out(batch_id, line, None, error))


def _out(batch_id: str, line: Line, response: Json | None, error: Json | None) -> bytes:
    name = task_id(batch_id, line.number)
    if response is not None:
        response = {"status_code": response["status_code"], "request_id": name, "body": response["body"]}
    custom_id = json_text.loads(line.content)["custom_id"]
    return json_text.dumps({"id": name, "custom_id": custom_id, "response": response, "error": error})


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0
