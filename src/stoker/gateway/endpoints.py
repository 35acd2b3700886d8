"""What differs between OpenAI's endpoints for the gateway: how a body says its length, what is checked in it, and how
its answer is read and relayed. One object each, in `ENDPOINTS` by its path; the rest of the gateway knows none by name.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.engine import wires
from stoker.engine.wires import Wire
from stoker.gateway.relay import Relay, Relaying
from stoker.gateway.typed_relay import TypedRelay
from stoker.meter.charge import Charge
from stoker.policy.features import RequestFeatures, features_of

Json = dict[str, Any]

# As OpenAI has it; more answers to one request are several requests.
MOST_ANSWERS = 128
# What would put more into a prompt than it says itself, so that nobody could bound it.
_UNBOUNDED = ("chat_template", "prompt_embeds")


class Endpoint:
    """Chat, as it stands. `lengths` are the names by which a body says how long its answer may be, at least `least`; of
    a body that has none, the first becomes the bound. `always`: that name is said in any case. `needs` names what there
    is nothing to answer without."""

    may_vary = True
    """Whether another model than the one that was meant may answer: by a share of a name, or as a stand-in."""

    def __init__(
        self, wire: Wire, lengths: tuple[str, ...], *, needs: str, least: int = 1, always: str | None = None
    ) -> None:
        self.path = wire.path
        self.needs = needs
        self.asking = wire.asking
        self.usage_in = wire.usage_in
        self._lengths = lengths
        self._least = least
        self._always = always

    def check(self, body: Json) -> None:
        """Raises InvalidInput for what would change the kind or the number of the answers unseen: an engine that takes
        1 for true would answer with events where we expect a whole answer; one that takes "9" or 9.0 for a number of
        answers would give more than were reserved."""
        stream = body.get("stream")
        if stream is not None and not isinstance(stream, bool):
            raise InvalidInput(f"stream is {shown(stream)}; it has to be true or false", param="stream")
        for name in ("n", "best_of"):
            value = body.get(name)
            if value is not None and (type(value) is not int or not 1 <= value <= MOST_ANSWERS):
                raise InvalidInput(
                    f"{name} is {shown(value)}; it has to be a whole number from 1 to {MOST_ANSWERS}", param=name
                )
        for name in _UNBOUNDED:
            if body.get(name) is not None:
                raise _not_bounded(name)

    def check_prompt(self, body: Json) -> None:
        """Raises InvalidInput for a part of the prompt that stands for more than it says. Takes as long as the body is
        large."""

    def features(self, body: Json) -> RequestFeatures:
        """What `model: auto` goes by."""
        return features_of(body)

    def says_length(self, body: Json) -> bool:
        """Whether the client itself says how long the answer may be."""
        return not self._lengths or any(body.get(name) is not None for name in self._lengths)

    def bounded(self, body: Json, most: int) -> Json:
        """The body with its output bounded by `most` tokens: what is not said becomes that, what is more is cut to it.

        Raises InvalidInput for a bound that is no whole number: engines that take "999" or 1e9 for one would escape
        ours, as would a chat of 0 tokens, which vLLM takes for as many as there is room for.
        """
        said = {name: body[name] for name in self._lengths if body.get(name) is not None}
        for name, value in said.items():
            if type(value) is not int or value < self._least:
                raise InvalidInput(
                    f"{name} is {shown(value)}; it has to be a whole number, at least {self._least}", param=name
                )
        cut = {name: min(value, most) for name, value in said.items()}
        if not cut and self._lengths:
            cut[self._lengths[0]] = most
        if self._always is not None:
            cut.setdefault(self._always, max(cut.values()))
        return {**body, **cut}

    def output_tokens(self, body: Json) -> int:
        """How long one answer to a body that is bounded may be."""
        return max((body[name] for name in self._lengths if body.get(name) is not None), default=0)

    def relay(self, body: Json, charge: Charge | None, *, passes_usage: bool = False) -> Relaying:
        """For a streamed answer. `passes_usage`: also its last event, to which `Relaying.end` would add the receipt."""
        return Relay(body, charge, passes_usage=passes_usage)


class _Responses(Endpoint):
    """What OpenAI keeps between requests is not possible: what it adds to a prompt nobody could bound."""

    def check(self, body: Json) -> None:
        super().check(body)
        for name in ("previous_response_id", "prompt", "context_management"):
            if body.get(name) is not None:
                raise _not_bounded(name)
        if body.get("background") not in (None, False):
            raise InvalidInput(
                "background is not possible here; POST /v1/tasks takes the same body and answers at once",
                param="background",
            )

    def check_prompt(self, body: Json) -> None:
        if not isinstance(body.get("input"), str | list):
            raise InvalidInput(f"input is {shown(body.get('input'))}; it has to be a text or a list", param="input")
        if not isinstance(body.get("instructions"), str | None):
            raise InvalidInput("instructions has to be a text", param="instructions")
        for path, item in _listed(body, "tools"):
            if _kind(item, None) not in TOOLS:
                raise _not_bounded(f"{path}.type", item.get("type"), TOOLS)
        for path, item in _listed(body, "input"):
            if _kind(item, "message") not in ITEMS:
                raise _not_bounded(f"{path}.type", item.get("type"), ITEMS)
            for name in ("content", "output"):
                for at, part in _listed(item, name, path):
                    if _kind(part, None) not in PARTS:
                        raise _not_bounded(f"{at}.type", part.get("type"), PARTS)

    def bounded(self, body: Json, most: int) -> Json:
        # What an engine kept nobody could fetch here, and another tenant might.
        return {**super().bounded(body, most), "store": False}

    def relay(self, body: Json, charge: Charge | None, *, passes_usage: bool = False) -> Relaying:
        return TypedRelay(charge, passes_last=passes_usage)


TOOLS = ("function", "custom")
ITEMS = (
    *("message", "reasoning", "function_call", "function_call_output"),
    *("custom_tool_call", "custom_tool_call_output"),
)
PARTS = ("input_text", "output_text", "text", "refusal", "input_image", "summary_text", "reasoning_text")


class _Embeddings(Endpoint):
    may_vary = False  # vectors of two models cannot be compared

    def check(self, body: Json) -> None:
        super().check(body)
        if body.get("stream"):
            raise InvalidInput("stream is true; embeddings come as a whole", param="stream")

    def features(self, body: Json) -> RequestFeatures:
        """None: vectors of two models cannot be compared, so all that leave it to us go to one model."""
        return RequestFeatures()


CHAT = Endpoint(wires.CHAT, ("max_completion_tokens", "max_tokens"), needs="messages")
# Which of the two an engine goes by there is its own affair, so that one is always said that all know.
COMPLETIONS = Endpoint(
    wires.COMPLETIONS, ("max_tokens", "max_completion_tokens"), needs="prompt", least=0, always="max_tokens"
)
RESPONSES = _Responses(wires.RESPONSES, ("max_output_tokens",), needs="input")
EMBEDDINGS = _Embeddings(wires.EMBEDDINGS, (), needs="input")
ENDPOINTS: Mapping[str, Endpoint] = {each.path: each for each in (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS)}


def endpoint_of(path: str) -> Endpoint:
    """Of a task: its path was checked when it was submitted."""
    return ENDPOINTS.get(path, CHAT)


def _listed(holder: Mapping[str, Any], name: str, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects in a list, each with its place."""
    value = holder.get(name)
    at = f"{path}.{name}" if path else name
    for number, item in enumerate(value if isinstance(value, list) else ()):
        if isinstance(item, dict):
            yield f"{at}[{number}]", item


def _kind(item: Mapping[str, Any], default: str | None) -> str | None:
    """None for what is no name: an engine may take it for anything."""
    kind = item.get("type", default)
    return kind if isinstance(kind, str) else None


def _not_bounded(name: str, value: object = None, known: tuple[str, ...] = ()) -> InvalidInput:
    said = f"{name} {shown(value)}" if known else name
    instead = f"; it has to be one of {', '.join(known)}" if known else ""
    return InvalidInput(f"{said} is not possible here: what it costs cannot be known beforehand{instead}", param=name)


def shown(value: object) -> str:
    try:
        return json.dumps(value)[:80]
    except RecursionError:  # JSON that was read may be nested too deeply to be written from here
        return "(nested too deeply)"
