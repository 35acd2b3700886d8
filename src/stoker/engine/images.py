"""Image parts of a message: from a data: URL to the small array that the model sees. The one home of Pillow.

A file is an attacker's until proven otherwise: bounded bytes, bounded pixels checked before anything is decoded, four
formats, the first frame only, and truncated files refused. An http: URL is never fetched: that would let a caller send
requests from inside the cluster.
"""

import base64
import binascii
import io
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.base.errors import InvalidInput
from stoker.nn.image import SIDE
from stoker.policy.images import MAX_BYTES

MAX_PIXELS = 16_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")

_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w-]+=[^;,]*)*;base64,", re.IGNORECASE)


def read(url: str, param: str) -> NDArray[np.uint8]:
    """[SIDE, SIDE, 3]: the picture behind a data: URL, transparent parts white. Raises InvalidInput naming `param`."""
    return _decode(_bytes_of(url, param), param)


def _bytes_of(url: str, param: str) -> bytes:
    head = _DATA_URL.match(url)
    if head is None:
        raise InvalidInput(
            f"the image's URL begins with {url[:24]!r}; only data:image/...;base64,... is taken, nothing is fetched",
            param=param,
            code="invalid_image_url",
        )
    kind = (head["type"] or "").lower()
    if kind and not kind.startswith("image/"):
        raise InvalidInput(f"the data: URL holds {kind}, not an image", param=param, code="invalid_image_url")
    if (len(url) - head.end()) * 3 // 4 > MAX_BYTES:
        raise InvalidInput(f"the image has more than {MAX_BYTES} bytes", param=param, code="image_too_large")
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidInput(f"the image is not base64: {exc}", param=param, code="invalid_base64_image") from exc


def _decode(content: bytes, param: str) -> NDArray[np.uint8]:
    from PIL import Image  # only an engine that is sent an image pays for the import

    Image.MAX_IMAGE_PIXELS = None  # our own check comes first and is stricter; Pillow's is a warning
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise InvalidInput(
                    f"the image has {width} x {height} pixels; {MAX_PIXELS} are the most",
                    param=param,
                    code="image_too_large",
                )
            small = _shrunk(image)
    except InvalidInput:
        raise
    except Exception as exc:  # Pillow's parsers raise whatever they stumble on: OSError, SyntaxError, struct.error, ...
        raise InvalidInput(
            f"the image cannot be decoded ({type(exc).__name__}); PNG, JPEG, WebP and GIF are",
            param=param,
            code="invalid_image",
        ) from exc
    return np.asarray(small, dtype=np.uint8)


def _shrunk(image: Any) -> Any:
    from PIL import Image

    image.draft("RGB", (4 * SIDE, 4 * SIDE))  # JPEG alone: decode at a fraction of the size
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
