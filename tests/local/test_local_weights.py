"""What platform.yaml says of a model's weights, as the folder and digest that its engines are started with."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from stoker.base.errors import Conflict, InvalidInput
from stoker.local import plan
from stoker.local.state import StateDirectory
from stoker.local.weights import Weights, resolve
from stoker.nn.bundle import default_folder
from stoker.registry.models import Models, digest_of
from stoker.spec import loads
from stoker.testing.plain_store import PlainStore


@pytest.fixture(autouse=True)
def _stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.registry.stores.open_store", lambda url: PlainStore(Path(url)))


def found(tmp_path: Path, weights: str) -> Mapping[str, Weights]:
    platform = loads(f"llm: {{models: {{tuned: {{weights: '{weights}'}}, general: {{}}}}}}")
    return resolve(platform, state=tmp_path / "state", here=tmp_path)


def a_folder(path: Path, tensors: bytes) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_bytes(b"{}")
    (path / "model.safetensors").write_bytes(tensors)
    return path


def test_models_names_what_was_registered_or_one_version_of_it(tmp_path: Path) -> None:
    models = Models(PlainStore(tmp_path / "state" / "models"))
    one, two = (models.publish("m", a_folder(tmp_path / f"f{n}", b"%d" % n), {}, now=n) for n in (1, 2))
    models.promote(one)
    models.promote(two)
    place = tmp_path / "state" / "models" / "m" / "versions"
    assert found(tmp_path, "models:m") == {"tuned": Weights(place / two.digest, two.digest)}
    assert found(tmp_path, f"models:m@{one.digest[:12]}") == {"tuned": Weights(place / one.digest, one.digest)}
    shutil.move(tmp_path / "state" / "models", tmp_path / "elsewhere")
    assert found(tmp_path, "elsewhere/m")["tuned"].folder == tmp_path / "elsewhere" / "m" / "versions" / two.digest
    with pytest.raises(InvalidInput, match="no version of m has been registered in") as refusal:
        found(tmp_path, "models:m")
    assert refusal.value.param == "llm.models.tuned.weights"


def test_what_is_not_in_a_folder_here_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PlainStore(tmp_path / "far")
    store.url = "s3://bucket/models"
    models = Models(store)
    models.promote(models.publish("m", a_folder(tmp_path / "a", b"1"), {}, now=1.0))
    monkeypatch.setattr("stoker.registry.stores.open_store", lambda url: store if url == store.url else None)
    weights = found(tmp_path, "s3://bucket/models/m")["tuned"]
    assert weights.folder == tmp_path / "state" / "weights" / weights.digest
    assert digest_of(weights.folder)[0] == weights.digest
    (store.folder / models.place(models.versions("m")[0]) / "model.safetensors").unlink()
    assert found(tmp_path, "s3://bucket/models/m")["tuned"] == weights


def test_a_folder_is_taken_as_it_is_and_its_digest_may_be_said(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "mine", b"1")
    digest = digest_of(folder)[0]
    for said in ("mine", str(folder), f"mine@{digest}", f"mine@{digest[:12]}"):
        assert found(tmp_path, said) == {"tuned": Weights(folder, digest)}
    with pytest.raises(Conflict, match=r"their digest is .* and not 000000000000"):
        found(tmp_path, f"mine@{'0' * 64}")


def test_files_that_were_changed_after_their_registration_are_refused(tmp_path: Path) -> None:
    models = Models(PlainStore(tmp_path / "state" / "models"))
    version = models.publish("m", a_folder(tmp_path / "a", b"1"), {}, now=1.0)
    models.promote(version)
    (tmp_path / "state" / "models" / models.place(version) / "model.safetensors").write_bytes(b"2")
    with pytest.raises(Conflict, match=r"are not those that were asked for.*\(model\.safetensors changed\)"):
        found(tmp_path, "models:m")


def test_engines_are_started_with_folder_and_digest(tmp_path: Path) -> None:
    weights = Weights(default_folder(), digest_of(default_folder())[0])
    place = plan.Place(StateDirectory(tmp_path), "127.0.0.1", 1, None, "sqlite://", "key", {"general": weights})
    launches = plan.processes(loads("llm: {models: {general: {}, code: {}}}"), place, free_port=lambda: 7)
    engines = {launch.child.name: launch for launch in launches if launch.child.name.startswith("engine")}
    argv = engines["engine-general-1"].command({"engine-general-1": "http://127.0.0.1:7"}).argv
    place_in = argv.index("--weights")
    assert argv[place_in : place_in + 4] == ["--weights", str(weights.folder), "--digest", weights.digest]
    assert engines["engine-general-1"].child.weights == weights.digest
    assert "--weights" not in engines["engine-code-1"].command({"engine-code-1": "http://127.0.0.1:7"}).argv


def test_weights_are_for_the_embedded_engine(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"models\.a\.weights: models:a is for the embedded engine"):
        loads("llm: {models: {a: {weights: 'models:a', engine: {url: 'http://127.0.0.1:1/v1'}}}}")
