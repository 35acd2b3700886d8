"""Requests that nobody should send, from a seed: the grammar of `fuzz.py`. `case_of(seed, number)` is always the same.

A case is one connection: pieces of bytes, what the client does after the last, and whether the bytes are such that an
answer is due. Half of a case's bytes come from the grammar as they are; the rest are changed in a few places.
"""

import base64
import itertools
import json
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

KEY, ADMIN = (b"sk-stoker-fuzz-%b-0123456789abcdefghijklmnopqrst" % role for role in (b"user", b"admin"))
LEAVE, RESET, STAY = "leave", "reset", "stay"
WEBSOCKET = "a WebSocket"


@dataclass(frozen=True)
class Case:
    name: str
    pieces: tuple[bytes, ...]
    end: str

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)


def case_of(seed: int, number: int) -> Case:
    rng = random.Random(f"{seed}/{number}")
    name, make = rng.choices([(name, make) for name, _, make in KINDS], [share for _, share, _ in KINDS])[0]
    data = make(rng)
    end = rng.choices((STAY, LEAVE, RESET), (8, 1, 1))[0]
    if rng.random() < 0.1:
        data, name = data[: rng.randrange(len(data) + 1)], f"{name}, broken off"
    if name == WEBSOCKET:
        head, blank, frames = data.partition(b"\r\n\r\n")
        return Case(name, (head + blank, *_split(rng, frames)), end)
    return Case(name, _split(rng, data), end)


def _split(rng: random.Random, data: bytes) -> tuple[bytes, ...]:
    if rng.random() < 0.5:
        return (data,)
    at = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 6)))})
    return tuple(data[begin:end] for begin, end in itertools.pairwise(at)) or (data,)


# --- JSON -------------------------------------------------------------------------------------------------------------

_ODD = (
    *("null", "true", "false", "0", "1", "-1", "2.5", "1e400", "-0", "NaN", "Infinity", "-Infinity"),
    *("9223372036854775808", "-9223372036854775809", "9" * 400, "9" * 5000, "1e-400", '""', '"x"', "[]", "{}", "[[]]"),
    *('"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"é日本語🙂"', '"' + "é" * 500 + '"', '"sk-stoker-a"', "[null]"),
    *('["\\ud800"]', '{"\\ud800": "\\udfff"}', '{"": null}', '{"a": 1, "a": [2]}', '{"id": {}}', '{"type": []}'),
    *('[{"type": 5, "text": {}}]', '[1, "a", null, {}]', '"general"', '"auto"', '"2026-01-01"', '"-1"', "[" * 5),
)


def _value(rng: random.Random, depth: int = 3) -> str:
    pick = rng.random()
    if pick < 0.7 or depth == 0:
        return rng.choice(_ODD)
    if pick < 0.74:
        deep = rng.choice((100, 250, 900, 1100, 20_000))
        return rng.choice(("[" * deep + "]" * deep, '{"a":' * deep + "1" + "}" * deep, "[" * deep))
    if pick < 0.77:
        return json.dumps("x" * rng.choice((300, 5_000, 70_000, 300_000)))
    if pick < 0.88:
        return "[" + ",".join(_value(rng, depth - 1) for _ in range(rng.randrange(4))) + "]"
    names = [rng.choice(_NAMES) for _ in range(rng.randrange(4))]
    return _object([(name, _value(rng, depth - 1)) for name in names])


def _object(fields: Sequence[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in fields) + "}"


_CHAT = {
    "model": '"general"',
    "messages": '[{"role": "user", "content": "hello"}]',
    "max_tokens": "20",
}
_COMPLETION = {"model": '"general"', "prompt": '"hello"', "max_tokens": "20"}
_RESPONSES = {"model": '"general"', "input": '"hello"'}
_EMBEDDINGS = {"model": '"general"', "input": '"hello"'}
_LIMITS = (
    "tokensPerDay",
    "usdPerMonth",
    "concurrent",
    "requestUsd",
    "requestTokens",
    "tokens_per_day",
    "usd_per_month",
)
_NAMES = (
    *("model", "messages", "role", "content", "type", "text", "image_url", "url", "tools", "function", "name", "input"),
    *("max_tokens", "max_completion_tokens", "max_output_tokens", "stream", "stream_options", "include_usage", "n"),
    *(
        "best_of",
        "stop",
        "conversation",
        "user",
        "id",
        "tool_calls",
        "tool_call_id",
        "refusal",
        "input_audio",
        "output",
    ),
    *("instructions", "prompt", "suffix", "echo", "logprobs", "response_format", "json_schema", "metadata", "seed"),
    *("previous_response_id", "background", "store", "dimensions", "encoding_format", "endpoint", "body", "tenant"),
    *("team", "teams", "budgets", "sessionBudgets", "runBudgets", "models", "routes", "expires_at", "description"),
    *("grace_seconds", "before", *_LIMITS, "", "\ud800", "__proto__", "é"),
)
_BODIES: dict[str, dict[str, str]] = {
    "/v1/chat/completions": _CHAT,
    "/v1/completions": _COMPLETION,
    "/v1/responses": _RESPONSES,
    "/v1/embeddings": _EMBEDDINGS,
    "/v1/tasks": _CHAT,
}
_IDS = ("task_none", "req_none", "key_none", "%00", "%ff", "%F0%9F%99%82", "é", "a%2Fb", "..", "x" * 5000, "%")
_QUERIES = (
    *("", "", "", "?", "?wait=0.01", "?wait=nan", "?wait=-1", "?wait=1e9", "?limit=0", "?limit=1e99", "?limit=%C2%B2"),
    *(
        "?limit=nan",
        "?limit=5&limit=x",
        "?since=inf",
        "?since=1e11",
        "?until=-0",
        "?after=1,",
        "?after=nan,a",
        "?after=%ff",
    ),
    *("?tenant=%00", "?tenant=%ED%A0%80", "?tenant=bench&team=load", "?ended=maybe", "?state=done", "?state=%00"),
    *("?model=general", "?model=%F0%9F%99%82", "?" + "a=b&" * 2000, "?%", "?;=&&=", "?after=9999999999999,x"),
)
_ADMIN: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("POST", "/admin/v1/tenants", {"name": '"fuzzed-tenant"'}),
    ("PATCH", "/admin/v1/tenants/fuzzed", {"description": '"x"'}),
    ("PUT", "/admin/v1/tenants/fuzzed/teams/one", {"description": '"x"'}),
    ("PATCH", "/admin/v1/tenants/fuzzed/teams/ID", {"budgets": '{"tokensPerDay": 5}'}),
    ("PUT", "/admin/v1/tenants/fuzzed/teams/ID", {}),
    ("POST", "/admin/v1/keys", {"tenant": '"fuzzed"', "name": '"n"'}),
    ("PATCH", "/admin/v1/keys/ID", {"name": '"n"'}),
    ("POST", "/admin/v1/keys/ID/rotate", {"grace_seconds": "5"}),
    ("DELETE", "/admin/v1/keys/key_none", {}),
    ("POST", "/admin/v1/usage/prune", {"before": '"2020-01-01"'}),
    ("POST", "/admin/v1/tasks/ID/retry", {}),
)
_READ = (
    *("/health", "/ready", "/metrics", "/v1/models", "/v1/models/ID", "/v1/tasks/ID", "/v1/tasks/ID/events"),
    *("/v1/streams/ID", "/admin/v1/usage", "/admin/v1/usage/records", "/admin/v1/tasks", "/admin/v1/tasks/ID"),
    *("/admin/v1/dead", "/admin/v1/replicas", "/admin/v1/tenants", "/admin/v1/tenants/ID", "/admin/v1/budgets"),
    *("/admin/v1/tenants/fuzzed/teams", "/admin/v1/tenants/fuzzed/teams/ID", "/admin/v1/keys", "/admin/v1/keys/ID"),
    *("/", "//", "/v1/ws", "/v1", "/nowhere/ID"),
)


def _body(rng: random.Random, fields: dict[str, str], *, whole: bool = False) -> bytes:
    """A body of which some fields are wrong."""
    said = list(fields.items())
    for _ in range(0 if whole else rng.choice((0, 1, 1, 1, 2, 3))):
        pick = rng.random()
        if said and pick < 0.6:
            at = rng.randrange(len(said))
            said[at] = (said[at][0], _value(rng))
        elif said and pick < 0.65:
            said.append((rng.choice(said)[0], _value(rng)))  # twice
        else:
            said.append((rng.choice(_NAMES), _value(rng)))
    if rng.random() < 0.15:
        said.append(("messages", _messages(rng)))
    if rng.random() < 0.2:
        said.append(("stream", "true"))
    text = _object(said)
    if rng.random() < 0.03:
        text = _value(rng)
    return text.encode("utf-8", "surrogatepass")


def _messages(rng: random.Random) -> str:
    parts = ("text", "image_url", "input_audio", "refusal", "file", "input_text")

    def part() -> str:
        kind = rng.choice(parts)
        return _object([("type", json.dumps(kind)), (rng.choice((kind, "text", *_NAMES)), _value(rng))])

    def message() -> str:
        content = rng.choice((_value(rng), "[" + ",".join(part() for _ in range(rng.randrange(4))) + "]"))
        return _object([("role", rng.choice(('"user"', '"tool"', _value(rng, 1)))), ("content", content)])

    return "[" + ",".join(message() for _ in range(rng.randrange(5))) + "]"


# --- HTTP -------------------------------------------------------------------------------------------------------------

_ODD_HEADERS = (
    *(
        b"X-Session-Id: s1",
        b"X-Session-Id: ",
        b"X-Session-Id: \xff\xfe",
        b"X-Session-Id: " + b"s" * 5000,
        b"X-Run-Id: r",
    ),
    *(b"X-Run-Id: a b/c", b"X-Stoker-Resumable: true", b"X-Stoker-Resumable: maybe", b"Last-Event-ID: req_x/1-0"),
    *(
        b"Last-Event-ID: \xe9",
        b"Last-Event-ID: /",
        b"Last-Event-ID: req_x/99999999999999999999999-0",
        b"Expect: 100-continue",
    ),
    *(b"Connection: close", b"Connection: keep-alive, Upgrade", b"Connection: \xff", b"Upgrade: h2c", b"Cookie: a=b"),
    *(
        b"Content-Encoding: gzip",
        b"Content-Type: text/plain; charset=\xff",
        b"Host: ",
        b"Host: a\r\nHost: b",
        b"X: " + b"y" * 9000,
    ),
    *(
        b"Authorization: Basic \xff",
        b"Authorization: Bearer",
        b"Authorization: Bearer \xe9",
        b"Authorization: Bearer " + b"k" * 9000,
    ),
    *(
        b"X-Forwarded-For: \xff",
        b"Transfer-Encoding: identity",
        b"Content-Length: 5",
        b"Content-Length: x",
        b" folded: x",
    ),
    *(
        b"Accept: text/event-stream",
        b"A\x00B: c",
        b"Nul: a\x00b",
        b": empty",
        b"NoColon",
        b"Range: bytes=0-",
        b"Origin: null",
    ),
)
_METHODS = (
    *(
        b"GET",
        b"HEAD",
        b"PUT",
        b"DELETE",
        b"OPTIONS",
        b"PATCH",
        b"TRACE",
        b"CONNECT",
        b"PRI",
        b"POST",
        b"post",
        b"BREW",
    ),
    *(b"PROPFIND", b"", b"\xff", b"G\x00T", b"POST POST", b"M-SEARCH", b"QUERY"),
)
_VERSIONS = (
    b"HTTP/1.0",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"HTTP/1.2",
    b"HTTP/9.9",
    b"http/1.1",
    b"HTTP/1.1 ",
    b"",
    b"HTTP/11",
    b"ICY/1.1",
)


def _chunked(rng: random.Random, body: bytes) -> bytes:
    said, rest = [], body
    while rest:
        size = rng.choice((1, 7, 100, 5000, 100_000))
        piece, rest = rest[:size], rest[size:]
        extension = rng.choice((b"", b"", b";a=b", b';a="x;y"', b";" + b"z" * 3000, b";\xff", b" ;a"))
        said.append(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece))
        if len(said) > 200:
            said.append(b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b"")
            break
    trailers = rng.choice(
        (
            b"",
            b"",
            b"X-T: 1\r\n",
            b"Content-Length: x\r\n",
            b"Content-Length: 9\r\n",
            b"Authorization: Bearer nobody\r\n",
        )
    )
    return b"".join(said) + rng.choice((b"0", b"0", b"0;last", b"000", b"-1", b"0x")) + b"\r\n" + trailers + b"\r\n"


def _request(
    rng: random.Random, method: bytes, path: str, body: bytes | None, key: bytes | None, *, odd: int | None = None
) -> bytes:
    lines = [method + b" " + path.encode("utf-8", "surrogatepass") + b" HTTP/1.1", b"Host: x"]
    if key is not None:
        lines.append(b"Authorization: Bearer " + key)
    for _ in range(rng.choice((0, 0, 0, 1, 2)) if odd is None else odd):
        lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(_ODD_HEADERS))
    if body is None:
        return b"\r\n".join(lines) + b"\r\n\r\n"
    if rng.random() < 0.2:
        return b"\r\n".join([*lines, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n" + _chunked(rng, body)
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body


def _key(rng: random.Random, own: bytes) -> bytes | None:
    return rng.choices((own, ADMIN, KEY, None, b"sk-stoker-nobody", b"\xff\x00"), (30, 2, 2, 1, 1, 1))[0]


def _generating(rng: random.Random) -> bytes:
    path = rng.choice(list(_BODIES))
    fields = _BODIES[path]
    body = _body(rng, fields)
    if path == "/v1/tasks" and rng.random() < 0.5:
        endpoint = rng.choice([*_BODIES, "/x"])
        inner = _body(rng, _BODIES.get(endpoint, _CHAT)).decode("utf-8", "surrogatepass")
        body = _body(rng, {"endpoint": json.dumps(endpoint), "body": inner})
    return _request(rng, b"POST", path + rng.choice(_QUERIES), body, _key(rng, KEY))


def _administering(rng: random.Random) -> bytes:
    method, path, fields = rng.choice(_ADMIN)
    if rng.random() < 0.2:
        return _reading(rng)
    body = None if not fields and rng.random() < 0.5 else _body(rng, fields)
    return _request(rng, method.encode(), path.replace("ID", rng.choice(_IDS)), body, _key(rng, ADMIN))


def _reading(rng: random.Random) -> bytes:
    path = rng.choice(_READ)
    key = ADMIN if path.startswith("/admin") else KEY
    asked = path.replace("ID", rng.choice(_IDS)) + rng.choice(_QUERIES)
    return _request(rng, rng.choice((b"GET", b"GET", b"GET", b"HEAD", b"DELETE")), asked, None, _key(rng, key))


def _good(rng: random.Random) -> bytes:
    path = rng.choice(list(_BODIES))
    return _request(rng, b"POST", path, _body(rng, _BODIES[path], whole=True), KEY, odd=0)


def _pipelined(rng: random.Random) -> bytes:
    made = (_good, _reading, _good, _generating, _upgrading)
    return b"".join(rng.choice(made)(rng) for _ in range(rng.randrange(2, 25)))


def _odd_line(rng: random.Random) -> bytes:
    path = rng.choice(list(_BODIES)).encode()
    target = rng.choice(
        (
            *(
                path,
                b"http://x" + path,
                b"http://x",
                b"http://[::1]:99999" + path,
                b"*",
                b"x:443",
                b"/" + b"a" * 70_000,
            ),
            *(
                b"/\x00",
                b"/\xff\xfe",
                b"/v1/%zz",
                b"",
                b"//x" + path,
                path + b"#f",
                b"https://u:p@x" + path + b"?q",
                b"?",
            ),
        )
    )
    line = rng.choice(_METHODS) + b" " + target + b" " + rng.choice((b"HTTP/1.1", *_VERSIONS))
    body = _body(rng, _CHAT, whole=True)
    return line + b"\r\nHost: x\r\nAuthorization: Bearer " + KEY + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _many_headers(rng: random.Random) -> bytes:
    some = rng.choice((10, 100, 1000, 5000))
    size = rng.choice((0, 10, 100))
    headers = b"".join(b"X-%d: %b\r\n" % (number, b"v" * size) for number in range(some))
    if rng.random() < 0.3:
        headers = b"X-Huge: " + b"h" * rng.choice((10_000, 70_000, 500_000)) + b"\r\n"
    return _good(rng).replace(b"\r\n", b"\r\n" + headers, 1)


def _wrong_length(rng: random.Random) -> bytes:
    said = rng.choice((b"0", b"5", b"999999", b"-1", b"+5", b"5, 5", b"5 5", b"", b"0x5", b"9" * 30, b"1e3", b"\xb2"))
    head, _, body = _request(rng, b"POST", "/v1/chat/completions", _body(rng, _CHAT), KEY, odd=0).partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    return b"\r\n".join([*lines, b"Content-Length: " + said]) + b"\r\n\r\n" + body


def _mutated(rng: random.Random) -> bytes:
    data = bytearray(rng.choice((_good, _generating, _administering, _reading))(rng)[:20_000])
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(data))
        match rng.randrange(5):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randrange(1, 9)]
            case 2:
                data[at:at] = rng.choice(
                    (b"\r\n", b"\n", b"\r", b"\x00", b"\xff", b" ", b":", b'"', b"{", b"0", b"\r\n\r\n")
                )
            case 3:
                data[at:at] = data[at : at + rng.randrange(60)]
            case _:
                data[at] ^= 1 << rng.randrange(8)
        data = data or bytearray(b"G")
    return bytes(data)


def _noise(rng: random.Random) -> bytes:
    return rng.choice(
        (
            rng.randbytes(rng.randrange(1, 3000)),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(200),
            b"\r\n" * rng.randrange(1, 200),
            b"GET /health\r\n\r\n",
        )
    )


def _upgrading(rng: random.Random) -> bytes:
    headers = [b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABkAAQAAP__"]
    headers.append(
        b"Upgrade: " + rng.choice((b"h2c", b"h2c", b"websocket", b"TLS/1.0", b"\xff", b"h2c, websocket", b""))
    )
    asked = rng.choice((_good, _reading))(rng)
    return asked.replace(b"\r\n", b"\r\n" + b"\r\n".join(headers) + b"\r\n", 1)


# --- WebSockets -------------------------------------------------------------------------------------------------------


def _frame(rng: random.Random, code: int, data: bytes, *, end: bool = True) -> bytes:
    flags = (0x80 if end else 0) | code | (rng.choice((0x40, 0x20, 0x10)) if rng.random() < 0.03 else 0)
    masked = 0 if rng.random() < 0.04 else 0x80
    size = len(data)
    if size < 126 and rng.random() > 0.03:
        head = struct.pack("!BB", flags, masked | size)
    elif size < 65536:
        head = struct.pack("!BBH", flags, masked | 126, size)
    else:
        head = struct.pack("!BBQ", flags, masked | 127, size)
    if rng.random() < 0.02:
        head = struct.pack("!BBQ", flags, masked | 127, rng.choice((2**63, 2**62, 2**32, 0)))
    if not masked:
        return head + data
    mask = rng.randbytes(4)
    stretched = mask * (size // 4 + 1)
    return head + mask + bytes(a ^ b for a, b in zip(data, stretched, strict=False))


def _message(rng: random.Random) -> bytes:
    action = rng.choice(('"chat"', '"chat"', '"completion"', '"ping"', '"cancel"', '"resume"', _value(rng)))
    fields = {"action": action, "id": rng.choice(('"a"', '"b"', '"c"', _value(rng)))}
    if rng.random() < 0.5:
        fields["body"] = _body(rng, _CHAT).decode("utf-8", "surrogatepass")
    else:
        fields |= _CHAT
    for name in ("session", "run", "resumable", "request_id", "cursor"):
        if rng.random() < 0.15:
            fields[name] = rng.choice(("true", '"x"', '"0-0"', '["' + "é" * 60 + '"]', _value(rng)))
    return _body(rng, fields)


def _websocket(rng: random.Random) -> bytes:
    nonce = base64.b64encode(rng.randbytes(16))
    lines = [b"GET /v1/ws HTTP/1.1", b"Host: x", b"Upgrade: websocket", b"Connection: Upgrade"]
    lines += [b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + nonce]
    key = _key(rng, KEY)
    if key is not None:
        lines.append(b"Authorization: Bearer " + key)
    if rng.random() < 0.3:
        lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(_ODD_HEADERS))
    if rng.random() < 0.15:
        del lines[rng.randrange(1, len(lines))]
    if rng.random() < 0.1:
        lines.append(b"Sec-WebSocket-Protocol: " + rng.choice((b"stoker", b"stoker, \xff", b",,", b"stoker, a, b")))
    return b"\r\n".join(lines) + b"\r\n\r\n" + b"".join(_frames(rng) for _ in range(rng.randrange(1, 8)))


def _frames(rng: random.Random) -> bytes:
    text = _message(rng)
    match rng.randrange(12):
        case 0:
            return _frame(
                rng, rng.choice((8, 9, 10)), rng.choice((b"", b"\x03", b"\x03\xe8bye", b"\x00\x00", b"p" * 126))
            )
        case 1:
            return _frame(rng, rng.randrange(16), text[:200])
        case 2 | 3:
            at = rng.randrange(len(text) + 1)
            return _frame(rng, 1, text[:at], end=False) + _frame(rng, rng.choice((0, 0, 0, 1, 9)), text[at:])
        case 4:
            return _frame(rng, 2, text)
        case 5:
            return _frame(rng, 1, rng.randbytes(rng.randrange(50)))
        case _:
            return _frame(rng, 1, text)


KINDS: tuple[tuple[str, int, Callable[[random.Random], bytes]], ...] = (
    ("a body with wrong fields", 30, _generating),
    ("administration", 14, _administering),
    ("reading", 8, _reading),
    ("pipelined", 8, _pipelined),
    ("an odd request line", 7, _odd_line),
    ("many headers", 4, _many_headers),
    ("a wrong length", 5, _wrong_length),
    ("changed bytes", 12, _mutated),
    ("noise", 2, _noise),
    ("an upgrade", 5, _upgrading),
    (WEBSOCKET, 12, _websocket),
)
