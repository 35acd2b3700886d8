"""What one body may hold, beside its bytes (`gateway.maxBodyBytes`): how many of what, and pictures. Pure.

These keep what one request costs this process and its engine within bounds that nobody meets who means well; they are
constants, since nobody has to tune them. An engine may take less. Nothing is ever fetched: a picture is in the body.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.policy import images

Json = Mapping[str, Any]

MOST_ITEMS = 4096
"""Messages of a chat, items of a response."""
MOST_TEXTS = 2048
"""Prompts of a completion, texts to embed; as OpenAI has it."""
MOST_PARTS = 1024
"""Parts of one message."""
MOST_IMAGES = 100
"""Pictures, recordings and films in one request."""
MOST_TOOLS = 512
MOST_STOPS = 16
MOST_STOP_CHARACTERS = 1000

# A JPEG has a thumbnail and a colour profile before its size, seldom more. Four characters are three bytes.
_FIRST_CHARACTERS = 64 * 1024
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TEXTS = ("text", "refusal", "content", "thinking", "title", "name", "filename")
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w-]+=[^;,]*)*;base64,", re.IGNORECASE)
# vLLM's ways to say a picture as numbers, which nobody can bound, and OpenAI's to name what lies there: not the
# client's, but whoever's the platform's own key is.
_NOT_HERE = ("image_embeds", "audio_embeds", "image_pil", "file_id")
# How vLLM is told from which host and port it takes what another one has computed.
_ADDRESSES = "kv_transfer_params"
_LISTS = (("messages", MOST_ITEMS), ("prompt", MOST_TEXTS), ("tools", MOST_TOOLS), ("functions", MOST_TOOLS))


def check(body: Json, *, allows_urls: bool) -> None:
    """Raises InvalidInput for more than this page allows, for a picture that is too large or none, and, unless
    `allows_urls`, for one that somebody would have to fetch."""
    for name, most in (*_LISTS, ("input", _most_inputs(body.get("input")))):
        value = body.get(name)
        if isinstance(value, list) and len(value) > most and not isinstance(value[0], int):  # those are tokens of one
            raise _too_many(name, len(value), most, "send fewer")
    if body.get(_ADDRESSES) is not None:
        raise InvalidInput(f"{_ADDRESSES} is not possible here: it names machines to connect to", param=_ADDRESSES)
    _check_stops(body.get("stop"))
    count = 0
    for path, part in _parts(body):
        for at, url in _urls(part, path):
            count += 1
            if count > MOST_IMAGES:
                raise InvalidInput(
                    f"the request holds more than {MOST_IMAGES} pictures; send them in several requests",
                    param=path,
                    code="too_many_images",
                )
            _check_url(url, at, allows_urls=allows_urls)


def _most_inputs(value: Any) -> int:
    """Items of a response, or texts to embed."""
    return MOST_ITEMS if isinstance(value, list) and value and isinstance(value[0], dict) else MOST_TEXTS


def _check_stops(stop: Any) -> None:
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    if len(stops) > MOST_STOPS:
        raise _too_many("stop", len(stops), MOST_STOPS, "send fewer")
    for text in stops:
        if isinstance(text, str) and len(text) > MOST_STOP_CHARACTERS:
            raise InvalidInput(
                f"stop has a text of {len(text)} characters; {MOST_STOP_CHARACTERS} are the most", param="stop"
            )


def _parts(body: Json) -> Iterator[tuple[str, Json]]:
    """All parts of messages, of items, and of what tools gave back."""
    for name in ("messages", "input"):
        items = body.get(name)
        for number, item in enumerate(items if isinstance(items, list) else ()):
            if not isinstance(item, dict):
                continue
            for field in ("content", "output"):
                parts = item.get(field)
                if not isinstance(parts, list):
                    continue
                path = f"{name}[{number}].{field}"
                if len(parts) > MOST_PARTS:
                    raise _too_many(path, len(parts), MOST_PARTS, "send several messages")
                for place, part in enumerate(parts):
                    if isinstance(part, dict):
                        yield f"{path}[{place}]", part


def _urls(part: Json, path: str) -> Iterator[tuple[str, str]]:
    """Where a part says that something lies, whatever its type: engines go by the names of its fields, too."""
    for name, value in part.items():
        if name in _NOT_HERE and value is not None:
            raise InvalidInput(
                f"{path}.{name} is not possible here; send the picture itself, as a data: URL", param=f"{path}.{name}"
            )
        inner = value if isinstance(value, dict) else {name: value}
        at = f"{path}.{name}" if isinstance(value, dict) else path
        for field, said in inner.items():
            if field == "file_id" and said is not None:
                raise InvalidInput(f"{at}.file_id is not possible here; send the file itself", param=f"{at}.file_id")
            if isinstance(said, str) and _is_place(field, said):
                yield f"{at}.{field}", said


def _is_place(field: str, said: str) -> bool:
    """By its name, or, in any field that is no text for the model, by how it begins: some engines take URLs in
    `image` and `video`."""
    return field == "url" or field.endswith("_url") or (field not in _TEXTS and bool(_SCHEME.match(said)))


def _check_url(url: str, path: str, *, allows_urls: bool) -> None:
    head = _DATA_URL.match(url[:256])
    if head is None:
        if allows_urls and url.startswith(("http://", "https://")):
            return
        raise InvalidInput(
            f"{path} begins with {url[:24]!r}, and nothing is fetched from there; it has to be a data: URL in base64, "
            "such as data:image/png;base64,...",
            param=path,
            code="image_urls_not_allowed",
        )
    size_bytes = (len(url) - head.end()) * 3 // 4 - url[-2:].count("=")
    if size_bytes > images.MAX_BYTES:
        raise InvalidInput(
            f"{path} has {size_bytes} bytes; {images.MAX_BYTES} are the most", param=path, code="image_too_large"
        )
    if (head[1] or "image/").lower().startswith("image/"):
        _check_picture(url[head.end() :], path)


def _check_picture(text: str, path: str) -> None:
    size = images.size_of(_decoded(text[:_FIRST_CHARACTERS], path))
    if size is None and len(text) > _FIRST_CHARACTERS:
        size = images.size_of(_decoded(text, path))
    if size is None:
        raise InvalidInput(
            f"{path} holds no picture whose size can be read; {images.FORMATS} are taken",
            param=path,
            code="invalid_image",
        )
    width, height = size
    if width * height > images.MAX_PIXELS:
        raise InvalidInput(
            f"{path} has {width} x {height} pixels; {images.MAX_PIXELS} are the most",
            param=path,
            code="image_too_large",
        )


def _decoded(text: str, path: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidInput(f"{path} is not base64: {exc}", param=path, code="invalid_base64_image") from exc


def _too_many(path: str, count: int, most: int, instead: str) -> InvalidInput:
    return InvalidInput(f"{path} has {count} entries; {most} are the most: {instead}", param=path, code="too_many")
