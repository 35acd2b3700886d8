"""Folders of safetensors, also damaged and hostile ones. No torch."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from stoker.base.errors import InvalidInput
from stoker.nn import bundle, weights_files


def _file(path, header, data=b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_tensors_come_back_from_one_file(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(2.5, dtype=np.float16)}
    save_file(arrays, tmp_path / "model.safetensors")
    got = weights_files.read(tmp_path)
    assert got["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (got["b"].item(), got["b"].dtype, got["b"].shape) == (2.5, np.float16, ())


def test_bfloat16_is_read_as_float32(tmp_path):
    header = {"x": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}
    # The upper halves of 1.0, -2.5 and 3.140625 as float32.
    _file(tmp_path / "model.safetensors", header, struct.pack("<3H", 0x3F80, 0xC020, 0x4049))
    got = weights_files.read(tmp_path)["x"]
    assert (got.tolist(), got.dtype) == ([1.0, -2.5, 3.140625], np.float32)


def test_shards_are_found_by_their_index(tmp_path):
    save_file({"a": np.zeros(2)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": np.ones(2)}, tmp_path / "model-00002-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert {name: path.name for name, path in weights_files.locate(tmp_path).items()} == index["weight_map"]
    assert weights_files.read(tmp_path)["b"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "../outside.safetensors"}}, "is no safetensors file beside it"),
        ({"weight_map": {"a": "/etc/passwd"}}, "is no safetensors file beside it"),
        ({"weight_map": {"a": "code.py"}}, "is no safetensors file beside it"),
        ({"weight_map": {"a": "gone.safetensors"}}, "names gone.safetensors, which is not there"),
        ({"weight_map": {"z": "one.safetensors"}}, "says that z is in one.safetensors, and it is not"),
        ({"weight_map": ["a"]}, "has no weight_map"),
        ([], "has no weight_map"),
    ],
)
def test_an_index_that_lies_is_refused(index, message, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": np.zeros(2)}, tmp_path / "outside.safetensors")
    save_file({"a": np.zeros(2)}, folder / "one.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidInput, match=message):
        weights_files.read(folder)


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234", "and its header says"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678", "overlap or leave gaps"),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"12345678", "not the bytes of its shape"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}}, b"12345678", "a header that is not"),
        ({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"1", "is of type F8_E4M3; known here"),
        ({"a": {"shape": [1]}}, b"", "a header that is not safetensors'"),
        ([1, 2], b"", "a header that is not safetensors'"),
    ],
)
def test_a_file_whose_header_does_not_fit_it_is_refused(header, data, message, tmp_path):
    with pytest.raises(InvalidInput, match=message):
        weights_files.read_file(_file(tmp_path / "x.safetensors", header, data))


@settings(max_examples=40)
@given(st.integers(0, 400))
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path_factory, length):
    path = tmp_path_factory.mktemp("cut") / "x.safetensors"
    save_file({"a": np.zeros((4, 8), dtype=np.float32), "b": np.ones(3, dtype=np.float16)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: min(length, len(whole) - 1)])
    with pytest.raises(InvalidInput):
        weights_files.read_file(path)


def test_a_folder_without_weights_says_what_is_missing(tmp_path):
    with pytest.raises(InvalidInput, match=r"neither model\.safetensors nor model\.safetensors\.index\.json"):
        weights_files.read(tmp_path)


def test_the_engine_serves_weights_in_shards_and_bfloat16(tmp_path):
    """What `stoker train` exports by default."""
    source = bundle.default_folder()
    for name in ("config.json", "tokenizer.json", "image_projector.safetensors"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    header, data, at = {}, [], 0
    for name, array in weights_files.read(source).items():
        upper = (array.astype("<f4").view("<u4") >> 16).astype("<u2")
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": [at, at + upper.nbytes]}
        data.append(upper.tobytes())
        at += upper.nbytes
    _file(tmp_path / "all.safetensors", header, b"".join(data))
    index = {"weight_map": dict.fromkeys(header, "all.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    served, original = bundle.load(tmp_path).decoder, bundle.load().decoder
    np.testing.assert_allclose(served.embeddings, original.embeddings, rtol=2**-7, atol=0)
