"""A checkpoint -> a folder that engines serve: config.json, tokenizer files, model.safetensors (with an index beyond 5 GB),
LoRA merged into the weights, or beside them as an adapter in PEFT's format."""

from pathlib import Path
from typing import Literal

from stoker.registry.manifests import Manifest
from stoker.registry.runs import RunStore
from stoker.spec import Run


def export(
    run: Run,
    base: Path,
    store: RunStore,
    manifest: Manifest,
    folder: Path,
    *,
    form: Literal["merged", "adapter"] = "merged",
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16",
) -> str:
    """Write the folder, whole or not at all; returns its digest (`registry.models.digest_of`). Every byte of the
    checkpoint is verified. Raises Conflict for a folder that is there and holds something else."""
    raise NotImplementedError
