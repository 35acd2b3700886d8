"""Weights by their name on the Hugging Face hub, such as Qwen/Qwen3-8B, or Qwen/Qwen3-8B@REVISION. No torch.

What holds no code is fetched, into the hub's own cache (HF_HOME), which other programs share; HF_TOKEN opens what is
gated. A run is bound to the digest of what it began from, so a model that moves on between two launches is refused: a
revision keeps it where it was.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from stoker.base.errors import InvalidInput, Unavailable

_NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([\w.-][\w./-]{0,199}))?")
WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")
_RIGHT = "a folder, its copy in S3 (s3://...), or the name of a model on the Hugging Face hub, such as Qwen/Qwen3-8B"


def is_meant(base: str, here: Path) -> bool:
    """Whether it is the name of a model on the hub, and not that of a folder which there is."""
    return _NAME.fullmatch(base) is not None and not (here / base).exists()


def name_and_revision(base: str) -> tuple[str, str | None]:
    """What is no name of the hub is as it was, and has no revision."""
    found = _NAME.fullmatch(base)
    return (base, None) if found is None else (found[1], found[2])


def fetch(base: str, files: Sequence[str]) -> Path:
    """The folder of the model in the hub's cache: `files`, as far as it has them, and safetensors. Raises InvalidInput
    for what has to be set right, Unavailable when the hub cannot be reached."""
    name, revision = name_and_revision(base)
    try:
        from huggingface_hub import constants, errors, snapshot_download
    except ImportError as error:
        raise InvalidInput(
            f"base: {base} is no folder, and without huggingface_hub nothing is fetched from the hub",
            param="base",
            hint=f"pip install huggingface_hub; or write {_RIGHT}",
        ) from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[*files, *WEIGHTS]))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        gated = isinstance(error, errors.GatedRepoError)
        why = "the hub gives it only to whom its owner lets" if gated else "the hub has no such model"
        raise InvalidInput(
            f"base: {base} is no folder, and {why}",
            param="base",
            hint=f"HF_TOKEN says who you are; right would be {_RIGHT}",
        ) from error
    except (OSError, errors.HfHubHTTPError) as error:
        if constants.HF_HUB_OFFLINE:
            raise InvalidInput(
                f"base: {base} is no folder, the hub's cache has not all of it, and HF_HUB_OFFLINE forbids to ask",
                param="base",
                hint=f"right would be {_RIGHT}, fetched before with `hf download {name}`",
            ) from error
        raise Unavailable(
            f"base: {base} could not be fetched from the hub: {type(error).__name__}",
            hint="where it cannot be reached, write a folder or s3://...",
        ) from error
