"""Which store a URL names, and which it does not."""

from pathlib import Path

import pytest

from stoker.base.errors import InvalidInput
from stoker.registry.folders import FolderStore
from stoker.registry.s3 import S3Store
from stoker.registry.stores import open_store


def test_a_path_and_its_url_are_one_folder(tmp_path: Path) -> None:
    by_path, by_url = open_store(str(tmp_path / "a b")), open_store((tmp_path / "a b").as_uri())
    assert isinstance(by_path, FolderStore)
    assert by_path.url == by_url.url == (tmp_path / "a b").as_uri()
    assert not (tmp_path / "a b").exists(), "until it is written to"
    by_path.put("k", [b"1"])
    assert by_url.get("k") == b"1"


def test_a_path_is_of_the_folder_in_which_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("runs").url == (tmp_path / "runs").as_uri()


@pytest.mark.parametrize(
    ("url", "due"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket/what?is#this", "s3://bucket/what?is#this"),
    ],
)
def test_a_bucket_with_or_without_prefix(url: str, due: str) -> None:
    store = open_store(url)
    assert isinstance(store, S3Store)
    assert store.url == due


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "is no store"),
        ("a\0b", "is no store"),
        ("s3://", "no name of an S3 bucket"),
        ("s3://Bucket/a", "no name of an S3 bucket"),
        ("s3:///a", "no name of an S3 bucket"),
        ("s3://bucket/a//b", "empty part"),
        ("s3://bucket/../b", "never leave"),
        ("file://host/a", "is not a folder of this machine"),
        ("file:", None),
        ("file://a", "is not a folder of this machine"),
        ("https://bucket.s3.amazonaws.com/a", "is no store: it would be s3://bucket/prefix, file:///path or a path"),
        ("gs://bucket/a", "is no store"),
    ],
)
def test_what_is_none(url: str, words: str | None) -> None:
    if words is None:  # without slashes it is a path
        assert isinstance(open_store(url), FolderStore)
        return
    with pytest.raises(InvalidInput, match=words):
        open_store(url)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="is a file; a store is a folder"):
        open_store(str(tmp_path / "file"))
