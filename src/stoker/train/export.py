"""A checkpoint -> a folder that engines serve: config.json, tokenizer files, model.safetensors (beyond 5 GB with an
index), LoRA merged into the weights, or beside them as an adapter in PEFT's format."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from stoker.base.errors import Conflict, InvalidInput
from stoker.nn import config as configs
from stoker.nn import image as images
from stoker.nn import lora, weights_files
from stoker.nn.config import ModelConfig
from stoker.nn.torch_model import ImageProjector, LanguageModel
from stoker.registry import models, shards
from stoker.registry.manifests import Manifest
from stoker.registry.runs import RunStore
from stoker.spec.run import Run
from stoker.train import hub
from stoker.train.bases import COMPANIONS
from stoker.train.model import PROJECTOR

WEIGHTS = "model/"
"""What a checkpoint's names of parameters begin with; the rest of its tensors are the optimizer's."""

_TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_BATCH_BYTES = 1 << 30
"""So much of a checkpoint is read at a time: tensors share chunks, and a chunk is read whole to be verified."""

Dtype = Literal["float32", "bfloat16", "float16"]


def export(
    run: Run,
    base: Path,
    store: RunStore,
    manifest: Manifest,
    folder: Path,
    *,
    form: Literal["merged", "adapter"] = "merged",
    dtype: Dtype = "bfloat16",
) -> str:
    """Write the folder, whole or not at all; returns its digest (`registry.models.digest_of`). Every byte of the
    checkpoint is verified. Raises Conflict for a folder that is there and holds something else, and for a checkpoint
    of another model; `shards.Damaged`, so that `RunStore.newest_whole` takes an older one."""
    if form == "adapter" and run.method != "lora":
        raise InvalidInput("form is adapter, and the run's method is full: write merged", param="form")
    checkpoint = _Checkpoint(store, manifest)
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _beside(folder) as made:
        checkpoint.verify()
        for name in COMPANIONS:
            if (base / name).is_file():
                shutil.copyfile(base / name, made / name)
        if form == "adapter":
            _write_adapter(run, configs.load(base), checkpoint, made, dtype)
        else:
            _write_merged(run, base, checkpoint, made, dtype)
        digest, _ = models.digest_of(made)
        _move(made, folder, digest)
    return digest


class _Checkpoint:
    """Parameters of a checkpoint by name; those that lie one after the other are read together."""

    def __init__(self, store: RunStore, manifest: Manifest) -> None:
        self._store, self._prefix, self._shards = store.store, store.prefix(manifest.name), manifest.shards
        self.shapes = {
            piece.name.removeprefix(WEIGHTS): piece.whole
            for shard in manifest.shards
            for piece in shard.pieces
            if piece.name.startswith(WEIGHTS)
        }
        self._left = list(self.shapes)
        self._read: dict[str, Tensor] = {}

    def verify(self) -> None:
        for shard in self._shards:
            shards.verify_shard(self._store, self._prefix, shard)

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Once for each name. Raises Conflict when it is missing or of another shape."""
        if self.shapes.get(name) != shape:
            found = self.shapes.get(name)
            raise Conflict(
                f"the checkpoint has {name} with shape {found}, and the model needs {shape}"
                if found is not None
                else f"the checkpoint has no {name}, which the model needs",
                hint="it was made by a run with other settings, or from another base",
            )
        if name not in self._read:
            self._read_from(name)
        return self._read.pop(name)

    def _read_from(self, name: str) -> None:
        first, used = self._left.index(name), 0
        names: list[str] = []
        for following in self._left[first:]:
            used += 4 * torch.Size(self.shapes[following]).numel()
            if names and used > _BATCH_BYTES:
                break
            names.append(following)
        read = shards.read_pieces(
            self._store, self._prefix, self._shards, {WEIGHTS + following: None for following in names}
        )
        for following in names:
            dtype, shape, data = read[WEIGHTS + following]
            self._read[following] = torch.frombuffer(data, dtype=_TYPES[dtype]).reshape(shape)
        self._left = [left for left in self._left if left not in self._read]


def _write_merged(run: Run, base: Path, checkpoint: _Checkpoint, folder: Path, dtype: Dtype) -> None:
    config = configs.load(base)
    shapes = _shapes(config)
    if run.method == "lora":
        get = _merging(run, base, checkpoint, shapes)
    else:

        def get(name: str) -> Tensor:
            return checkpoint.take(name, shapes[name])

    weights_files.write(folder, shapes, get, dtype=dtype)
    _write_config(base, folder, config, dtype)
    if config.image is not None:
        with torch.device("meta"):
            projector = ImageProjector(config.image, config.hidden_size)
        _write_projector(run, base, projector, checkpoint, folder, dtype)


def _merging(
    run: Run, base: Path, checkpoint: _Checkpoint, shapes: dict[str, tuple[int, ...]]
) -> Callable[[str], Tensor]:
    files, scale = weights_files.locate(base), run.lora.alpha / run.lora.rank

    def get(name: str) -> Tensor:
        weight = weights_files.tensor(files[name], name)
        path = name.removesuffix(".weight")
        if name == path or path.rpartition(".")[2] not in run.lora.targets:
            return weight
        outputs, inputs = shapes[name]
        a = checkpoint.take(f"{path}.lora_A.weight", (run.lora.rank, inputs))
        b = checkpoint.take(f"{path}.lora_B.weight", (outputs, run.lora.rank))
        return lora.merged(weight, a, b, scale)

    return get


def _write_adapter(run: Run, config: ModelConfig, checkpoint: _Checkpoint, folder: Path, dtype: Dtype) -> None:
    tensors = {}
    for name, shape in _shapes(config).items():
        path = name.removesuffix(".weight")
        if name != path and path.rpartition(".")[2] in run.lora.targets:
            for part, wanted in (("lora_A", (run.lora.rank, shape[1])), ("lora_B", (shape[0], run.lora.rank))):
                update = f"{path}.{part}.weight"
                tensors[lora.peft_name(update)] = checkpoint.take(update, wanted)
    weights_files.write_file(folder / "adapter_model.safetensors", tensors, dtype=dtype)
    base, revision = hub.name_and_revision(run.base)
    document = lora.peft_config(
        rank=run.lora.rank,
        alpha=run.lora.alpha,
        dropout=run.lora.dropout,
        targets=run.lora.targets,
        base=base,
        revision=revision,
    )
    (folder / "adapter_config.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _write_projector(
    run: Run, base: Path, projector: ImageProjector, checkpoint: _Checkpoint, folder: Path, dtype: Dtype
) -> None:
    """LoRA leaves it as it is."""
    if run.method == "lora":
        path = base / images.FILE
        tensors = {name: torch.from_numpy(array) for name, array in weights_files.read_file(path).items()}
    else:
        tensors = {
            name: checkpoint.take(PROJECTOR + name, tuple(parameter.shape))
            for name, parameter in projector.named_parameters()
        }
    weights_files.write_file(folder / images.FILE, tensors, dtype=dtype)


def _write_config(base: Path, folder: Path, config: ModelConfig, dtype: Dtype) -> None:
    """As the base has it, with all that this project does not look at; only the type of the weights is another."""
    document = json.loads((base / "config.json").read_text(encoding="utf-8"))
    document["architectures"] = [config.architecture]
    document["dtype"] = dtype
    if "torch_dtype" in document:  # what it was called before transformers 4.56
        document["torch_dtype"] = dtype
    (folder / "config.json").write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        module = LanguageModel(config)
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A new folder beside it, on the same disk; gone afterwards unless it was renamed."""
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _move(made: Path, folder: Path, digest: str) -> None:
    for path in made.iterdir():
        _sync(path)
    try:
        os.rename(made, folder)  # over an empty folder, too
    except OSError as error:
        if not folder.is_dir() or _digest_of(folder) != digest:
            raise Conflict(
                f"{folder} is there and holds something else", hint="name a folder that is not there, or remove it"
            ) from error
        return
    _sync(folder.parent)


def _digest_of(folder: Path) -> str | None:
    try:
        return models.digest_of(folder)[0]
    except InvalidInput:
        return None


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
