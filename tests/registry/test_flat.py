"""Files side by side, of one version at a time, where replicas load them: in a folder and in a bucket."""

from pathlib import Path

import pytest

from stoker.base.errors import Conflict
from stoker.registry import flat
from stoker.registry.stores import Store
from stoker.registry.weights import digest_of

FILES = ["config.json", "model.safetensors"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_bytes(b"{}")
    (folder / "model.safetensors").write_bytes(b"one")
    return folder


def keys(store: Store) -> list[str]:
    return [stat.key for stat in store.list()]


def test_what_was_there_goes_and_a_note_says_what_is_there(store: Store, weights: Path) -> None:
    for key, data in {".stoker-weights": b"org/x complete", "old-1.safetensors": b"x", "config.json": b"old"}.items():
        store.put(key, [data])
    assert flat.laid_out(store) is None
    assert flat.lay_out(weights, store)
    assert keys(store) == [".stoker-registered", *FILES]
    assert [store.get(key) for key in FILES] == [b"{}", b"one"]
    assert flat.laid_out(store) == digest_of(weights)[0]
    assert not flat.lay_out(weights, store)


def test_the_hubs_weights_on_their_way_are_let_through(store: Store, weights: Path) -> None:
    store.put(".stoker-weights", [b"org/x begun 5a5a"])
    store.put("config.json", [b"of org/x"])
    with pytest.raises(Conflict, match="weights of org/x are on their way to"):
        flat.lay_out(weights, store)
    assert keys(store) == [".stoker-weights", "config.json"]
    assert store.get("config.json") == b"of org/x"


def test_broken_off_in_the_middle_it_is_not_all_there_and_goes_on(store: Store, weights: Path) -> None:
    flat.lay_out(weights, store)
    first = digest_of(weights)[0]
    (weights / "model.safetensors").write_bytes(b"two")
    (weights / "z.txt").symlink_to(weights / "config.json")
    whole = store.put

    def breaks(key: str, *args: object, **kwargs: object) -> str:
        if key == "z.txt":
            raise Conflict("killed")
        return whole(key, *args, **kwargs)  # type: ignore[arg-type]

    store.put = breaks  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="killed"):
        flat.lay_out(weights, store)
    assert flat.laid_out(store) is None
    store.put = whole  # type: ignore[method-assign]
    assert flat.lay_out(weights, store)
    assert flat.laid_out(store) == digest_of(weights)[0] != first
