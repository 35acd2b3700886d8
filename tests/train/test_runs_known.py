"""Where runs are remembered, and which settings may change between two launches."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.base.errors import Conflict, InvalidInput, NotFound
from stoker.registry.heads import Entry, Keep, to_bytes
from stoker.registry.manifests import Manifest, name_of
from stoker.registry.runs import NoneWhole, RunStore
from stoker.registry.shards import Piece
from stoker.registry.stores import open_store
from stoker.spec.loading import load_run, run_of
from stoker.spec.run import Run
from stoker.train import runs
from stoker.train.record import Writer

RUN = """
name: tune
data: train.jsonl
optimizer: {learningRate: 0.001}
"""


def a_run(folder: Path, more: str = "", text: str = RUN) -> tuple[Run, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "run.yaml"
    file.write_text(text + more)
    return load_run(file), file


def with_a_checkpoint(store: Any, name: str = "tune") -> None:
    """As far as it matters here: HEAD names one."""
    run_store = RunStore(store, name)
    lease = run_store.claim()
    entry = Entry("s00000010-e0001-0", 10, "0" * 64, 100, 1.0)
    store.put("HEAD", [to_bytes(replace(lease.head, entries=(entry,)))])


def test_a_run_is_remembered_with_its_store_in_the_state_directory(tmp_path: Path) -> None:
    run, file = a_run(tmp_path / "work")
    state = tmp_path / "state"
    known, store = runs.begin(run, file, state, {})

    folder = state / "runs" / "tune"
    assert known == runs.Known("tune", folder, folder / "run.yaml", folder.as_uri())
    assert store.url == folder.as_uri()
    assert json.loads((folder / "store.json").read_text()) == {"url": folder.as_uri()}
    assert runs.known(state) == [known]
    assert runs.find(state, "tune")[0] == known
    again, _ = runs.begin(run, file, state, {})
    assert again == known


def test_the_run_file_that_is_kept_can_be_used_from_where_it_is(tmp_path: Path) -> None:
    more = "validation: ../held.jsonl\nevaluation: {suites: [{name: a, data: exam.jsonl}]}\n"
    run, file = a_run(tmp_path / "work", more)
    known, _ = runs.begin(run, file, tmp_path / "state", {})
    kept = load_run(known.run_file)
    assert kept.data == (str(tmp_path / "work" / "train.jsonl"),)
    assert kept.validation == str(tmp_path / "held.jsonl")
    assert kept.evaluation.suites[0].data == str(tmp_path / "work" / "exam.jsonl")
    assert kept.base == "embedded"
    assert kept == runs.anchored(run, tmp_path / "work")


def test_checkpoints_say_where_the_store_is_and_the_environment_overrules_them(tmp_path: Path) -> None:
    run, file = a_run(tmp_path / "work", "checkpoints: ./kept\n")
    state = tmp_path / "state"
    known, store = runs.begin(run, file, state, {})
    assert known.store_url == store.url == (tmp_path / "work" / "kept").as_uri()
    assert store.read("run.yaml")[0] == known.run_file.read_bytes()

    other = tmp_path / "elsewhere"
    known, store = runs.begin(run, file, state, {"CHECKPOINT_S3": str(other)})
    assert store.url == other.as_uri()
    assert runs.find(state, "tune")[1].url == other.as_uri()
    assert runs.find(state, other.as_uri())[0] == known
    assert runs.find(state, (tmp_path / "work" / "kept").as_uri())[0] is None


def test_another_place_without_the_checkpoints_of_the_first_is_refused_and_the_first_is_remembered(
    tmp_path: Path,
) -> None:
    state, first, other = tmp_path / "state", tmp_path / "kept", tmp_path / "other"
    _, store = runs.begin(*a_run(tmp_path, "checkpoints: kept\n"), state, {})
    RunStore(store, "tune").claim()
    runs.begin(*a_run(tmp_path, "checkpoints: other\n"), state, {})  # nothing was learned there yet
    runs.begin(*a_run(tmp_path, "checkpoints: kept\n"), state, {})
    with_a_checkpoint(store)

    mistyped: tuple[tuple[str, dict[str, str], str, Path], ...] = (
        ("checkpoints: other\n", {}, "`checkpoints` now says", other),
        ("", {}, "`checkpoints` now says", state / "runs" / "tune"),
        ("checkpoints: kept\n", {"CHECKPOINT_S3": str(other)}, "CHECKPOINT_S3 of the environment now says", other),
    )
    for more, environ, said, place in mistyped:
        for ask in (runs.begin, runs.look):
            with pytest.raises(Conflict) as refused:
                ask(*a_run(tmp_path, more), state, environ)
            assert refused.value.message == (
                f"run tune has its checkpoints in {first.as_uri()}, and {said} {place.as_uri()}, where there are none"
            )
    assert runs.find(state, "tune")[1].url == first.as_uri()

    shutil.rmtree(other)
    first.rename(other)
    _, store = runs.begin(*a_run(tmp_path, "checkpoints: other\n"), state, {})
    assert store.url == other.as_uri() == runs.find(state, "tune")[1].url


def test_who_asks_for_a_run_that_is_not_there_is_told_which_are(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no run 'other' in .*; there is none yet"):
        runs.find(tmp_path, "other")
    for name in ("zeta", "alpha"):
        runs.begin(*a_run(tmp_path / name, text=f"name: {name}\ndata: a.jsonl\n"), tmp_path, {})
    with pytest.raises(NotFound, match=r"there are: alpha, zeta"):
        runs.find(tmp_path, "other")


@pytest.mark.parametrize(
    "uri", ["http://u:secretpw@host:5000", "mysql+pymysql://u:secretpw@host/db", "https://:secretpw@h/"]
)
def test_a_password_for_mlflow_is_refused_and_nothing_of_it_is_kept_or_said(tmp_path: Path, uri: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        a_run(tmp_path, f"tracking: {{mlflow: '{uri}'}}\n")
    said = f"{refused.value.message} {refused.value.hint}"
    assert "tracking.mlflow" in said
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in said
    assert "secretpw" not in said

    for plain in ("http://u@host:5000", "http://host:5000/a:b@c", "mlruns", "databricks://profile", "file:///a:b@c"):
        assert a_run(tmp_path, f"tracking: {{mlflow: '{plain}'}}\n")[0].tracking.mlflow == plain


# --- other settings ---------------------------------------------------------------------------------------------------


def test_a_run_with_a_checkpoint_cannot_go_on_with_settings_that_change_what_is_learned(tmp_path: Path) -> None:
    state = tmp_path / "state"
    _, store = runs.begin(*a_run(tmp_path), state, {})
    with_a_checkpoint(store)

    other = RUN.replace("0.001", "0.002") + "seed: 7\n"
    with pytest.raises(Conflict) as refused:
        runs.begin(*a_run(tmp_path, text=other), state, {})
    assert refused.value.message == (
        "run tune was begun with other settings: optimizer.learningRate was 0.001 and is 0.002; seed was 0 and is 7"
    )
    assert "--fresh" in str(refused.value.hint)
    assert load_run(state / "runs" / "tune" / "run.yaml").optimizer.learning_rate == 0.001


def test_on_a_machine_that_knows_nothing_of_it_it_is_refused_as_well(tmp_path: Path) -> None:
    place = {"CHECKPOINT_S3": str(tmp_path / "bucket")}
    _, store = runs.begin(*a_run(tmp_path / "one"), tmp_path / "state-1", place)
    with_a_checkpoint(store)
    with pytest.raises(Conflict, match="epochs was 1 and is 2"):
        runs.begin(*a_run(tmp_path / "two", "epochs: 2\n"), tmp_path / "state-2", place)
    assert runs.known(tmp_path / "state-2") == []


def test_as_long_as_nothing_was_learned_all_may_change(tmp_path: Path) -> None:
    state = tmp_path / "state"
    _, store = runs.begin(*a_run(tmp_path), state, {})
    RunStore(store, "tune").claim()  # it began, and failed before its first checkpoint
    known, _ = runs.begin(*a_run(tmp_path, "epochs: 3\n"), state, {})
    assert load_run(known.run_file).epochs == 3


@pytest.mark.parametrize("more", ["", "epochs: 3\n"])
def test_checkpoints_whose_head_is_gone_end_the_launch_and_stay(tmp_path: Path, more: str) -> None:
    state = tmp_path / "state"
    run, file = a_run(tmp_path)
    _, store = runs.begin(run, file, state, {})
    a_launch(store, "preempted", saved=4)
    store.delete(["HEAD", "HEAD.copy"])
    there = {stat.key: store.read(stat.key)[0] for stat in store.list()}

    for ask in (runs.begin, runs.look):
        with pytest.raises(NoneWhole, match="HEAD and its copy are gone, and 1 checkpoint of the run tune is there"):
            ask(*a_run(tmp_path, more), state, {})
    assert {stat.key: store.read(stat.key)[0] for stat in store.list()} == there


def test_what_it_runs_on_and_what_it_may_cost_may_always_change(tmp_path: Path) -> None:
    state = tmp_path / "state"
    _, store = runs.begin(*a_run(tmp_path), state, {})
    with_a_checkpoint(store)
    more = """
nodes: 2
processes: 4
threads: 2
parallel: replicate
relaunches: 9
registerAs: other
publish: s3://models/here
validateEvery: 5
checkpointing: {everySteps: 3, mode: sync}
spot: {watch: off}
tracking: {cloudwatch: true}
budget: {usd: 3}
prices: {capacity: spot}
evaluation: {leastScore: 0.5}
"""
    moved = RUN.replace("data: train.jsonl", "data: moved/train.jsonl\ndataset: {workers: 2}")
    runs.begin(*a_run(tmp_path / "moved", more, moved), state, {})


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ("method: full", "method"),
        ("dropout: 0.1", "dropout"),
        ("batch: {rows: 16}", "batch.rows"),
        ("dataset: {packing: false}", "dataset.packing"),
        ("dataset: {badLines: skip}", "dataset.badLines"),
        ("lora: {targets: [q_proj]}", "lora.targets"),
        ("precision: float32", "precision"),
        ("dataset: {transform: 'a.py:shout'}", "dataset.transform"),
    ],
)
def test_all_else_changes_what_is_learned(more: str, path: str) -> None:
    one, other = run_of(RUN), run_of(RUN + more)
    changed = {key for key, value in runs.learned(other).items() if runs.learned(one)[key] != value}
    assert changed == {path}


def test_a_checkpoint_says_what_was_learned_and_the_run_file_in_the_store_follows_it(tmp_path: Path) -> None:
    """One launch began with 0.001, another wrote its own run file over it and died, and the first one saved."""
    state, slow, quick = tmp_path / "state", a_run(tmp_path / "a"), a_run(tmp_path / "b", text=RUN.replace("1", "2"))
    _, store = runs.begin(*slow, state, {})
    runs.begin(*quick, state, {})
    a_launch(store, "completed", saved=10, settings=runs.learned(slow[0]))
    with pytest.raises(InvalidInput, match=r"other settings: optimizer\.learningRate was 0\.001 and is 0\.002"):
        runs.is_over(store, quick[0])

    known, _ = runs.begin(*slow, state, {})
    assert load_run(known.run_file).optimizer.learning_rate == 0.001
    assert runs.is_over(store, slow[0])
    for _ in range(2):  # with its run file, and without
        with pytest.raises(
            Conflict, match=r"begun with other settings: optimizer\.learningRate was 0\.001 and is 0\.002"
        ):
            runs.begin(*quick, state, {})
        known.run_file.unlink(missing_ok=True)
    runs.begin(*slow, state, {})
    assert load_run(known.run_file).optimizer.learning_rate == 0.001


def test_each_setting_that_may_change_is_one(tmp_path: Path) -> None:
    """A name that was changed in the run file would leave its setting without its rule."""
    paths = {path for path, _ in runs._flat(runs.plain(run_of(RUN)))}
    strays = {
        name for name in runs.MAY_CHANGE if not any(path == name or path.startswith(f"{name}.") for path in paths)
    }
    assert strays == set()


def test_two_runs_cannot_share_a_store(tmp_path: Path) -> None:
    place = {"CHECKPOINT_S3": str(tmp_path / "bucket")}
    runs.begin(*a_run(tmp_path / "one"), tmp_path / "state", place)
    with pytest.raises(Conflict, match=r"has the checkpoints of run tune, and this is run other"):
        runs.begin(*a_run(tmp_path / "two", text="name: other\ndata: a.jsonl\n"), tmp_path / "state", place)


# --- fresh ------------------------------------------------------------------------------------------------------------


def test_a_fresh_begin_puts_aside_what_there_is_and_deletes_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for number in (1, 2):
        _, store = runs.begin(*a_run(tmp_path), state, {})
        store.put("checkpoints/one", [b"%d" % number])
        runs.forget(state, "tune")
        assert runs.known(state) == []
    runs.forget(state, "tune")  # there is nothing
    assert [(state / "runs" / f"tune.old-{n}" / "checkpoints" / "one").read_bytes() for n in (1, 2)] == [b"1", b"2"]
    runs.begin(*a_run(tmp_path, "seed: 5\n"), state, {})
    assert [each.name for each in runs.known(state)] == ["tune"]


def test_a_folder_elsewhere_is_put_aside_too_and_what_is_in_s3_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    _, store = runs.begin(*a_run(tmp_path, "checkpoints: kept\n"), state, {})
    store.put("HEAD", [b"x"])
    runs.forget(state, "tune")
    assert (tmp_path / "kept.old-1" / "HEAD").read_bytes() == b"x"
    assert not (tmp_path / "kept").exists()

    (state / "runs" / "far").mkdir(parents=True)
    (state / "runs" / "far" / "store.json").write_text('{"url": "s3://bucket/far"}')
    with pytest.raises(InvalidInput, match="run far keeps its checkpoints in s3://bucket/far"):
        runs.forget(state, "far")
    assert open_store("s3://bucket/far").url == "s3://bucket/far"


# --- over -------------------------------------------------------------------------------------------------------------


def a_launch(
    store: Any, state: str | None, *, steps: int = 10, saved: int = 10, settings: dict[str, Any] | None = None
) -> str:
    """One launch, with a checkpoint after `saved` steps; returns the key of its shard."""
    run_store = RunStore(store, "tune")
    lease = run_store.claim()
    name = name_of(saved, lease.epoch, 0)
    piece = Piece("weight", "F32", (4,), (4,), (0,), bytes(16))
    shard = run_store.write(name, "shard-00000.safetensors", [piece], timeout_s=10.0)
    run_store.commit(
        lease, Manifest("tune", name, saved, lease.epoch, 1.0, (shard,), {"settings": settings}), Keep(last=5)
    )
    writer = Writer(store, lease.epoch)
    writer.add("launch", 1.0, epoch=lease.epoch, run="tune", steps=steps)
    if state is not None:
        writer.add("end", 2.0, state=state, why="")
    writer.close()
    return f"{run_store.prefix(name)}shard-00000.safetensors"


def test_a_run_is_over_when_its_last_launch_completed_it_and_what_it_left_is_whole(tmp_path: Path) -> None:
    run, file = a_run(tmp_path)
    _, store = runs.begin(run, file, tmp_path / "state", {})
    assert not runs.is_over(store, run)
    a_launch(store, "preempted", saved=4)
    assert not runs.is_over(store, run)
    shard = a_launch(store, "completed")
    assert runs.is_over(store, run)

    place = tmp_path / "state" / "runs" / "tune" / shard
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    assert not runs.is_over(store, run)


@pytest.mark.parametrize(("state", "saved"), [(None, 10), ("failed", 10), ("completed", 9)])
def test_what_did_not_complete_it_or_saved_less_leaves_something_to_do(
    tmp_path: Path, state: str | None, saved: int
) -> None:
    run, file = a_run(tmp_path)
    _, store = runs.begin(run, file, tmp_path / "state", {})
    a_launch(store, state, saved=saved)
    assert not runs.is_over(store, run)
