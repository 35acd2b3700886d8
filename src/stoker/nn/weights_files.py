"""Tensors of a folder: model.safetensors, or shards beside model.safetensors.index.json, as Hugging Face lays them out.

`bundle` reads them as numpy, training as torch, which is imported only there. A file's header is checked against its
size before anything is read, and nothing outside the folder is opened.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stoker.base.errors import InvalidInput

if TYPE_CHECKING:
    import torch

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000
"""Most bytes of one file that `write` makes; a tensor that is larger has a file of its own."""

_MOST_HEADER_BYTES = 100_000_000  # the limit of huggingface/safetensors
_MOST_INDEX_BYTES = 64 << 20
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
_TORCH_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def locate(folder: Path) -> dict[str, Path]:
    """The file of each tensor. Raises InvalidInput when the folder has no weights, or its index names what is not
    there."""
    if (folder / INDEX).is_file():
        return _by_index(folder)
    if not (folder / SINGLE).is_file():
        raise InvalidInput(f"{folder} has neither {SINGLE} nor {INDEX}", param="weights")
    return dict.fromkeys(_header(folder / SINGLE), folder / SINGLE)


def files(folder: Path) -> list[Path]:
    """The files that hold the folder's tensors, in order of their names."""
    return sorted(set(locate(folder).values()))


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Of all tensors, by the headers of their files alone."""
    return {name: entry.shape for path in files(folder) for name, entry in _header(path).items()}


def read(folder: Path) -> dict[str, NDArray[Any]]:
    """All tensors, each in the type of its file, but bfloat16 as float32: numpy has none."""
    return {name: array for path in files(folder) for name, array in read_file(path).items()}


def read_file(path: Path) -> dict[str, NDArray[Any]]:
    """As `read`, of one file. Raises InvalidInput for a file that is cut off or no safetensors."""
    entries = _header(path)
    data: NDArray[np.uint8] = np.fromfile(path, dtype=np.uint8)
    return {name: _array(path, name, entry, data) for name, entry in entries.items()}


def tensors(folder: Path) -> "Iterator[tuple[str, torch.Tensor]]":
    """All tensors for torch, one after the other, in the type of the file; a file is mapped, not read as a whole."""
    from safetensors import safe_open

    for path in files(folder):
        _header(path)
        with safe_open(path, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                yield name, opened.get_tensor(name)


def tensor(path: Path, name: str) -> "torch.Tensor":
    """One tensor of a file, in the type of the file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        found: torch.Tensor = opened.get_tensor(name)
    return found


def write(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    get: "Callable[[str], torch.Tensor]",
    *,
    dtype: str,
    most_bytes: int = SHARD_BYTES,
) -> None:
    """Write tensors as `dtype` (float32, bfloat16, float16). `get` is called once for each name, and no more tensors
    are held at a time than go into one file."""
    groups = _groups({name: _TORCH_BYTES[dtype] * int(np.prod(shape)) for name, shape in shapes.items()}, most_bytes)
    if len(groups) == 1:
        write_file(folder / SINGLE, {name: get(name) for name in groups[0]}, dtype=dtype)
        return
    weight_map = {}
    for number, names in enumerate(groups, 1):
        file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        write_file(folder / file, {name: get(name) for name in names}, dtype=dtype)
        weight_map.update(dict.fromkeys(names, file))
    size = sum(_TORCH_BYTES[dtype] * int(np.prod(shape)) for shape in shapes.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_file(path: Path, tensors: "Mapping[str, torch.Tensor]", *, dtype: str) -> None:
    import torch
    from safetensors.torch import save_file

    kind = getattr(torch, dtype)
    save_file({name: value.detach().to(kind).contiguous() for name, value in tensors.items()}, path, {"format": "pt"})
    path.chmod(0o644)  # it writes them for the owner alone


def _groups(sizes: Mapping[str, int], most_bytes: int) -> list[list[str]]:
    """Names in their order, cut into files."""
    groups: list[list[str]] = [[]]
    used = 0
    for name, size in sizes.items():
        if groups[-1] and used + size > most_bytes:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += size
    return groups


def _by_index(folder: Path) -> dict[str, Path]:
    path = folder / INDEX
    if path.stat().st_size > _MOST_INDEX_BYTES:
        raise InvalidInput(f"{path} has {path.stat().st_size} bytes, more than {_MOST_INDEX_BYTES}", param=INDEX)
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        named = {str(name): str(file) for name, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path} has no weight_map of tensors to files", param=INDEX) from error
    held: dict[str, dict[str, _Entry]] = {}
    for file in set(named.values()):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise InvalidInput(f"{path} names {file!r}, which is no safetensors file beside it", param=INDEX)
        if not (folder / file).is_file():
            raise InvalidInput(f"{path} names {file}, which is not there", param=INDEX)
        held[file] = _header(folder / file)
    for name, file in named.items():
        if name not in held[file]:
            raise InvalidInput(f"{path} says that {name} is in {file}, and it is not", param=INDEX)
    return {name: folder / file for name, file in named.items()}


def _header(path: Path) -> dict[str, _Entry]:
    """Name -> where it lies in the file. Raises InvalidInput unless the tensors fill the file exactly."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
            raise InvalidInput(f"{path} is cut off, or no safetensors file", param=path.name)
        text = file.read(length)
    try:
        entries = {
            name: _Entry(entry["dtype"], tuple(entry["shape"]), *(8 + length + int(at) for at in entry["data_offsets"]))
            for name, entry in json.loads(text).items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path} has a header that is not safetensors'", param=path.name) from error
    end = 8 + length
    for entry in sorted(entries.values(), key=lambda entry: entry.start):
        if not all(isinstance(count, int) and count >= 0 for count in entry.shape):
            raise InvalidInput(f"{path} has a header that is not safetensors'", param=path.name)
        if entry.start != end or entry.end < entry.start:
            raise InvalidInput(f"{path}: its tensors overlap or leave gaps", param=path.name)
        end = entry.end
    if end != size:
        raise InvalidInput(f"{path} has {size} bytes, and its header says {end}", param=path.name)
    return entries


def _array(path: Path, name: str, entry: _Entry, data: NDArray[np.uint8]) -> NDArray[Any]:
    if entry.dtype not in _NUMPY:
        raise InvalidInput(
            f"{path}: {name} is of type {entry.dtype}; known here are {', '.join(_NUMPY)}", param=path.name
        )
    try:
        array = data[entry.start : entry.end].view(_NUMPY[entry.dtype]).reshape(entry.shape)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{path}: {name} has not the bytes of its shape {entry.shape}", param=path.name) from error
    return (array.astype(np.uint32) << 16).view(np.float32) if entry.dtype == "BF16" else array
