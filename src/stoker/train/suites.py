"""Questions with checked answers: JSON lines -> questions, and what was said -> scores.

A line: {"messages": [...] or "prompt": "...", "answer": ..., "id": "...", "tools": [...]}. As in training data,
messages are a conversation, and a prompt is plain text to go on from. `answer`: text, or a list of texts of which one
is enough; a pattern, with `check: regex`; {"name", "arguments"}, with `check: tool`. Without an id, the number of the
line is one.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.spec.run import Suite

_KEYS = ("messages", "prompt", "answer", "id", "tools")
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_LINES_SHOWN = 5
_PATTERN_AT_MOST = 1000
_SAID_AT_MOST = 100_000
"""Characters of an answer that a pattern is looked for in."""
PATTERN_S = 2.0


@dataclass(frozen=True)
class Question:
    """Either messages, or a prompt."""

    suite: str
    id: str
    answer: Any
    """As the line has it; checked for its suite's `check`."""
    messages: Sequence[Mapping[str, Any]] = ()
    prompt: str | None = None
    tools: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def read_suite(suite: Suite, data: bytes) -> list[Question]:
    """Raises InvalidInput with the numbers of the bad lines, or when there is no question."""
    found: list[Question] = []
    faults: list[str] = []
    first: dict[str, int] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            question = _question(suite, number, line)
            if question.id in first:
                raise ValueError(f"id {question.id} is that of line {first[question.id]}, too")
        except ValueError as error:
            faults.append(f"line {number}: {error}")
            continue
        first[question.id] = number
        found.append(question)
    if faults:
        more = f"\nand {len(faults) - _LINES_SHOWN} more" if len(faults) > _LINES_SHOWN else ""
        raise InvalidInput(
            f"{suite.data}, of suite {suite.name}, has {len(faults)} bad lines:\n"
            + "\n".join(faults[:_LINES_SHOWN])
            + more,
            param="evaluation.suites",
        )
    if not found:
        raise InvalidInput(f"{suite.data}, of suite {suite.name}, has no question in it", param="evaluation.suites")
    return found


def _question(suite: Suite, number: int, line: bytes) -> Question:
    """Raises ValueError in words."""
    try:
        value = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError("it is no JSON in UTF-8") from error
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - of a file's content
    unknown = [key for key in value if key not in _KEYS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no key of a question; the keys are: {', '.join(_KEYS)}")
    if ("messages" in value) == ("prompt" in value):
        raise ValueError("it has to have either messages or prompt")
    if "answer" not in value:
        raise ValueError("answer is missing")
    id = value.get("id", number)
    if not isinstance(id, str | int) or isinstance(id, bool) or not 0 < len(str(id)) <= 200:
        raise ValueError("id has to be a text of 1 to 200 characters")
    _check_answer(suite.check, value["answer"])
    tools = value.get("tools", [])
    if not isinstance(tools, list):
        raise ValueError("tools has to be a list")  # noqa: TRY004 - of a file's content
    if "prompt" in value:
        return Question(suite.name, str(id), value["answer"], prompt=_prompt(value["prompt"]))
    return Question(suite.name, str(id), value["answer"], messages=_messages(value["messages"]), tools=tools)


def _prompt(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("prompt has to be a text with something in it")
    return value


def _messages(messages: object) -> list[Mapping[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages has to be a list with at least one message")
    for place, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in _ROLES:
            raise ValueError(f"messages[{place}] has to be an object with a role, one of {', '.join(_ROLES)}")
    if messages[-1]["role"] == "assistant":
        raise ValueError("the last message is the assistant's already; what it has to say is the answer")
    return messages


def _check_answer(check: str, answer: Any) -> None:
    if check == "tool":
        if not isinstance(answer, dict) or not isinstance(answer.get("name"), str):
            raise ValueError('answer has to be {"name": ..., "arguments": {...}}, since check is tool')
        return
    texts = _texts(answer)
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("answer has to be a text, or a list of texts, none of them empty")
    for pattern in texts if check == "regex" else ():
        if len(pattern) > _PATTERN_AT_MOST:
            raise ValueError(f"the pattern has {len(pattern)} characters; {_PATTERN_AT_MOST} are the most")
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{pattern!r} is no pattern: {error}") from error


def scores(check: str, questions: Sequence[Question], said: Sequence[str]) -> list[float | None]:
    """1 or 0 for each; None where a pattern took longer than PATTERN_S, so that nobody knows."""
    if check == "regex":
        return _by_pattern(questions, said)
    compare: Callable[[Any, str], bool] = {"exact": _is_exact, "contains": _contains, "tool": _is_call}[check]
    return [float(compare(question.answer, text)) for question, text in zip(questions, said, strict=True)]


def _texts(answer: Any) -> list[Any]:
    return answer if isinstance(answer, list) else [answer]


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _is_exact(answer: Any, said: str) -> bool:
    return any(_spaced(text) == _spaced(said) for text in _texts(answer))


def _contains(answer: Any, said: str) -> bool:
    return any(_spaced(text) in _spaced(said) for text in _texts(answer))


# Python's patterns can take longer than the universe has time. A process of its own can be ended, whatever it does.
_SEARCH = "import json,re,sys; print(json.dumps([any(re.search(p,t) for p in ps) for ps,t in json.load(sys.stdin)]))"


def _by_pattern(questions: Sequence[Question], said: Sequence[str]) -> list[float | None]:
    pairs = [(_texts(question.answer), text[:_SAID_AT_MOST]) for question, text in zip(questions, said, strict=True)]
    together = _search(pairs)
    if together is not None:
        return [float(found) for found in together]
    alone = [_search([pair]) for pair in pairs]
    return [None if found is None else float(found[0]) for found in alone]


def _search(pairs: Sequence[tuple[list[str], str]]) -> list[bool] | None:
    command = [sys.executable, "-I", "-S", "-c", _SEARCH]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter; patterns and texts are data on its stdin
            command, input=json.dumps(pairs).encode(), capture_output=True, timeout=PATTERN_S, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return None
    found: list[bool] = json.loads(done.stdout)
    return found


def _is_call(answer: Mapping[str, Any], said: str) -> bool:
    """One call, of that name, with equal arguments, and nothing beside it that was to be one."""
    calls = list(calls_in(said))
    return len(calls) == 1 and _is_equal(calls[0], (answer["name"], answer.get("arguments", {})))


def _is_equal(one: Any, other: Any) -> bool:
    """As JSON: 1 is 1.0, and true is neither, which Python's == would say."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_is_equal, one, other))
    return bool(one == other)


_TAGS = re.compile(r"<tool_call>(.*?)</tool_call>|</?tool_call>", re.DOTALL)
"""A call in its tags; or a tag without its other one, of which nothing is kept."""


def calls_in(said: str) -> Iterator[tuple[str, Any] | None]:
    """Names and arguments of the calls in what was said: OpenAI's `tool_calls` as JSON, which is how calls of an
    endpoint are kept; one call as JSON; or such in <tool_call> tags, as Qwen writes them. None for what stands where a
    call would and is none."""
    whole = _json(said)
    for value in [_json(text) for text in _TAGS.findall(said)] if whole is None else [whole]:
        for call in value if isinstance(value, list) else [value]:
            function = call.get("function", call) if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(function.get("name"), str):
                yield function["name"], _arguments(function.get("arguments", {}))
            else:
                yield None


def _json(text: str) -> Any:
    """None for what is no JSON, too."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _arguments(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else {}
    except (ValueError, RecursionError):
        return value
