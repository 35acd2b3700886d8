"""`stoker chat`: one request through the gateway, the answer as it comes."""

import base64
import json
from pathlib import Path
from typing import Any

import click

from stoker.base.errors import InvalidInput, UpstreamError
from stoker.cli import api, target

MAX_IMAGE_BYTES = 10_000_000  # base64 makes it a third longer, which still fits the gateway's default of 16 MiB
_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


@click.command()
@click.argument("text")
@target.options
@click.option("--model", default="auto", show_default=True, help="Model, or auto.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Tokens of the answer at most.")
@click.option("--image", type=click.Path(path_type=Path), help="An image (PNG, JPEG, GIF, WebP) to send with the text.")
@click.option("--no-stream", is_flag=True, help="Print the answer when it is complete.")
def chat(
    text: str,
    url: str | None,
    key: str | None,
    state: Path | None,
    model: str,
    max_tokens: int | None,
    image: Path | None,
    no_stream: bool,
) -> None:
    """Send TEXT to a model and print what it answers."""
    import asyncio

    found = target.find(target.Asked(url, key, state))
    body = request_body(text, model=model, max_tokens=max_tokens, image=image)
    if no_stream:
        answer = api.call(found, "POST", "/v1/chat/completions", body=body)
        click.echo(answer["choices"][0]["message"]["content"] or "")
        return
    try:
        asyncio.run(_stream(found, {**body, "stream": True}))
    except Exception as error:
        api.explain(error)
        raise


def request_body(text: str, *, model: str, max_tokens: int | None, image: Path | None) -> dict[str, Any]:
    """A chat completion's body. Raises InvalidInput for an image that cannot be sent."""
    content: Any = text
    if image is not None:
        content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": data_url(image)}}]
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}]}
    return body if max_tokens is None else {**body, "max_tokens": max_tokens}


def data_url(image: Path) -> str:
    try:
        data = image.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{image} cannot be read: {error.strerror}", param="image") from error
    kind = next((kind for start, kind in _IMAGES if data.startswith(start)), None)
    if kind is None:
        raise InvalidInput(f"{image} is no image that can be sent; PNG, JPEG, GIF and WebP can", param="image")
    if len(data) > MAX_IMAGE_BYTES:
        raise InvalidInput(
            f"{image} has {len(data)} bytes; {MAX_IMAGE_BYTES} can be sent at most",
            param="image",
            hint="make it smaller",
        )
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


async def _stream(found: target.Target, body: dict[str, Any]) -> None:
    from stoker.web.client import HttpClient

    async with (
        HttpClient(found.url, key=found.key) as client,
        client.stream("POST", "/v1/chat/completions", body=body) as stream,
    ):
        if stream.error is not None:
            stream.error.raise_for_error()
            raise UpstreamError("the platform answered with something that is no stream", upstream_status=stream.status)
        async for event in stream.events:
            if event == b"[DONE]":
                click.echo()
                return
            click.echo(delta_text(json.loads(event)), nl=False)
    click.echo()
    raise UpstreamError("the answer broke off before its end", hint="ask again; the logs of the platform say why")


def delta_text(chunk: dict[str, Any]) -> str:
    """The text of a chunk. Raises UpstreamError for an error in the middle of a stream."""
    error = chunk.get("error")
    if isinstance(error, dict):
        raise UpstreamError(str(error.get("message", "the answer broke off")), code=error.get("code"))
    return "".join(choice.get("delta", {}).get("content") or "" for choice in chunk.get("choices", []))
