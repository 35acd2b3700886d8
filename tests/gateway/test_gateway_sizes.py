"""Story: what one body may hold. At each limit one request is taken, and one beyond it told what is right."""

import base64
from typing import Any

import pytest
from gateway_parts import SPEC, Stack, a_stack

from stoker.base.errors import InvalidInput
from stoker.gateway import sizes
from stoker.policy import images
from stoker.spec import loads

Json = dict[str, Any]

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+M8AAAMBAQDJ/pLvAAAAAElFTkSuQmCC")


def url_of(file: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(file).decode()}"


def image(url: str) -> Json:
    return {"type": "image_url", "image_url": {"url": url}}


def text(words: str = "x") -> Json:
    return {"type": "text", "text": words}


def user(*parts: Json) -> Json:
    return {"role": "user", "content": list(parts)}


def png_of(width: int, height: int) -> bytes:
    return PIXEL[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + PIXEL[24:]


def refused(body: Json, *, allows_urls: bool = False) -> tuple[str | None, str, str]:
    with pytest.raises(InvalidInput) as caught:
        sizes.check(body, allows_urls=allows_urls)
    return caught.value.param, caught.value.code, caught.value.message


def taken(body: Json, *, allows_urls: bool = False) -> None:
    sizes.check(body, allows_urls=allows_urls)


@pytest.mark.parametrize(
    ("name", "one", "most"),
    [
        ("messages", user(text()), sizes.MOST_ITEMS),
        ("input", user(text()), sizes.MOST_ITEMS),
        ("input", "a text", sizes.MOST_TEXTS),
        ("input", [1, 2, 3], sizes.MOST_TEXTS),
        ("prompt", "a text", sizes.MOST_TEXTS),
        ("tools", {"type": "function"}, sizes.MOST_TOOLS),
        ("functions", {"name": "f"}, sizes.MOST_TOOLS),
        ("stop", "x", sizes.MOST_STOPS),
    ],
)
def test_lists_have_a_length(name: str, one: Any, most: int) -> None:
    taken({name: [one] * most})
    message = f"{name} has {most + 1} entries; {most} are the most: send fewer"
    assert refused({name: [one] * (most + 1)}) == (name, "too_many", message)


def test_the_tokens_of_one_text_are_no_list_of_texts() -> None:
    for name in ("prompt", "input"):
        taken({name: [7] * (sizes.MOST_TEXTS + 1)})


def test_a_message_has_so_many_parts() -> None:
    for name, field in (("messages", "content"), ("input", "content"), ("input", "output")):
        taken({name: [{field: [text()] * sizes.MOST_PARTS}]})
        path = f"{name}[1].{field}"
        assert refused({name: [{}, {field: [text()] * (sizes.MOST_PARTS + 1)}]})[:2] == (path, "too_many")


def test_a_stop_text_has_so_many_characters() -> None:
    longest = "x" * sizes.MOST_STOP_CHARACTERS
    taken({"stop": longest})
    taken({"stop": [longest]})
    message = "stop has a text of 1001 characters; 1000 are the most"
    assert refused({"stop": longest + "x"}) == ("stop", "invalid_value", message)
    assert refused({"stop": ["a", longest + "x"]}) == ("stop", "invalid_value", message)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_so_many_pictures_over_all_messages() -> None:
    one = image(url_of(PIXEL))
    taken({"messages": [user(one)] * sizes.MOST_IMAGES})
    path, code, message = refused({"messages": [user(one)] * (sizes.MOST_IMAGES + 1)})
    assert (path, code) == ("messages[100].content[0]", "too_many_images")
    assert message == "the request holds more than 100 pictures; send them in several requests"


def test_a_picture_has_so_many_bytes() -> None:
    whole = url_of(PIXEL + b"x" * (images.MAX_BYTES - len(PIXEL)))
    taken({"messages": [user(image(whole))]})
    path = "messages[0].content[0].image_url.url"
    larger = url_of(PIXEL + b"x" * (images.MAX_BYTES - len(PIXEL) + 3))
    found = refused({"messages": [user(image(larger))]})
    assert found[:2] == (path, "image_too_large")
    assert found[2].endswith("; 8388608 are the most")


def test_a_picture_has_so_many_pixels_by_its_head_alone() -> None:
    taken({"messages": [user(image(url_of(png_of(10_000, 5_000))))]})
    found = refused({"messages": [user(text(), image(url_of(png_of(10_000, 5_001))))]})
    path = "messages[0].content[1].image_url.url"
    assert found == (path, "image_too_large", f"{path} has 10000 x 5001 pixels; 50000000 are the most")


def test_a_picture_whose_size_stands_far_behind_in_its_file() -> None:
    """A JPEG with a large profile before its frame: the head alone does not say how large it is."""
    profile = b"".join(b"\xff\xe2\xff\xfd" + b"p" * 65531 for _ in range(3))
    frame = b"\xff\xc0\x00\x11\x08" + (9_000).to_bytes(2, "big") + (9_000).to_bytes(2, "big") + b"\x03" + b"0" * 9
    found = refused({"messages": [user(image(url_of(b"\xff\xd8" + profile + frame, "image/jpeg")))]})
    assert found[1:] == ("image_too_large", f"{found[0]} has 9000 x 9000 pixels; 50000000 are the most")


@pytest.mark.parametrize(
    ("url", "code", "why"),
    [
        (url_of(b"BM" + b"x" * 60, "image/bmp"), "invalid_image", "holds no picture whose size can be read"),
        ("data:image/png;base64,????", "invalid_base64_image", "is not base64"),
        ("data:,hello", "image_urls_not_allowed", "it has to be a data: URL in base64"),
    ],
)
def test_what_is_no_picture(url: str, code: str, why: str) -> None:
    path, found, message = refused({"messages": [user(image(url))]})
    assert (path, found) == ("messages[0].content[0].image_url.url", code)
    assert why in message


def test_a_recording_is_no_picture_and_has_no_pixels() -> None:
    taken({"messages": [user({"type": "audio_url", "audio_url": {"url": url_of(b"RIFF....WAVE", "audio/wav")}})]})


def test_a_url_in_a_text_is_a_text() -> None:
    taken({"messages": [user(text("http://example.com"), {"type": "refusal", "refusal": "https://x"})]})


# --- nothing is fetched -----------------------------------------------------------------------------------------------

FAR = "http://127.0.0.1:1/picture.png"


@pytest.mark.parametrize(
    ("part", "at"),
    [
        (image(FAR), ".image_url.url"),
        ({"type": "input_image", "image_url": FAR}, ".image_url"),
        ({"type": "video_url", "video_url": {"url": FAR}}, ".video_url.url"),
        ({"type": "audio_url", "audio_url": {"url": FAR}}, ".audio_url.url"),
        ({"type": "input_file", "file_url": FAR}, ".file_url"),
        ({"type": "image", "source": {"type": "url", "url": FAR}}, ".source.url"),
        ({"type": "image", "image": FAR}, ".image"),
        ({"type": "video", "video": FAR}, ".video"),
        ({"type": "input_audio", "input_audio": {"data": FAR, "format": "wav"}}, ".input_audio.data"),
        # vLLM goes by the name of the field where there is no type.
        ({"image_url": FAR}, ".image_url"),
        ({"type": "text", "text": "x", "image_url": {"url": FAR}}, ".image_url.url"),
    ],
)
@pytest.mark.parametrize("name", ["messages", "input"])
def test_whatever_would_be_fetched_is_refused_and_told_what_would_be_right(name: str, part: Json, at: str) -> None:
    body = {name: [user(text(), part)]}
    path = f"{name}[0].content[1]{at}"
    assert refused(body) == (
        path,
        "image_urls_not_allowed",
        f"{path} begins with 'http://127.0.0.1:1/pictu', and nothing is fetched from there; it has to be a data: URL "
        "in base64, such as data:image/png;base64,...",
    )
    taken(body, allows_urls=True)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "s3://bucket/x", "/etc/passwd", "", "HTTP:x"])
def test_other_urls_are_refused_even_where_urls_are_allowed(url: str) -> None:
    assert refused({"messages": [user(image(url))]}, allows_urls=True)[1] == "image_urls_not_allowed"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "image_embeds", "image_embeds": "AAAA"},
    ],
)
def test_what_lies_somewhere_else_or_nobody_can_bound_is_refused(part: Json) -> None:
    assert "is not possible here" in refused({"messages": [user(part)]}, allows_urls=True)[2]


def test_no_client_names_the_machines_that_an_engine_connects_to() -> None:
    body = {"messages": [user(text())], "kv_transfer_params": {"remote_host": "10.0.0.1", "remote_port": 80}}
    assert refused(body, allows_urls=True)[0] == "kv_transfer_params"


async def test_neither_the_gateway_nor_the_engine_ever_asks_for_a_url_of_a_client(stack: Stack) -> None:
    """The URL is that of a server that notes who asks: nobody does, on any way in, and no engine is told of it."""
    vision, far = await stack.engine("vision"), await stack.engine("code")
    body = {"model": "vision", "messages": [user(text(), image(far.url + "/v1/models"))]}
    response = {"model": "vision", "input": [user({"type": "input_image", "image_url": far.url + "/v1/models"})]}
    http = await stack.http()
    for path, sent in (
        ("/v1/chat/completions", body),
        ("/v1/vision/chat/completions", body),
        ("/v1/responses", response),
        ("/v1/tasks", body),
        ("/v1/tasks", {"endpoint": "/v1/responses", "body": response}),
    ):
        answer = await http.request("POST", path, body=sent)
        assert (answer.status, answer.json()["error"]["code"]) == (400, "image_urls_not_allowed"), path
    assert (vision.requests, far.requests, far.looks["/health"]) == ([], [], 0)


async def test_who_runs_the_platform_may_let_them_through_as_they_are(tmp_path: Any) -> None:
    spec = (
        SPEC.replace("TOTAL", "20")
        .replace("CONNECT", "2")
        .replace("{maxBodyBytes", "{allowImageUrls: true, maxBodyBytes")
    )
    async with a_stack(tmp_path, platform=loads(spec)) as stack:
        vision = await stack.engine("vision")
        body = {"model": "vision", "messages": [user(text(), image(FAR))]}
        answer = await (await stack.http()).request("POST", "/v1/chat/completions", body=body)
        assert answer.status == 200
        assert vision.requests[0].body["messages"] == body["messages"]
