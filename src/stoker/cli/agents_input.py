"""What a run is asked, from what was typed."""

import sys
from pathlib import Path
from typing import Any

from stoker.base import json_text
from stoker.base.errors import InvalidInput
from stoker.cli.chat import data_url

MAX_INPUT_BYTES = 10_000_000


def input_of(text: str | None, file: str | None, images: tuple[Path, ...]) -> Any:
    """What a run is asked: a text; with images a list of one message; of a .json file what it says. Raises
    InvalidInput where it is not exactly one of them."""
    if (text is None) == (file is None):
        raise InvalidInput("give either TEXT or --file", param="input", hint="`--file -` reads stdin")
    said: Any = text if file is None else _of_file(file)
    if not images:
        return said
    if not isinstance(said, str):
        raise InvalidInput("--image goes with a text", param="image", hint="put the image into the JSON file")
    parts: list[Any] = [{"type": "text", "text": said}]
    parts += [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in images]
    return [{"role": "user", "content": parts}]


def _of_file(file: str) -> Any:
    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as opened:
            data = opened.read(MAX_INPUT_BYTES + 1)
        if len(data) > MAX_INPUT_BYTES:
            raise InvalidInput(f"{file} has more than {MAX_INPUT_BYTES} bytes", param="file", hint="send less")
        return json_text.loads(data) if file.endswith(".json") else data.decode()
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}", param="file") from error
    except ValueError as error:
        what = "JSON" if file.endswith(".json") else "text in UTF-8"
        raise InvalidInput(f"{file} is not {what}: {error}", param="file") from error
