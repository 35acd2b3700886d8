"""`/v1/files` by OpenAI's SDK and by hand."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
from gateway_parts import ADMIN_KEY, KEY, OTHER_KEY, SPEC, Stack, a_stack, until
from openai import APIStatusError
from sqlalchemy import func, select

from stoker.meter.files import BLOCK_BYTES
from stoker.meter.keys import KeyStore
from stoker.meter.tables import file_blocks
from stoker.meter.tables import files as table
from stoker.spec import loads

LARGE = bytes(range(256)) * 4 * 1024  # four blocks, in which every byte occurs


def a_small_platform(**files: int) -> Any:
    said = ", ".join(f"{name}: {value}" for name, value in files.items())
    spec = SPEC.replace("TOTAL", "20").replace("CONNECT", "2")
    return loads(spec.replace("gateway: {", f"gateway: {{files: {{{said}}}, "))


async def refusal(asked: Any) -> tuple[int, str | None, str | None]:
    """Status, code and param of what is refused."""
    with pytest.raises(APIStatusError) as caught:
        await asked
    return caught.value.status_code, caught.value.code, caught.value.param


def rows(stack: Stack) -> tuple[int, int]:
    """Files and blocks in the store."""
    with stack.store.reading() as connection:
        found = [
            connection.execute(select(func.count()).select_from(each)).scalar_one() for each in (table, file_blocks)
        ]
    return int(found[0]), int(found[1])


async def test_a_file_comes_back_as_it_was_sent(stack: Stack) -> None:
    sdk = await stack.sdk()
    made = await sdk.files.create(file=("größe.bin", LARGE), purpose="user_data")
    assert (made.object, made.bytes, made.filename, made.purpose) == ("file", len(LARGE), "größe.bin", "user_data")
    assert (made.status, made.expires_at) == ("processed", None)
    assert made.created_at > 1_700_000_000
    assert await sdk.files.retrieve(made.id) == made
    content = await sdk.files.content(made.id)
    assert content.content == LARGE
    assert content.response.headers["content-length"] == str(len(LARGE))
    assert content.response.headers["content-disposition"] == "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe.bin"
    assert rows(stack) == (1, len(LARGE) // BLOCK_BYTES)


async def test_an_empty_file_is_one(stack: Stack) -> None:
    sdk = await stack.sdk()
    made = await sdk.files.create(file=("none", b""), purpose="vision")
    assert (made.bytes, (await sdk.files.content(made.id)).content) == (0, b"")


async def test_what_belongs_to_batches_goes_after_thirty_days_unless_told_otherwise(stack: Stack) -> None:
    sdk = await stack.sdk()
    usual = await sdk.files.create(file=b"x", purpose="batch")
    told = await sdk.files.create(file=b"x", purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600})
    assert usual.expires_at == usual.created_at + 30 * 86400
    assert told.expires_at == told.created_at + 3600


async def test_lists_have_pages_purposes_and_an_order(stack: Stack) -> None:
    sdk = await stack.sdk()
    made = [(await sdk.files.create(file=b"x", purpose=purpose)).id for purpose in ("batch", "vision", "batch")]  # type: ignore[arg-type]
    page = await sdk.files.list(limit=2)
    assert ([file.id for file in page.data], page.has_more) == ([made[2], made[1]], True)
    assert [file.id async for file in sdk.files.list(limit=2)] == made[::-1]
    assert [file.id async for file in sdk.files.list(limit=1, order="asc")] == made
    assert [file.id async for file in sdk.files.list(purpose="vision")] == [made[1]]
    assert await refusal(sdk.files.list(limit=10_001)) == (400, "invalid_value", "limit")
    assert await refusal(sdk.files.list(order="up")) == (400, "invalid_value", "order")  # type: ignore[arg-type]


async def test_what_is_deleted_is_gone(stack: Stack) -> None:
    sdk = await stack.sdk()
    made = await sdk.files.create(file=LARGE, purpose="vision")
    assert (await sdk.files.delete(made.id)).model_dump() == {"id": made.id, "object": "file", "deleted": True}
    for asked in (sdk.files.retrieve(made.id), sdk.files.content(made.id), sdk.files.delete(made.id)):
        assert await refusal(asked) == (404, "file_not_found", None)
    assert rows(stack) == (0, 0)


async def test_a_strangers_file_is_as_unknown_as_one_that_never_was(stack: Stack) -> None:
    sdk, other, admin = [await stack.sdk(key=key) for key in (KEY, OTHER_KEY, ADMIN_KEY)]
    made = await sdk.files.create(file=b"secret", purpose="vision")
    for name in (made.id, "file-nobody"):
        for asked in (other.files.retrieve(name), other.files.content(name), other.files.delete(name)):
            assert await refusal(asked) == (404, "file_not_found", None)
    assert (await other.files.list()).data == []
    assert (await admin.files.content(made.id)).content == b"secret"


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.jsonl", "y.jsonl"),
        ("a\x85b", "a_b"),
        ("x" * 300 + ".jsonl", "x" * 249 + ".jsonl"),
        ("/", "file"),
    ],
)
async def test_a_name_is_one_that_a_list_can_show(stack: Stack, sent: str, shown: str) -> None:
    made = await (await stack.sdk()).files.create(file=(sent, b"x"), purpose="vision")
    assert made.filename == shown


# --- by hand ----------------------------------------------------------------------------------------------------------


def a_form(*parts: tuple[str, bytes, str | None]) -> bytes:
    """Name, content and file name of each part."""
    body = b""
    for name, content, filename in parts:
        of_file = "" if filename is None else f'; filename="{filename}"'
        body += f'--XYZ\r\nContent-Disposition: form-data; name="{name}"{of_file}\r\n\r\n'.encode() + content + b"\r\n"
    return body + b"--XYZ--\r\n"


FILE, PURPOSE = ("file", b"content", "a"), ("purpose", b"batch", None)
ANCHOR, SECONDS = ("expires_after[anchor]", b"created_at", None), ("expires_after[seconds]", b"3600", None)
WRONG: dict[str, tuple[bytes, str | None]] = {
    "no file": (a_form(PURPOSE), "file"),
    "no purpose": (a_form(FILE), "purpose"),
    "a purpose that is none": (a_form(FILE, ("purpose", b"fun", None)), "purpose"),
    "two files": (a_form(FILE, FILE, PURPOSE), "file"),
    "two purposes": (a_form(FILE, PURPOSE, PURPOSE), "purpose"),
    "what nobody knows": (a_form(FILE, PURPOSE, ("color", b"red", None)), "color"),
    "a long field": (a_form(FILE, ("purpose", b"x" * 300, None)), "purpose"),
    "an anchor alone": (a_form(FILE, PURPOSE, ANCHOR), "expires_after.seconds"),
    "seconds alone": (a_form(FILE, PURPOSE, SECONDS), "expires_after"),
    "too few seconds": (
        a_form(FILE, PURPOSE, ANCHOR, ("expires_after[seconds]", b"3599", None)),
        "expires_after.seconds",
    ),
    "seconds that are none": (
        a_form(FILE, PURPOSE, ANCHOR, ("expires_after[seconds]", b"x", None)),
        "expires_after.seconds",
    ),
    "no form": (b"nonsense", None),
    "half a form": (a_form(FILE, PURPOSE)[:-20], None),
}


async def posted(stack: Stack, body: bytes, *, key: str = KEY, **headers: str) -> tuple[int, Any]:
    """By a client that knows nothing of forms."""
    given = {"Authorization": f"Bearer {key}", "Content-Type": "multipart/form-data; boundary=XYZ", **headers}
    async with httpx2.AsyncClient() as client:
        answer = await client.post(stack.url + "/v1/files", content=body, headers=given)
    return answer.status_code, answer.json()


@pytest.mark.parametrize(("body", "param"), WRONG.values(), ids=WRONG.keys())
async def test_a_form_that_is_wrong_leaves_nothing(stack: Stack, body: bytes, param: str | None) -> None:
    status, said = await posted(stack, body)
    assert (status, said["error"]["param"]) == (400, param), said
    await until(lambda: rows(stack) == (0, 0))


async def test_fields_may_come_before_and_after_the_file(stack: Stack) -> None:
    for parts in ((FILE, PURPOSE, ANCHOR, SECONDS), (SECONDS, ANCHOR, PURPOSE, FILE)):
        status, said = await posted(stack, a_form(*parts))
        assert (status, said["bytes"], said["expires_at"] - said["created_at"]) == (200, 7, 3600)


async def test_seconds_that_are_whole_may_be_written_with_a_fraction_of_nothing(stack: Stack) -> None:
    seconds = ("expires_after[seconds]", b"3600.0", None)
    status, said = await posted(stack, a_form(FILE, PURPOSE, ANCHOR, seconds))
    assert (status, said["expires_at"] - said["created_at"]) == (200, 3600)
    seconds = ("expires_after[seconds]", b"3600.5", None)
    status, said = await posted(stack, a_form(FILE, PURPOSE, ANCHOR, seconds))
    assert (status, said["error"]["param"]) == (400, "expires_after.seconds")


async def test_nobody_uploads_without_a_key(stack: Stack) -> None:
    status, said = await posted(stack, a_form(FILE, PURPOSE), key="sk-stoker-nobody")
    assert (status, said["error"]["code"]) == (401, "invalid_api_key")
    assert rows(stack) == (0, 0)


async def test_a_file_has_so_many_bytes_at_most(tmp_path: Path) -> None:
    async with a_stack(tmp_path, platform=a_small_platform(maxFileBytes=2000, maxTenantBytes=100_000)) as stack:
        sdk = await stack.sdk()
        assert (await sdk.files.create(file=b"x" * 2000, purpose="vision")).bytes == 2000
        for size in (2001, 500_000):  # the latter is not even read
            assert await refusal(sdk.files.create(file=b"x" * size, purpose="vision")) == (413, "too_large", None)
        await until(lambda: rows(stack) == (1, 1))


async def test_a_tenant_has_so_many_bytes_at_most(tmp_path: Path) -> None:
    """Each file counts for 1024 beside what is in it."""
    async with a_stack(tmp_path, platform=a_small_platform(maxFileBytes=2000, maxTenantBytes=5000)) as stack:
        sdk, other = await stack.sdk(), await stack.sdk(key=OTHER_KEY)
        first = await sdk.files.create(file=b"x" * 2000, purpose="vision")
        assert await refusal(sdk.files.create(file=b"x" * 953, purpose="vision")) == (413, "files_full", None)
        await other.files.create(file=b"x" * 2000, purpose="vision")
        await sdk.files.create(file=b"x" * 952, purpose="vision")
        await sdk.files.delete(first.id)
        await sdk.files.create(file=b"x" * 2000, purpose="vision")


class Slow:
    """A body of which the rest comes when it is told to."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.go_on = asyncio.Event()

    async def pieces(self) -> Any:
        yield self.body[:-10]
        await self.go_on.wait()
        yield self.body[-10:]


async def test_a_key_that_is_revoked_in_the_middle_of_its_upload_leaves_nothing(stack: Stack) -> None:
    made = KeyStore(stack.store).create("acme")
    slow = Slow(a_form(FILE, PURPOSE))
    headers = {"Authorization": f"Bearer {made.secret}", "Content-Type": "multipart/form-data; boundary=XYZ"}
    async with httpx2.AsyncClient(timeout=30) as client:
        uploading = asyncio.create_task(client.post(stack.url + "/v1/files", content=slow.pieces(), headers=headers))
        await until(lambda: rows(stack) == (1, 0))
        KeyStore(stack.store).revoke(made.key.id)
        # What is known of a key is at most a second old.
        await until_refused(stack, made.secret)
        slow.go_on.set()
        answer = await uploading
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    await until(lambda: rows(stack) == (0, 0))


async def until_refused(stack: Stack, secret: str) -> None:
    http = await stack.http(secret)
    async with asyncio.timeout(20):
        while (await http.request("GET", "/v1/files")).status != 401:  # noqa: ASYNC110 - over HTTP, nobody tells
            await asyncio.sleep(0.02)


async def test_a_client_that_goes_in_the_middle_leaves_nothing(stack: Stack) -> None:
    slow = Slow(a_form(FILE, PURPOSE))
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "multipart/form-data; boundary=XYZ"}
    async with httpx2.AsyncClient(timeout=30) as client:
        uploading = asyncio.create_task(client.post(stack.url + "/v1/files", content=slow.pieces(), headers=headers))
        await until(lambda: rows(stack) == (1, 0))
        uploading.cancel()
        await asyncio.gather(uploading, return_exceptions=True)
    await until(lambda: rows(stack) == (0, 0))
