"""Weights by their name on the hub. No test asks it: a cache is made by hand, as the hub's own library lays it out."""

import shutil
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import filter_repo_objects

from stoker.base.errors import InvalidInput, Unavailable
from stoker.nn import bundle
from stoker.spec.run import Run
from stoker.train.bases import base_folder, digest_of
from stoker.train.hub import name_and_revision
from stoker.train.runs import anchored

REVISION = "0123456789abcdef0123456789abcdef01234567"


def run_of(base: str) -> Run:
    return Run.model_validate({"name": "tune", "data": ("data.jsonl",), "base": base}, by_name=True)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, and nobody may ask the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(cache: Path, name: str) -> Path:
    """The embedded weights under that name: a snapshot is links to blobs."""
    model = cache / f"models--{name.replace('/', '--')}"
    snapshot = model / "snapshots" / REVISION
    shutil.copytree(bundle.default_folder(), model / "blobs")
    snapshot.mkdir(parents=True)
    for blob in (model / "blobs").iterdir():
        (snapshot / blob.name).symlink_to(Path("../../blobs") / blob.name)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(REVISION)
    return snapshot


@pytest.mark.parametrize("base", ["acme/coal-1.5", f"acme/coal-1.5@{REVISION}", "acme/coal-1.5@main"])
def test_a_name_is_a_folder_of_the_hubs_cache(cache: Path, tmp_path: Path, base: str) -> None:
    snapshot = cached(cache, "acme/coal-1.5")
    folder = base_folder(run_of(base), here=tmp_path, cache=tmp_path / "cache")
    assert folder == snapshot
    assert digest_of(folder) == digest_of(bundle.default_folder())


def test_a_folder_of_that_name_goes_before(cache: Path, tmp_path: Path) -> None:
    cached(cache, "acme/coal")
    shutil.copytree(bundle.default_folder(), tmp_path / "acme" / "coal")
    found = base_folder(run_of("acme/coal"), here=tmp_path, cache=tmp_path / "cache")
    assert found == tmp_path / "acme" / "coal"


def test_the_run_that_is_remembered_has_the_name_or_where_the_folder_is(tmp_path: Path) -> None:
    """Elsewhere the name means the same; a relative path would not."""
    assert anchored(run_of("acme/coal@v2"), tmp_path).base == "acme/coal@v2"
    (tmp_path / "acme" / "coal").mkdir(parents=True)
    assert anchored(run_of("acme/coal"), tmp_path).base == str(tmp_path / "acme" / "coal")
    assert anchored(run_of("../acme/coal"), tmp_path / "runs").base == str(tmp_path / "acme" / "coal")


def test_an_adapter_says_the_revision_apart() -> None:
    assert name_and_revision("acme/coal@v2") == ("acme/coal", "v2")
    assert name_and_revision("acme/coal") == ("acme/coal", None)
    assert name_and_revision("s3://acme/coal@v2") == ("s3://acme/coal@v2", None)


def test_code_and_pickles_are_never_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there_are = [
        *("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"),
        *("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"),
    ]
    others = ["pytorch_model.bin", "model.bin", "consolidated.00.pt", "modeling_x.py", "model.py", "optimizer.pth"]
    asked: list[str] = []

    def fetched(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert (repo_id, revision) == ("acme/coal", None)
        asked.extend(filter_repo_objects([*there_are, *others], allow_patterns=allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    with pytest.raises(InvalidInput, match=r"has no config\.json"):
        base_folder(run_of("acme/coal"), here=tmp_path, cache=tmp_path)
    assert asked == there_are


def test_what_the_cache_has_not_while_nobody_may_ask(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="HF_HUB_OFFLINE forbids to ask") as caught:
        base_folder(run_of("acme/coal"), here=tmp_path, cache=tmp_path)
    assert "a folder, its copy in S3" in str(caught.value.hint)
    assert "hf download acme/coal" in str(caught.value.hint)


def test_a_hub_that_cannot_be_reached_may_be_later(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", away)
    with pytest.raises(Unavailable, match="could not be fetched from the hub: ConnectionError"):
        base_folder(run_of("acme/coal"), here=tmp_path, cache=tmp_path)


def test_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InvalidInput, match="without huggingface_hub") as caught:
        base_folder(run_of("acme/coal"), here=tmp_path, cache=tmp_path)
    assert "s3://" in str(caught.value.hint)


@pytest.mark.parametrize("base", ["coal", "./acme/coal", "../acme/coal", "/acme/coal", "acme/coal/small", "acme/.coal"])
def test_a_path_is_no_name(cache: Path, tmp_path: Path, base: str) -> None:
    with pytest.raises(InvalidInput, match=r"has no config\.json"):
        base_folder(run_of(base), here=tmp_path, cache=tmp_path)
