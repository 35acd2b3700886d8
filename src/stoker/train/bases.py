"""Where the weights are that a run begins with: `model.base_folder`, and the digest that a run is bound to. No torch.

What is fetched or made lies in the cache under a name that says what it is of; several processes may ask at once, and
one of them does it.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stoker.base.errors import InvalidInput, Unavailable
from stoker.nn import bundle, weights_files
from stoker.nn import config as configs
from stoker.nn import tokenizer as tokenizers
from stoker.nn.config import ImageConfig, ModelConfig
from stoker.registry import stores
from stoker.registry.stores import Stat, Store
from stoker.spec.run import Run, Scratch
from stoker.train import hub, reading
from stoker.train.formats import Chat, Example, Preference, Prompt
from stoker.train.reading import File

IMAGE = ImageConfig(grid=4, features=6, hidden=64)
"""How a model from scratch sees; what `nn.image.cell_features` gives."""

COMPANIONS = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model"),
    *("vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "generation_config.json"),
)
"""Files beside config.json and the weights that belong to a model; an export has them, too."""

_WEIGHTS = re.compile(r"(model[\w.-]*|image_projector)\.safetensors|model\.safetensors\.index\.json")
_SLICE_BYTES = 64 << 20
_READ_TIMEOUT_S = 300.0
_MOST_FILES = 10_000
_RECORD = "fetched.json"


def base_folder(run: Run, *, here: Path, cache: Path) -> Path:
    """The folder of `run.base`: the embedded weights; a local folder; s3:// fetched into `cache` and verified; a name
    on the Hugging Face hub where there is no such folder; scratch: a folder in `cache` with a new config.json and a
    tokenizer that was learned from the data. Raises InvalidInput."""
    if run.base == "embedded":
        return bundle.default_folder()
    if run.base == "scratch":
        return _scratch(run, here, cache)
    if run.base.startswith("s3://"):
        return fetch(stores.open_store(run.base), cache)
    folder = here / run.base
    if hub.is_meant(run.base, here):
        folder = hub.fetch(run.base, ("config.json", *COMPANIONS))
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InvalidInput(
                f"base: {folder} has no {name}",
                param="base",
                hint="a folder with config.json, tokenizer.json and *.safetensors, a place in S3 or a model of the "
                "Hugging Face hub (Qwen/Qwen3-8B) that has them, or embedded, or scratch",
            )
    weights_files.locate(folder)
    return folder


def digest_of(folder: Path) -> str:
    """sha256 over names and digests of what makes a base: config, tokenizer and weights, and no other files there."""
    names = sorted(path.name for path in folder.iterdir() if _belongs(path.name))
    with ThreadPoolExecutor(max_workers=4) as pool:
        digests = list(pool.map(lambda name: _sha256(folder / name), names))
    return hashlib.sha256(json.dumps([*zip(names, digests, strict=True)]).encode()).hexdigest()


def fetch(store: Store, cache: Path) -> Path:
    """The model that a store has at its top, in a folder of `cache`: as large as the store says, whole safetensors, and
    the bytes that were fetched when it is used again."""
    found = [stat for stat in _bounded(store) if _belongs(stat.key)]
    if not {"config.json", "tokenizer.json"} <= {stat.key for stat in found}:
        raise InvalidInput(f"base: {store.url} has no config.json and tokenizer.json", param="base")
    identity = [store.url, [(stat.key, stat.size_bytes, stat.etag) for stat in found]]

    def fill(folder: Path) -> None:
        digests = {stat.key: _fetch_file(store, stat, folder / stat.key) for stat in found}
        weights_files.locate(folder)
        (folder / _RECORD).write_text(json.dumps(digests), encoding="utf-8")

    return _made(cache, "base", identity, fill, _is_as_fetched)


def _scratch(run: Run, here: Path, cache: Path) -> Path:
    files = reading.read_files(run.data, here)
    identity = [
        run.scratch.model_dump(mode="json"),
        run.dataset.format,
        [file.digest for file in files],
    ]

    def fill(folder: Path) -> None:
        texts = list(_texts(files, run))
        if not texts:
            raise InvalidInput("base: scratch, and the data has no text to learn a vocabulary from", param="data")
        content = tokenizers.train(texts, run.scratch.vocab_size)
        (folder / "tokenizer.json").write_text(content, encoding="utf-8")
        config = config_of(run.scratch, tokenizers.Tokenizer(content).vocab_size)
        (folder / "config.json").write_text(configs.to_json(config, dtype="float32"), encoding="utf-8")

    return _made(cache, "scratch", identity, fill, lambda folder: (folder / "config.json").is_file())


def config_of(scratch: Scratch, vocab_size: int) -> ModelConfig:
    """`vocab_size`: what the data gave, which is less than `scratch` asks for when it is small."""
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=scratch.hidden_size,
        intermediate_size=scratch.intermediate_size,
        num_hidden_layers=scratch.num_hidden_layers,
        num_attention_heads=scratch.num_attention_heads,
        num_key_value_heads=scratch.num_key_value_heads,
        head_dim=scratch.head_dim,
        max_position_embeddings=scratch.max_position_embeddings,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        bos_token_id=tokenizers.SPECIAL.index(tokenizers.BOS),
        eos_token_id=tokenizers.SPECIAL.index(tokenizers.END),
        image=IMAGE if scratch.images else None,
    )


def _texts(files: Sequence[File], run: Run) -> Iterator[str]:
    """What people and the assistant say in the data; lines that are wrong are said when the data is read to be used."""
    for _, example in reading.examples_of(files, run.dataset.format, _to_nobody):
        if not isinstance(example, ValueError):
            yield from texts_of(example)


def _to_nobody(words: str) -> None:
    """Progress is told when the data is read to be used."""


def texts_of(example: Example) -> Iterator[str]:
    if isinstance(example, Prompt):
        yield from (example.prompt, example.completion)
    elif isinstance(example, Chat):
        yield from _spoken(example.messages)
    elif isinstance(example, Preference):
        yield from _spoken([*example.prompt, *example.chosen, *example.rejected])
    else:
        yield example.text


def _spoken(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list | tuple) else [content]
        for part in parts:
            text = part.get("text") if isinstance(part, Mapping) else part
            if isinstance(text, str):
                yield text
        for call in message.get("tool_calls") or ():
            function = call.get("function", {})
            arguments = function.get("arguments", "")
            yield str(function.get("name", ""))
            yield arguments if isinstance(arguments, str) else json.dumps(arguments)


def _belongs(name: str) -> bool:
    return name == "config.json" or name in COMPANIONS or _WEIGHTS.fullmatch(name) is not None


def _bounded(store: Store) -> Iterator[Stat]:
    for count, stat in enumerate(store.list()):
        if count >= _MOST_FILES:
            raise InvalidInput(f"base: {store.url} has more than {_MOST_FILES} objects; name the model's own folder")
        yield stat


def _slices(store: Store, stat: Stat) -> Iterator[bytes]:
    for start in range(0, stat.size_bytes, _SLICE_BYTES):
        length = min(_SLICE_BYTES, stat.size_bytes - start)
        part = store.get(stat.key, start=start, length=length, timeout_s=_READ_TIMEOUT_S)
        if len(part) != length:
            raise Unavailable(f"{store.url}/{stat.key} gave {len(part)} bytes from {start} on, not {length}")
        yield part


def _fetch_file(store: Store, stat: Stat, path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in _slices(store, stat):
            digest.update(part)
            file.write(part)
    if (now := store.stat(stat.key)).etag != stat.etag:
        raise Unavailable(f"{store.url}/{stat.key} changed while it was read: {stat.etag} became {now.etag}")
    return digest.hexdigest()


def _is_as_fetched(folder: Path) -> bool:
    try:
        digests = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        with ThreadPoolExecutor(max_workers=4) as pool:
            return all(pool.map(lambda item: _sha256(folder / item[0]) == item[1], digests.items()))
    except (OSError, ValueError, AttributeError):
        return False


def _made(
    cache: Path, kind: str, identity: object, fill: Callable[[Path], None], is_whole: Callable[[Path], bool]
) -> Path:
    """The folder of `cache` for this identity, filled when it is not there or not whole."""
    name = f"{kind}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]}"
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / f".{name}.lock"):
        folder = cache / name
        if folder.is_dir() and is_whole(folder):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
        try:
            fill(made)
            os.rename(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
