"""Story: the size of a picture is read from the head of its file, as Pillow reads it, and nothing is decoded."""

import io
from random import Random

import pytest
from PIL import Image

from stoker.policy.images import size_of


def file_of(form: str, width: int, height: int, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("GIF", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": b"Exif\x00\x00" + b"x" * 60_000, "icc_profile": b"y" * 150_000}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 5}),
        ("WEBP", {"exif": b"Exif\x00\x00" + b"x" * 100}),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (300, 7), (5, 1031)])
def test_every_format_and_its_variants(form: str, options: dict[str, object], size: tuple[int, int]) -> None:
    assert size_of(file_of(form, *size, **options)) == size


def test_a_bomb_is_recognised_by_its_head_alone() -> None:
    png = bytearray(file_of("PNG", 1, 1))
    png[16:24] = (60_000).to_bytes(4, "big") + (50_000).to_bytes(4, "big")
    assert size_of(bytes(png[:24])) == (60_000, 50_000)


@pytest.mark.parametrize("form", ["BMP", "TIFF", "ICO", "PPM"])
def test_other_formats_have_no_size_here(form: str) -> None:
    assert size_of(file_of(form, 16, 16)) is None


@pytest.mark.parametrize("form", ["PNG", "GIF", "JPEG", "WEBP"])
def test_a_file_that_ends_early_or_is_damaged_raises_nothing(form: str) -> None:
    whole, random = file_of(form, 40, 30), Random(form)
    for length in range(len(whole)):
        assert size_of(whole[:length]) in (None, (40, 30))
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[random.randrange(2, min(60, len(whole)))] = random.randrange(256)
        size_of(bytes(damaged))
