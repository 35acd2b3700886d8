"""Files that claim to be images: the honest ones become an array, the others are refused before they cost anything."""

import base64
import io
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from stoker.base.errors import InvalidInput
from stoker.engine import images
from stoker.nn.image import SIDE


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def refused(url: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        images.read(url, "messages[0].content[0].image_url.url")
    assert caught.value.param == "messages[0].content[0].image_url.url"
    return caught.value


@pytest.mark.parametrize("kind", images.FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (640, 480)])
def test_each_format_becomes_the_same_small_array(kind: str, size: tuple[int, int]):
    pixels = images.read(data_url(encoded(Image.new("RGB", size, (200, 30, 60)), kind)), "p")
    assert pixels.shape == (SIDE, SIDE, 3)
    assert np.abs(pixels.astype(int) - (200, 30, 60)).max() <= 6  # JPEG and WebP lose a little


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.read(data_url(content, "image/gif"), "p")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "CMYK", "I;16"])
def test_every_mode_is_taken(mode: str):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert images.read(data_url(encoded(Image.new(mode, (9, 9)), kind)), "p").shape == (SIDE, SIDE, 3)


def test_what_is_transparent_is_white():
    assert images.read(data_url(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG")), "p").min() == 255


def test_the_declared_type_may_be_missing_or_have_parameters():
    content = base64.b64encode(encoded(Image.new("RGB", (2, 2)), "PNG")).decode()
    for head in ("data:;base64,", "data:image/png;charset=utf-8;base64,", "DATA:IMAGE/PNG;BASE64,"):
        assert images.read(head + content, "p").max() == 0


def test_nobody_is_asked_for_the_picture_behind_a_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as far:
        far.setblocking(False)
        error = refused(f"http://127.0.0.1:{far.getsockname()[1]}/picture.png")
        assert "nothing is fetched" in error.message
        with pytest.raises(BlockingIOError):
            far.accept()


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "https://example.com/a.png", "file:///etc/passwd", ""]
)
def test_nothing_is_fetched(url: str):
    error = refused(url)
    assert error.code == "invalid_image_url"
    assert "nothing is fetched" in error.message


def test_a_data_url_of_something_else_is_refused():
    assert "holds text/html, not an image" in refused(data_url(b"<p>", "text/html")).message


def test_what_is_no_base64_is_refused():
    assert refused("data:image/png;base64,@@@@").code == "invalid_base64_image"


@pytest.mark.parametrize("kind", images.FORMATS)
def test_a_truncated_file_is_refused(kind: str):
    chance = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(chance), kind)
    assert refused(data_url(content[: len(content) // 2])).code == "invalid_image"


@pytest.mark.parametrize("content", [b"", b"not an image", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_what_is_no_image_is_refused(content: bytes):
    assert refused(data_url(content)).code == "invalid_image"


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM"])
def test_other_formats_are_refused(kind: str):
    assert refused(data_url(encoded(Image.new("RGB", (2, 2)), kind))).code == "invalid_image"


def test_a_bomb_is_refused_by_its_header():
    """60,000 x 60,000 pixels in a few bytes: 10 GB if anyone decoded it."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    error = refused(data_url(content))
    assert error.code == "image_too_large"
    assert "60000 x 60000 pixels" in error.message


def test_too_many_bytes_are_refused_before_they_are_decoded():
    error = refused("data:image/png;base64," + "@" * (images.MAX_BYTES * 4 // 3 + 8))
    assert error.code == "image_too_large"
