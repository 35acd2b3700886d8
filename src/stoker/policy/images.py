"""How large a picture is, by the first bytes of its file: nothing is decoded, so a bomb costs no more than a picture.

Knows the four formats that OpenAI's API takes. Pure.
"""

import struct

FORMATS = "PNG, JPEG, WebP and GIF"
MAX_BYTES = 8 * 1024 * 1024
"""Of the file of one picture; a photograph of 12 megapixels has 3 to 6 MB."""
MAX_PIXELS = 50_000_000
"""Of one picture: what no camera of a telephone makes in one shot, and 150 MB when it is decoded."""

Size = tuple[int, int]


def size_of(file: bytes) -> Size | None:
    """Width and height that the file says; None when it is none of the formats, or is not whole that far."""
    try:
        if file.startswith(b"\x89PNG\r\n\x1a\n"):
            return _two(">II", file, 16) if file[12:16] == b"IHDR" else None
        if file.startswith((b"GIF87a", b"GIF89a")):
            return _two("<HH", file, 6)
        if file.startswith(b"RIFF") and file[8:12] == b"WEBP":
            return _webp(file)
        if file.startswith(b"\xff\xd8"):
            return _jpeg(file)
    except (struct.error, IndexError):
        return None
    return None


def _two(form: str, file: bytes, at: int) -> Size:
    width, height = struct.unpack_from(form, file, at)
    return width, height


def _webp(file: bytes) -> Size | None:
    kind = file[12:16]
    if kind == b"VP8X":  # 24 bits each, one less than they are
        return 1 + int.from_bytes(_exactly(file, 24, 3), "little"), 1 + int.from_bytes(_exactly(file, 27, 3), "little")
    if kind == b"VP8L" and file[20] == 0x2F:
        bits = int.from_bytes(_exactly(file, 21, 4), "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and file[23:26] == b"\x9d\x01\x2a":
        width, height = _two("<HH", file, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _exactly(file: bytes, at: int, count: int) -> bytes:
    if len(file) < at + count:
        raise IndexError
    return file[at : at + count]


def _jpeg(file: bytes) -> Size | None:
    """From segment to segment up to the one that begins a frame."""
    at = 2
    while file[at] == 0xFF:
        while file[at] == 0xFF:  # any number of them may fill the gap
            at += 1
        marker = file[at]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = _two(">HH", file, at + 4)
            return width, height
        is_alone = marker == 0x01 or 0xD0 <= marker <= 0xD8
        at += 1 if is_alone else 1 + int(struct.unpack_from(">H", file, at + 1)[0])
    return None
