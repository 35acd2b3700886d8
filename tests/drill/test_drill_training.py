"""A drill of a training run: how two runs are judged, and one drill for real (needs torch)."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.cli.app import run
from stoker.drill.compared import Launch, Side, Storm, Strike, Told, judge, launches_of
from stoker.drill.training import Seen, planned
from stoker.drill.verdicts import Verdict
from stoker.spec.loading import run_of
from stoker.train import exits
from stoker.train.launching import Ended

DONE = Ended(exits.COMPLETED, 1, "completed")
WEIGHTS = {"a": "1", "moment1.a": "2"}


def steps(first: int, last: int, **other: str) -> dict[int, str]:
    """Step -> what is told of it; `other` has the exceptions, as `s7="0.5"`."""
    return {step: other.get(f"s{step}", f"{step}.25") for step in range(first, last + 1)}


def launch(begins: int, last: int, saved: Mapping[int, int], **other: str) -> Launch:
    return Launch(begins, steps(begins + 1, last, **other), steps(begins + 1, last), saved, (), ())


CALM = Side(12, [launch(0, 12, {4: 5, 8: 8, 12: 12})], WEIGHTS)
# A notice after step 5; then one is killed after step 10, and they go on from the checkpoint of step 8.
STORM = Side(12, [launch(0, 5, {4: 4, 5: 5}), launch(5, 10, {8: 9}), launch(8, 12, {12: 12})], WEIGHTS)
STRUCK = Storm([Strike("notice", 4), Strike("kill", 10, 1)], [Ended(exits.PREEMPTED, 1, "preempted"), DONE])


def verdict(storm: Side = STORM, calm: Side = CALM, struck: Storm = STRUCK, ended: Ended = DONE) -> Verdict:
    return judge(Told(calm, storm), ended, struck, every_steps=4)


def failed(found: Verdict) -> dict[str, str]:
    return {check.name: check.said for check in found.checks if not check.ok}


def with_launch(number: int, changed: Launch) -> Side:
    launches = [changed if at == number else each for at, each in enumerate(STORM.launches)]
    return replace(STORM, launches=launches)


# --- judging ----------------------------------------------------------------------------------------------------------


def test_all_is_well_when_the_storm_left_no_trace() -> None:
    found = verdict()
    assert failed(found) == {}
    assert {check.name: check.said for check in found.checks} == {
        "interrupted": "notice after step 4; process 1 killed after step 10; 3 launches",
        "completed": "12 steps, with and without",
        "notice": "5 steps were done, and it went on from step 5",
        "kills": "2 of at most 5 steps done again",
        "checkpoints": "4 written, all that were read were whole",
        "losses": "12 steps, each the same to the bit, those that were done twice, too",
        "samples": "12 steps, each the same to the bit, those that were done twice, too",
        "weights": f"2 tensors, moments included, the same to the bit: {found.evidence['weights']}",
    }
    assert found.evidence["steps_lost"] == [0, 2]
    assert found.evidence["resumed_from"] == [5, 8]
    assert found.evidence["weights"] == found.evidence["weights_in_the_calm"]


def test_one_loss_that_differs_in_its_last_bit_fails_it() -> None:
    found = verdict(with_launch(2, launch(8, 12, {12: 12}, s11="11.250000000000002")))
    assert failed(found) == {"losses": "1 of 12 steps differ: step 11: 11.25 and 11.250000000000002"}
    assert found.evidence["losses_different"] == 1


def test_so_does_a_step_that_was_lost_and_came_to_something_else_the_first_time() -> None:
    """Step 9 was done twice; what counts in the end is right."""
    found = verdict(with_launch(1, launch(5, 10, {8: 9}, s9="9.5")))
    assert list(failed(found)) == ["losses"]


def test_other_samples_and_other_weights_fail_it() -> None:
    other = replace(STORM.launches[0], samples=steps(1, 5, s2="x"))
    assert failed(verdict(with_launch(0, other))) == {"samples": "1 of 12 steps differ: step 2: 2.25 and x"}
    assert failed(verdict(replace(STORM, weights={**WEIGHTS, "a": "9"}))) == {"weights": "1 of 2 tensors differ: a"}
    assert failed(verdict(replace(STORM, weights=None))) == {
        "weights": "the last checkpoint is not there, or not whole"
    }


def test_a_notice_may_lose_no_step() -> None:
    found = verdict(with_launch(1, launch(4, 10, {8: 9})))
    assert failed(found) == {"notice": "5 steps were done, and it went on from step 4"}


def test_a_kill_may_lose_an_interval_and_no_more() -> None:
    far = with_launch(2, launch(5, 12, {12: 12}))
    assert failed(verdict(far))["kills"] == (
        "5 of at most 5 steps done again; it went on from step 5, though a later checkpoint was durable"
    )
    nothing_saved = with_launch(1, launch(5, 11, {}))
    late = replace(nothing_saved, launches=[*nothing_saved.launches[:2], launch(5, 12, {12: 12})])
    assert failed(verdict(late)) == {"kills": "6 of at most 5 steps done again"}


def test_a_checkpoint_that_could_not_be_used_fails_it() -> None:
    found = verdict(with_launch(2, replace(STORM.launches[2], skipped=("s8: chunk 0 is damaged",))))
    assert failed(found) == {"checkpoints": "1 could not be used or written: s8: chunk 0 is damaged"}


def test_a_run_that_was_over_before_anything_happened_proves_nothing() -> None:
    found = verdict(CALM, struck=Storm([], [DONE]))
    assert failed(found)["interrupted"] == (
        "nothing happened to it: it was over before, so it proves nothing; give the run more steps"
    )


def test_a_run_that_does_not_come_to_its_end_fails_it() -> None:
    gone = Storm(STRUCK.strikes, [STRUCK.ended[0], Ended(exits.FAILED, 4, "process 0 ended with exit code 1")])
    found = verdict(replace(STORM, launches=STORM.launches[:2]), struck=gone)
    assert failed(found)["completed"] == (
        "in the storm it came to step 10 of 12 and ended with 1: process 0 ended with exit code 1"
    )


# --- what is read -----------------------------------------------------------------------------------------------------


def line(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "at": 1.0, **fields}


def test_records_are_cut_into_launches() -> None:
    found = launches_of(
        [
            line("launch", steps=3),
            line("step", step=1, loss=0.5, samples="aa"),
            line("step", step=2, loss=0.25, samples="bb"),
            line("save", step=1),
            line("launch", steps=3),
            line("resume", step=1, skipped=[{"name": "x", "step": 2, "why": "gone"}]),
            line("step", step=2, loss=0.25, samples="bb"),
            line("save_failed", name="y", why="full"),
        ]
    )
    assert found == [
        Launch(0, {1: "0.5", 2: "0.25"}, {1: "aa", 2: "bb"}, {1: 2}, [], []),
        Launch(1, {2: "0.25"}, {2: "bb"}, {}, ["x: gone"], ["y: full"]),
    ]


def test_a_record_is_followed_as_it_grows(tmp_path: Path) -> None:
    seen = Seen(tmp_path)
    seen.look()
    assert (seen.launches, seen.step, seen.has_stepped) == (0, 0, False)
    first, second = tmp_path / "e0001.jsonl", tmp_path / "e0002.jsonl"
    first.write_text('{"kind": "launch", "steps": 9}\n{"kind": "step", "step": 1}\n{"kind": "st')
    seen.look()
    assert (seen.launches, seen.of_all, seen.step, seen.has_stepped) == (1, 9, 1, True)
    with first.open("a") as out:
        out.write('ep", "step": 2}\n')
    second.write_text('{"kind": "launch", "steps": 9}\n')
    seen.look()
    assert (seen.launches, seen.step, seen.has_stepped) == (2, 2, False)


def test_a_drill_keeps_the_run_to_itself_and_changes_nothing_that_is_learned_but_when_it_ends() -> None:
    from stoker.train import runs

    written = run_of(
        "name: a\ndata: /a.jsonl\nnodes: 2\ncheckpoints: s3://bucket/a\nbudget: {usd: 1}\nrelaunches: 0\n"
        "tracking: {cloudwatch: true, mlflow: 'http://x'}\nspot: {watch: off}\n"
    )
    drilled = planned(written, 2, 24)
    assert runs.learned(drilled) == {**runs.learned(written), "steps": 24}
    assert (drilled.checkpoints, drilled.nodes, drilled.budget.usd, drilled.relaunches) == (None, 1, None, 2)
    assert (drilled.tracking.cloudwatch, drilled.tracking.mlflow, drilled.spot.watch) == (False, None, True)
    assert drilled.checkpointing.every_steps == 5


@pytest.mark.parametrize(
    ("written", "steps", "done", "every"),
    [
        ("", 24, 24, 5),
        ("", 8, 8, 2),
        ("steps: 200\n", 24, 24, 5),
        ("steps: 12\n", 24, 12, 3),
        ("checkpointing: {everySteps: 3}\n", 24, 24, 3),
        ("checkpointing: {everySteps: 500}\n", 24, 24, 6),
        ("checkpointing: {everySeconds: 60}\n", 1000, 1000, 5),
    ],
)
def test_a_drill_does_the_beginning_of_a_run_with_some_checkpoints_in_it(
    written: str, steps: int, done: int, every: int
) -> None:
    drilled = planned(run_of(f"name: a\ndata: /a.jsonl\n{written}"), 1, steps)
    assert (drilled.steps, drilled.checkpointing.every_steps) == (done, every)
    assert drilled.checkpointing.every_seconds is None


# --- for real ---------------------------------------------------------------------------------------------------------


@pytest.mark.torch
def test_a_run_loses_its_machine_and_a_process_and_comes_to_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHECKPOINT_S3", str(tmp_path / "the-run's-own"))
    lines = [
        {"messages": [{"role": "user", "content": f"{a} and {b}"}, {"role": "assistant", "content": f"{a + b}."}]}
        for a in range(12)
        for b in range(4)
    ]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    (tmp_path / "run.yaml").write_text(
        "name: sums\ndata: sums.jsonl\nepochs: 2\ndropout: 0.1\ndataset: {maxLength: 48, packing: false}\n"
        "batch: {rows: 4, microRows: 2}\ncheckpointing: {everySteps: 4}\n"
    )
    state = tmp_path / "state"
    code = run(["drill", "spot", "--run", str(tmp_path / "run.yaml"), "--state", str(state), "--seed", "3", "--json"])
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (code, found["verdict"]) == (0, "pass"), (found, said.err)
    evidence = found["evidence"]
    assert (evidence["steps"], evidence["steps_compared"], evidence["losses_different"]) == (24, 24, 0)
    assert [strike["kind"] for strike in evidence["strikes"]] == ["notice", "kill"]
    assert (evidence["launches"], evidence["steps_lost"][0]) == (3, 0)
    assert evidence["weights"] == evidence["weights_in_the_calm"]
    assert not (tmp_path / "the-run's-own").exists()
    assert list((state / "drills").iterdir()) == []
    assert not (state / "runs").exists()
