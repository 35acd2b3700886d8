"""Published weights: bound to their digest, promoted by compare-and-swap, verified when they are fetched."""

import hashlib
import json
from pathlib import Path

import pytest

from stoker.base.errors import Conflict, InvalidInput, NotFound
from stoker.registry import cards, weights
from stoker.registry.models import Models, digest_of
from stoker.registry.stores import Changed, Store
from stoker.testing.plain_store import PlainStore


def a_folder(path: Path, tensors: bytes = b"one") -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_bytes(b"{}")
    (path / "model.safetensors").write_bytes(tensors)
    (path / "empty.txt").write_bytes(b"")
    return path


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(PlainStore(tmp_path / "registry"))


def the_store(models: Models) -> PlainStore:
    assert isinstance(models.store, PlainStore)
    return models.store


def test_a_digest_is_over_names_and_contents_alone(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "a")
    digest, files = digest_of(folder)
    assert files["model.safetensors"] == hashlib.sha256(b"one").hexdigest()
    lines = "".join(f"{name}\0{files[name]}\n" for name in ("config.json", "empty.txt", "model.safetensors"))
    assert digest == hashlib.sha256(lines.encode()).hexdigest()
    (folder / "card.json").write_text("{}")
    (folder / ".cache").mkdir()
    assert digest_of(folder)[0] == digest
    (folder / "empty.txt").rename(folder / "void.txt")
    assert digest_of(folder)[0] != digest


def test_what_is_no_folder_of_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no folder of weights: No such file"):
        digest_of(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"at least one \.safetensors"):
        digest_of(tmp_path)
    (tmp_path / "inner").mkdir()
    with pytest.raises(InvalidInput, match="has inner in it"):
        digest_of(tmp_path)


def test_the_card_is_written_last_and_the_same_files_once(models: Models, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "a")
    version = models.publish("m", folder, {"run": "finetune"}, now=5.0)
    place = f"m/versions/{version.digest}/"
    names = ["config.json", "empty.txt", "model.safetensors", "card.json"]
    assert the_store(models).puts == [place + name for name in names]
    assert version.card == {"run": "finetune"}
    assert models.publish("m", folder, {"run": "other"}, now=6.0) == version
    assert len(the_store(models).puts) == len(names)
    assert models.versions("m") == [version]


def test_a_verdict_that_came_later_is_on_the_card(store: Store, tmp_path: Path) -> None:
    models, folder = Models(store), a_folder(tmp_path / "a")
    first = models.publish("m", folder, {"run": "r", "evaluation": None}, now=1.0)
    for score in (0.8, 0.9):
        later = models.publish("m", folder, {"run": "other", "evaluation": {"score": score}}, now=2.0)
        assert later.card == {"run": "r", "evaluation": {"score": score}}
        assert (later.digest, later.created_at) == (first.digest, 1.0)
        assert models.versions("m") == [later]
    assert models.publish("m", folder, {"evaluation": None}, now=3.0) == later


def test_a_publication_that_died_is_no_version_and_goes_on(models: Models, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "a")
    digest = models.publish("m", folder, {}, now=1.0).digest
    the_store(models).delete([f"m/versions/{digest}/card.json", f"m/versions/{digest}/model.safetensors"])
    assert models.versions("m") == []
    the_store(models).puts.clear()
    assert models.publish("m", folder, {}, now=2.0).created_at == 2.0
    assert [key.rsplit("/")[-1] for key in the_store(models).puts] == ["model.safetensors", "card.json"]


def test_a_damaged_file_of_a_publication_that_died_is_told_and_written_anew(models: Models, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "a")
    digest, _ = digest_of(folder)
    key, told = f"m/versions/{digest}/config.json", list[str]()
    the_store(models).put(key, [b"half"])
    models.publish("m", folder, {}, now=1.0, tell=told.append)
    assert the_store(models).get(key) == b"{}"
    assert told == [f"{key} in {models.store.url} was damaged, and is written anew"]


def test_what_was_damaged_of_a_version_is_told_and_written_anew(store: Store, tmp_path: Path) -> None:
    models, folder, told = Models(store), a_folder(tmp_path / "a"), list[str]()
    version = models.publish("m", folder, {"run": "r"}, now=1.0)
    place = models.place(version)
    models.verify(version)
    store.put(place + "model.safetensors", [b"onf"])
    with pytest.raises(Conflict, match=r"model\.safetensors in .* is not what was published"):
        models.verify(version)
    store.delete([place + "config.json"])
    with pytest.raises(Conflict, match=r"lacks its config\.json"):
        models.verify(version)
    assert models.publish("m", folder, {"run": "r"}, now=2.0, tell=told.append) == version
    models.verify(version)
    store.put(place + "card.json", [b"{"])
    again = models.publish("m", folder, {"run": "r"}, now=2.0, tell=told.append)
    assert (again.files, again.created_at) == (version.files, 2.0)
    assert models.publish("m", folder, {"run": "r"}, now=3.0, tell=told.append) == again
    assert told == [
        f"{place}{name} in {store.url} was {how}, and is written anew"
        for name, how in (("config.json", "missing"), ("model.safetensors", "damaged"), ("card.json", "damaged"))
    ]


def test_a_card_that_names_other_files_is_not_the_versions(models: Models, tmp_path: Path) -> None:
    version = models.publish("m", a_folder(tmp_path / "a"), {}, now=1.0)
    key = models.place(version) + "card.json"
    the_store(models).put(key, [the_store(models).get(key).replace(b"config.json", b"confog.json")])
    with pytest.raises(Conflict, match="is the card of another version"):
        models.versions("m")


def test_an_error_of_a_store_is_not_masked_by_the_file_that_it_was_to_write(store: Store, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "a")
    for name in ("config.json", "model.safetensors"):
        store.put(name, [b"there"])
        with pytest.raises(Changed, match=f"{name} exists already"), weights.mapped(folder / name) as parts:
            store.put(name, parts, if_absent=True)


def test_a_publication_that_died_goes_on_in_a_real_store(store: Store, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "a")
    place = f"m/versions/{digest_of(folder)[0]}/"
    store.put(place + "config.json", [b"{}"])
    version = Models(store).publish("m", folder, {}, now=1.0)
    Models(store).fetch(version, tmp_path / "b")
    assert digest_of(tmp_path / "b") == digest_of(folder)


def test_promoting_goes_forward_and_back(models: Models, tmp_path: Path) -> None:
    one, two, three = (
        models.publish("m", a_folder(tmp_path / str(number), b"%d" % number), {}, now=number) for number in (1, 2, 3)
    )
    assert models.current("m") is None
    models.promote(one)
    models.promote(one)
    models.promote(two, expect=one.digest)
    with pytest.raises(Changed, match=f"serves {two.digest[:12]} now, and not {one.digest[:12]}"):
        models.promote(three, expect=one.digest)
    assert models.current("m") == two
    models.promote(three)
    assert models.versions("m") == [one, two, three]
    assert [models.back("m"), models.back("m")] == [two, one]
    assert models.current("m") == one
    with pytest.raises(Conflict, match="no version before"):
        models.back("m")
    models.promote(three)
    assert models.before("m") == one
    with pytest.raises(Changed, match=f"before .* is {one.digest[:12]}, and not {two.digest[:12]}"):
        models.back("m", expect=two.digest)
    assert models.current("m") == three
    assert models.back("m", expect=one.digest) == one


def test_two_who_promote_at_once_do_not_lose_each_other(models: Models, tmp_path: Path) -> None:
    """The second compare-and-swap finds what the first has written, and keeps it as the one before."""
    one, two = (models.publish("m", a_folder(tmp_path / str(n), b"%d" % n), {}, now=n) for n in (1, 2))
    store, put = the_store(models), the_store(models).put

    def late(key: str, pieces: list[bytes], **conditions: object) -> str:
        store.put = put  # type: ignore[method-assign]
        Models(store).promote(one)
        return put(key, pieces, **conditions)  # type: ignore[arg-type]

    store.put = late  # type: ignore[method-assign, assignment]
    models.promote(two)
    assert cards.current_from_bytes(store.get("m/CURRENT")) == cards.Current(two.digest, (one.digest,))


def test_what_is_not_published_is_not_promoted(models: Models, tmp_path: Path) -> None:
    version = models.publish("m", a_folder(tmp_path / "a"), {}, now=1.0)
    the_store(models).delete([f"m/versions/{version.digest}/card.json"])
    with pytest.raises(NotFound, match="has no version"):
        models.promote(version)


def test_fetched_is_what_was_published_or_nothing(models: Models, tmp_path: Path) -> None:
    source = a_folder(tmp_path / "a")
    version = models.publish("m", source, {"run": "r"}, now=1.0)
    target = tmp_path / "deep" / "b"
    models.fetch(version, target)
    assert digest_of(target) == digest_of(source)
    models.fetch(version, target)
    path = the_store(models).folder / models.place(version) / "model.safetensors"
    path.write_bytes(b"onf")
    with pytest.raises(Conflict, match="is not what was published"):
        models.fetch(version, tmp_path / "c")
    path.unlink()
    with pytest.raises(Conflict, match=r"lacks its model\.safetensors"):
        models.fetch(version, tmp_path / "c")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "deep", "registry"]
    (target / "model.safetensors").write_bytes(b"two")
    with pytest.raises(Conflict, match=r"not those that were asked for.*\(model\.safetensors changed\)"):
        models.fetch(version, target)


def test_a_version_is_found_by_the_beginning_of_its_digest(models: Models, tmp_path: Path) -> None:
    one, two = (models.publish("m", a_folder(tmp_path / str(n), b"%d" % n), {}, now=n) for n in (1, 2))
    assert models.version("m", two.digest[:12]) == two
    for wanted in ("0123456789ab", ""):
        with pytest.raises(NotFound, match=f"there are: {one.digest[:12]}, {two.digest[:12]}"):
            models.version("m", wanted)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 50_000,
        b'{"digest": "xyz"}',
        b'{"digest": "%s", "before": "x"}' % (b"a" * 64),
        b'{"digest": "%s", "before": [1]}' % (b"a" * 64),
    ],
)
def test_a_damaged_current_is_said(models: Models, data: bytes) -> None:
    the_store(models).put("m/CURRENT", [data])
    with pytest.raises(Conflict, match=r"m/CURRENT in .* is damaged"):
        models.current("m")


@pytest.mark.parametrize("name", ["../config.json", "/etc/passwd", "a/b", ".hidden", "", "a\n", "x" * 300])
def test_a_card_whose_files_would_leave_their_folder_is_none(models: Models, tmp_path: Path, name: str) -> None:
    version = models.publish("m", a_folder(tmp_path / "a"), {}, now=1.0)
    key = models.place(version) + "card.json"
    document = json.loads(the_store(models).get(key))
    document["files"] = {name: "a" * 64}
    the_store(models).put(key, [json.dumps(document).encode()])
    with pytest.raises(Conflict, match=r"card\.json in .* is damaged: it names a file"):
        models.versions("m")


def test_a_name_that_is_no_models_is_refused(models: Models) -> None:
    for name in ("", "..", "a/b", "a\0"):
        with pytest.raises(InvalidInput, match="cannot be a model's name"):
            models.current(name)


def test_a_file_is_read_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SLICE_BYTES", 4)
    (tmp_path / "f").write_bytes(b"0123456789")
    with weights.mapped(tmp_path / "f") as parts:
        assert [bytes(part) for part in parts] == [b"0123", b"4567", b"89"]
