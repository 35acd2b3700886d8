"""Which model answers a request. Pure and deterministic: the gateway calls it for each request, the simulator for each
of a trace. It knows nothing of replicas, budgets or HTTP.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stoker.base.errors import InvalidInput, NotFound
from stoker.spec import AUTO, Platform

MAX_CHARACTERS = 8192  # of text looked at, the newest first: what a request asks for stands at its end
MAX_LINES = 500  # of that text
MAX_PARTS = 2048  # parts of messages looked at, so that a body of a million empty ones costs no more


@dataclass(frozen=True, slots=True)
class RequestFeatures:
    has_image: bool = False
    has_code: bool = False


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Names only. `vision` and `code` are where `auto` sends images and code; None when there is no such model."""

    models: tuple[str, ...]
    aliases: Mapping[str, str]
    routes: Mapping[str, str]
    default: str
    vision: str | None
    code: str | None


@dataclass(frozen=True, slots=True)
class Route:
    """`reason` is one of: prefix, model, alias, auto:image, auto:code, auto:general. It goes into a response header."""

    model: str
    reason: str


def table_of(platform: Platform) -> RoutingTable:
    """Images go where the route `vision` leads, or else to the first model for vision; code likewise."""
    models, routes = platform.llm.models, platform.gateway.routes
    first_for: dict[str, str] = {}
    for name, model in models.items():
        first_for.setdefault(model.task, name)
    return RoutingTable(
        models=tuple(models),
        aliases={alias: name for name, model in models.items() for alias in model.aliases},
        routes=dict(routes),
        default=platform.gateway.default_model,
        vision=routes.get("vision", first_for.get("vision")),
        code=routes.get("code", first_for.get("code")),
    )


def choose(prefix: str | None, requested: str | None, features: RequestFeatures, table: RoutingTable) -> Route:
    """The model for a request that came in under `/v1/<prefix>` (None: plain `/v1`) with `requested` as its `model`.

    Raises NotFound for a prefix or a model that does not exist, InvalidInput for a model that contradicts the prefix
    and for an image that no model here can look at.
    """
    if prefix is not None:
        return _by_prefix(prefix, requested, table)
    if requested is None or requested == AUTO:
        return _by_content(features, table)
    return _by_name(requested, table)


def _by_prefix(prefix: str, requested: str | None, table: RoutingTable) -> Route:
    if prefix not in table.routes:
        known = ", ".join(f"/v1/{word}" for word in table.routes) or "none"
        raise NotFound(f"there is no route /v1/{_shown(prefix)}; the routes are: {known}", code="route_not_found")
    model = table.routes[prefix]
    if requested is not None and requested != AUTO:
        named = _by_name(requested, table).model
        if named != model:
            raise InvalidInput(
                f'the route /v1/{prefix} serves the model {model}, but the request asks for "{requested}"'
                + (f" (the model {named})" if named != requested else "")
                + f'; leave `model` out, write "{AUTO}" or "{model}", or send it to /v1',
                param="model",
                code="model_not_on_route",
            )
    return Route(model, "prefix")


def _by_name(requested: str, table: RoutingTable) -> Route:
    if requested in table.models:
        return Route(requested, "model")
    if requested in table.aliases:
        return Route(table.aliases[requested], "alias")
    raise NotFound(
        f'there is no model "{_shown(requested)}"; the models are: {", ".join(table.models)}',
        hint=f'write "{AUTO}" to have one chosen',
        code="model_not_found",
    )


def _by_content(features: RequestFeatures, table: RoutingTable) -> Route:
    if features.has_image:
        if table.vision is None:
            raise InvalidInput(
                "the request holds an image, and no model here looks at images; "
                f"take it out, or name one of the models: {', '.join(table.models)}",
                param="messages",
                code="images_not_supported",
            )
        return Route(table.vision, "auto:image")
    if features.has_code and table.code is not None:
        return Route(table.code, "auto:code")
    return Route(table.default, "auto:general")


def _shown(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def features_of(body: Mapping[str, Any]) -> RequestFeatures:
    """What a body holds: its messages, prompt, or input. Looks at MAX_PARTS parts and MAX_CHARACTERS characters
    at most, the newest first, and never raises: a malformed body is for the engine to refuse, with better words.

    System prompts are not looked at for code: agents' prompts are full of fences and JSON whatever is asked.
    """
    texts: list[str] = []
    budget = MAX_CHARACTERS
    has_image = False
    for count, (kind, text) in enumerate(_parts(body)):
        if count >= MAX_PARTS:
            break
        if kind == "image":
            has_image = True
        elif text and budget > 0:
            texts.append(text[-budget:])
            budget -= len(texts[-1])
    return RequestFeatures(has_image=has_image, has_code=looks_like_code("\n".join(reversed(texts))))


def _parts(body: object) -> Iterator[tuple[str, str]]:
    """("image", "") and ("text", its text) of a body, the newest first. Other parts count as empty text."""
    if not isinstance(body, Mapping):
        return
    for name in ("messages", "input"):
        messages = body.get(name)
        if isinstance(messages, list):
            for message in reversed(messages):
                yield from _message(message)
    yield from _content(body.get("prompt"))
    if isinstance(body.get("input"), str):
        yield "text", body["input"]


def _message(message: object) -> Iterator[tuple[str, str]]:
    """Of a chat, or an item of a response's input, which may be the output of a tool."""
    if not isinstance(message, Mapping):
        yield "text", ""
        return
    is_prompt = message.get("role") in ("system", "developer")
    for kind, text in _content(message.get("content")):
        yield kind, "" if is_prompt else text
    if "output" in message:
        yield from _content(message["output"])


def _content(content: object) -> Iterator[tuple[str, str]]:
    if not isinstance(content, list):
        yield "text", content if isinstance(content, str) else ""
        return
    for part in reversed(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in ("image_url", "input_image", "image"):
            yield "image", ""
        else:
            text = part.get("text") if isinstance(part, Mapping) else part
            yield "text", text if isinstance(text, str) else ""


_FENCE = re.compile(r"^ {0,3}(?:```|~~~) *(\w*)", re.MULTILINE)
_PROSE = frozenset(
    ("text", "txt", "markdown", "md")
)  # what follows the first of two fences when no code stands between

# How a line of code begins. The cheap test first: most lines begin with none of these, and the pattern then never runs.
_BEGINNINGS = (
    *("def ", "async ", "class ", "from ", "import ", "export ", "function", "const ", "let ", "var ", "public "),
    *("private ", "protected ", "static ", "fn ", "func ", "impl", "package ", "use ", "#", "<?php", "<!DOCTYPE"),
    *("using ", "namespace ", "select ", "SELECT ", "INSERT ", "CREATE ", "ALTER ", "DELETE ", "if", "for", "while"),
    *("switch", "Traceback ", "$ ", "@"),
)
_STATEMENT = re.compile(
    r"(?:async )?def \w+\(|class \w+[:({]|class \w+ (?:\w+ )*\{|from [\w.]+ import |import [\w.]+(?: as \w+)?;?$"
    r"|import .{1,100} from ['\"]|@\w+(?:\.\w+)*\(?$|(?:export )?(?:default )?(?:async )?function\*? ?\w*\("
    r"|(?:export )?(?:const|let|var) \w+ ?=|(?:public|private|protected|static) \w+ [^.]*[({;]"
    r"|fn \w+[(<]|func (?:\(\w+ \*?\w+\) )?\w+\(|impl\b[^.]*\{$|package \w+;?$|use \w+(?:::\w+)+"
    r"|#include ?[<\"]|#define \w|#!/|<\?php|<!DOCTYPE|using \w+(?:\.\w+)*;|namespace \w+[;{ ]*$"
    r"|(?:SELECT|select) [^?]{1,200} (?:FROM|from) |(?:INSERT INTO|CREATE TABLE|ALTER TABLE|DELETE FROM) "
    r"|(?:if|for|while|switch) ?\(.*\) ?\{$|Traceback \(most recent call last\)|\$ (?:git|pip|npm|cargo|docker) "
)
_LINE_ENDS = (";", "{", "}", "):", "=> {", "});")
MIN_CODE_LINES = 3  # one line that ends in a semicolon can be prose, and in a brace a smiley; three are neither

# A request for code names a language and a thing that is programmed, in the words at its beginning or its end.
_LANGUAGES = frozenset(
    (
        *("python", "javascript", "typescript", "java", "kotlin", "swift", "rust", "golang", "c++", "c#", "php"),
        *("ruby", "scala", "haskell", "perl", "bash", "shell", "sql", "html", "css", "react", "numpy", "pandas"),
        *("django", "terraform", "regex", "dockerfile", "postgresql", "sqlite"),
    )
)
_THINGS = frozenset(
    (
        *("function", "functions", "method", "class", "classes", "script", "code", "program", "query", "queries"),
        *("snippet", "test", "tests", "bug", "exception", "error", "decorator", "algorithm", "loop", "compiler"),
        *("library", "module", "implementation", "one-liner", "expression", "component", "parser", "api", "parse"),
    )
)
_OF_CODE_ALONE = frozenset(("refactor", "debug", "stacktrace", "unittest", "segfault", "codebase", "regex"))
_WORD = re.compile(r"[a-z][a-z+#-]*")
ASK_CHARACTERS = 500  # from each end: what is wanted stands before or after what it is wanted for


def looks_like_code(text: str) -> bool:
    """Whether a text holds code or asks for it: a fence, a statement, the look of the lines, or in so many words."""
    if ("```" in text or "~~~" in text) and any(word.lower() not in _PROSE for word in _FENCE.findall(text)[::2]):
        return True
    ends = 0
    for raw in text.splitlines()[-MAX_LINES:]:
        line = raw.strip()
        if line.startswith(_BEGINNINGS) and _STATEMENT.match(line):
            return True
        ends += line.endswith(_LINE_ENDS)
    return ends >= MIN_CODE_LINES or asks_for_code(text)


def asks_for_code(text: str) -> bool:
    asked = text if len(text) <= 2 * ASK_CHARACTERS else f"{text[:ASK_CHARACTERS]} {text[-ASK_CHARACTERS:]}"
    words = frozenset(_WORD.findall(asked.lower()))
    return not words.isdisjoint(_OF_CODE_ALONE) or not (words.isdisjoint(_LANGUAGES) or words.isdisjoint(_THINGS))
