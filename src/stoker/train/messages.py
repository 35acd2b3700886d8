"""Messages of a conversation in OpenAI's shape: what they may be. Knows no format of lines and no tokens."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from stoker.base import json_text

Message = Mapping[str, Any]
"""OpenAI's: role, content (text, parts or null), name, tool_calls, tool_call_id. `weight: 0` of an assistant's message
keeps it out of the loss, as in OpenAI's format."""

ROLES = ("system", "developer", "user", "assistant", "tool")
_A_CALL = '{"id", "type": "function", "function": {"name", "arguments"}}'
_SYNONYMS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "function": "tool"}


def shown(value: object, most: int = 80) -> str:
    """As JSON, cut."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (RecursionError, TypeError, ValueError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= most else text[: most - 3] + "..."


def wrong(path: str, value: object, right: str) -> ValueError:
    return ValueError(f"{path} is {shown(value)}; {right} would be right")


def check_messages(value: object, path: str) -> list[Message]:
    """The messages, each by itself in order. Raises ValueError in words."""
    if not isinstance(value, list):
        raise wrong(path, value, "a list of messages")
    if not value:
        raise ValueError(f"{path} is empty; it has to hold messages")
    for number, message in enumerate(value):
        _check_message(message, f"{path}[{number}]")
    return value


def check_conversation(
    messages: Sequence[Message], path: str, *, answers: Sequence[Message] | None = None, where: str | None = None
) -> None:
    """Whether the messages go together: the assistant speaks (in `answers`, which is called `where`), and each tool
    answers a call. Raises ValueError in words."""
    if not any(message["role"] == "assistant" for message in (messages if answers is None else answers)):
        roles = ", ".join(message["role"] for message in (messages if answers is None else answers))
        raise ValueError(f"{where or path} has no message of the assistant, only of {roles}; there is nothing to learn")
    called: set[object] = set()
    has_called = False
    for number, message in enumerate(messages):
        if message.get("tool_calls"):
            has_called = True
            called |= {call.get("id") for call in message["tool_calls"]}
        if message["role"] != "tool":
            continue
        name, call = f"message {number + 1} of {path}", message.get("tool_call_id")
        if not has_called:
            raise ValueError(f"{name} is of a tool, and the assistant has called none before; it needs tool_calls")
        if call is not None and called != {None} and call not in called:
            ids = sorted(str(each) for each in called if each is not None)
            raise ValueError(f"{name} has tool_call_id {shown(call)}; the calls before it have {shown(ids)}")


def check_tools(value: object) -> Sequence[Mapping[str, Any]]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise wrong("tools", value, "a list of objects with type and function")
    for number, tool in enumerate(value):
        if not isinstance(tool, dict):
            raise wrong(f"tools[{number}]", tool, "an object with type and function")
    return value


def arguments_of(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a call of a checked message is given, whether it stands there as text or as an object."""
    arguments = call["function"].get("arguments")
    parsed = json_text.loads(arguments) if isinstance(arguments, str) and arguments.strip() else arguments
    return parsed if isinstance(parsed, dict) else {}


def _check_message(message: object, path: str) -> None:
    if not isinstance(message, dict):
        raise wrong(path, message, "an object with role and content")
    role = message.get("role")
    if role not in ROLES:
        raise wrong(f"{path}.role", role, f"{_meant(role)}one of {', '.join(ROLES)}")
    calls = message.get("tool_calls")
    if calls is not None:
        _check_calls(calls, f"{path}.tool_calls", role)
    _check_content(message, path, role)
    _check_id(message.get("tool_call_id"), f"{path}.tool_call_id")
    weight = message.get("weight")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        raise wrong(f"{path}.weight", weight, "0 or 1")


def _check_id(value: object, path: str) -> None:
    if value is not None and not isinstance(value, str):
        raise wrong(path, value, "a string")


def _meant(role: object) -> str:
    if not isinstance(role, str):
        return ""
    close = [_SYNONYMS[role.lower()]] if role.lower() in _SYNONYMS else get_close_matches(role.lower(), ROLES, n=1)
    return f"did you mean {close[0]}? " if close else ""


def _check_content(message: Mapping[str, Any], path: str, role: str) -> None:
    content = message.get("content")
    if isinstance(content, str):
        return
    if isinstance(content, list):
        for number, part in enumerate(content):
            _check_part(part, f"{path}.content[{number}]")
        return
    if content is None and role == "assistant":
        if not message.get("tool_calls"):
            raise ValueError(f"{path} is of the assistant and has neither content nor tool_calls; it says nothing")
        return
    what = shown(content) if "content" in message else "missing"
    raise ValueError(f"{path}.content is {what}; a string or a list of parts would be right")


def _check_part(part: object, path: str) -> None:
    if not isinstance(part, dict):
        raise wrong(path, part, "an object with type")
    kind = part.get("type")
    if kind in ("text", "refusal"):
        if not isinstance(part.get(kind), str):
            raise wrong(f"{path}.{kind}", part.get(kind), "a string")
        return
    if kind != "image_url":
        raise wrong(f"{path}.type", kind, "text or image_url")
    holder = part.get("image_url")
    url = holder.get("url") if isinstance(holder, dict) else None
    if not isinstance(url, str):
        raise wrong(f"{path}.image_url", holder, '{"url": "data:image/...;base64,..."}')
    if url[:5].lower() != "data:":
        raise ValueError(
            f"{path}.image_url.url is {shown(url)}; nothing is fetched, data:image/...;base64,... is taken"
        )


def _check_calls(calls: object, path: str, role: str) -> None:
    if role != "assistant":
        raise ValueError(f"{path} is of {role}; only the assistant calls tools")
    if not isinstance(calls, list):
        raise wrong(path, calls, "a list of calls")
    for number, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise wrong(f"{path}[{number}]", call, _A_CALL)
        _check_id(call.get("id"), f"{path}[{number}].id")
        _check_arguments(function.get("arguments"), f"{path}[{number}].function.arguments")


def _check_arguments(arguments: object, path: str) -> None:
    parsed = arguments
    if isinstance(arguments, str) and arguments.strip():
        try:
            parsed = json_text.loads(arguments)
        except (ValueError, RecursionError):
            raise ValueError(f"{path} is {shown(arguments)}, which is not JSON; an object would be right") from None
    elif isinstance(arguments, str):
        return
    if parsed is not None and not isinstance(parsed, dict):
        raise wrong(path, arguments, "an object, as it is or as text,")
