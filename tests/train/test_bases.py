"""Where a run's weights come from: here, from a store, or from nothing."""

import json
import shutil

import pytest

from stoker.base.errors import InvalidInput, Unavailable
from stoker.nn import bundle
from stoker.nn import config as configs
from stoker.nn import tokenizer as tokenizers
from stoker.registry import stores
from stoker.spec.run import Run
from stoker.testing.stores import MemoryStore
from stoker.train.bases import base_folder, fetch
from stoker.train.formats import Chat, Preference, Prompt, Text


def _run(**more):
    return Run.model_validate({"name": "tune", "data": ("data.jsonl",), **more}, by_name=True)


def _data(folder, count=200):
    answer = {"role": "assistant", "content": "coal"}
    lines = [{"messages": [{"role": "user", "content": f"ember {number}"}, answer]} for number in range(count)]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_embedded_is_what_comes_with_stoker(tmp_path):
    assert base_folder(_run(), here=tmp_path, cache=tmp_path) == bundle.default_folder()


def test_a_folder_is_relative_to_the_run_file(tmp_path):
    shutil.copytree(bundle.default_folder(), tmp_path / "mine")
    assert base_folder(_run(base="mine"), here=tmp_path, cache=tmp_path / "cache") == tmp_path / "mine"


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"base: .*mine has no config\.json"):
        base_folder(_run(base="mine"), here=tmp_path, cache=tmp_path)
    shutil.copytree(bundle.default_folder(), tmp_path / "mine")
    (tmp_path / "mine" / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"neither model\.safetensors nor"):
        base_folder(_run(base="mine"), here=tmp_path, cache=tmp_path)


SHAPE = {"vocab_size": 400, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}


def test_scratch_learns_its_tokenizer_from_the_data_and_says_the_shape(tmp_path):
    _data(tmp_path)
    run = _run(base="scratch", method="full", scratch={**SHAPE, "images": True})
    folder = base_folder(run, here=tmp_path, cache=tmp_path / "cache")
    config, tokenizer = configs.load(folder), tokenizers.load(folder)
    assert (config.hidden_size, config.num_hidden_layers, config.bos_token_id, config.eos_token_id) == (16, 1, 0, 1)
    assert config.vocab_size == tokenizer.vocab_size < 400  # so few words give no more
    assert config.image is not None
    assert len(tokenizer.encode("ember")) < 5


def test_scratch_is_the_same_for_the_same_data_and_shape_and_made_once(tmp_path):
    _data(tmp_path)
    run = _run(base="scratch", method="full", scratch=SHAPE)
    first = base_folder(run, here=tmp_path, cache=tmp_path / "one")
    again = base_folder(run, here=tmp_path, cache=tmp_path / "two")
    assert first.name == again.name
    for name in ("config.json", "tokenizer.json"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    made_at = (first / "tokenizer.json").stat().st_mtime_ns
    assert base_folder(run, here=tmp_path, cache=tmp_path / "one") == first
    assert (first / "tokenizer.json").stat().st_mtime_ns == made_at
    other = _run(base="scratch", method="full", scratch={**SHAPE, "hidden_size": 32})
    assert base_folder(other, here=tmp_path, cache=tmp_path / "one") != first
    _data(tmp_path, 201)
    assert base_folder(run, here=tmp_path, cache=tmp_path / "one") != first


def test_what_is_said_is_what_a_vocabulary_is_learned_from():
    from stoker.train.bases import texts_of

    call = {"function": {"name": "look", "arguments": {"at": "flue"}}}
    image = {"type": "image_url", "image_url": {"url": "data:..."}}
    asks = {"role": "user", "content": [{"type": "text", "text": "see"}, image]}
    says = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert list(texts_of(Chat([asks, says]))) == ["see", "look", '{"at": "flue"}']
    assert list(texts_of(Prompt("a", "b"))) == ["a", "b"]
    assert list(texts_of(Text("c"))) == ["c"]
    good, bad = {"role": "assistant", "content": "d"}, {"role": "assistant", "content": "e"}
    assert list(texts_of(Preference([asks], [good], [bad]))) == ["see", "d", "e"]


def test_scratch_without_a_word_is_refused(tmp_path):
    (tmp_path / "data.jsonl").write_text("\n")
    with pytest.raises(InvalidInput, match="the data has no text to learn a vocabulary from"):
        base_folder(_run(base="scratch", method="full"), here=tmp_path, cache=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir() if not path.name.endswith(".lock")] == []


def _stored():
    objects = {path.name: path.read_bytes() for path in bundle.default_folder().iterdir()}
    return MemoryStore({**objects, "optimizer.bin": b"not wanted", "more/config.json": b"{}"})


def test_a_base_is_fetched_once_and_is_what_the_store_has(tmp_path):
    store = _stored()
    folder = fetch(store, tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "image_projector.safetensors",
        "fetched.json",
    }
    for name in names - {"fetched.json"}:
        assert (folder / name).read_bytes() == store.objects[name]
    gets = []
    store.before = lambda operation, key: gets.append(key) if operation == "get" else None
    assert fetch(store, tmp_path) == folder
    assert gets == []


def test_what_was_damaged_in_the_cache_is_fetched_again(tmp_path):
    store = _stored()
    folder = fetch(store, tmp_path)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-3] ^= 4
    (folder / "model.safetensors").write_bytes(data)
    assert (fetch(store, tmp_path) / "model.safetensors").read_bytes() == store.objects["model.safetensors"]


def test_another_version_in_the_store_is_another_folder(tmp_path):
    store = _stored()
    first = fetch(store, tmp_path)
    data = bytearray(store.objects["model.safetensors"])
    data[-3] ^= 4
    store.objects["model.safetensors"] = bytes(data)
    assert fetch(store, tmp_path) != first


def test_a_base_that_changes_while_it_is_fetched_is_not_used(tmp_path):
    store = _stored()

    def change(operation, key):
        if operation == "get" and key == "model.safetensors":
            store.objects[key] = store.objects[key][:-1] + b"\x01"

    store.after = change
    with pytest.raises(Unavailable, match=r"model\.safetensors changed while it was read"):
        fetch(store, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


def test_a_store_without_a_model_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"memory://test has no config\.json and tokenizer\.json"):
        fetch(MemoryStore({"config.json": b"{}"}), tmp_path)


def test_weights_that_were_cut_off_in_the_store_are_refused(tmp_path):
    store = _stored()
    store.objects["model.safetensors"] = store.objects["model.safetensors"][:-7]
    with pytest.raises(InvalidInput, match="and its header says"):
        fetch(store, tmp_path)


def test_a_place_in_s3_is_fetched_from_there(tmp_path, monkeypatch):
    store = _stored()
    monkeypatch.setattr(stores, "open_store", lambda url: {"s3://weights/small": store}[url])
    folder = base_folder(_run(base="s3://weights/small"), here=tmp_path, cache=tmp_path / "cache")
    assert folder.parent == tmp_path / "cache"
    assert bundle.load(folder).config.vocab_size == 1536
