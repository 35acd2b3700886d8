"""`stoker train` and `stoker drill spot --run`: what is asked, what is said, how it ends. The processes are fakes."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stoker.cli.app import run
from stoker.nn import bundle
from stoker.registry.runs import RunStore
from stoker.registry.stores import open_store
from stoker.train import checking, exits, gang, launching
from stoker.train.record import Writer

FAKE = Path(__file__).parents[1] / "train" / "fake_trainer.py"
CHAT = {"messages": [{"role": "user", "content": "2 and 2"}, {"role": "assistant", "content": "4."}]}


class Line:
    """A command line in a folder with a run file, whose processes do what `plan` says."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.state = folder, folder / "state"
        self.file = folder / "run.yaml"
        self.state.mkdir()
        (folder / "data.jsonl").write_text(f"{json.dumps(CHAT)}\n" * 8)
        self.write("")
        self._capsys, self._monkeypatch = capsys, monkeypatch
        self.plan("done")
        self.out = self.err = ""

    def write(self, more: str) -> None:
        self.file.write_text(f"name: tune\ndata: data.jsonl\n{more}")

    def plan(self, *words: str) -> None:
        self._monkeypatch.setenv("PLAN", json.dumps(words))

    def __call__(self, *arguments: str) -> int:
        code = run([*arguments, "--state", str(self.state)])
        said = self._capsys.readouterr()
        self.out, self.err = said.out, said.err
        return code

    def store(self) -> Any:
        return open_store(str(self.state / "runs" / "tune"))

    def learned(self, *losses: float) -> None:
        """As if a process of the run had."""
        store = self.store()
        RunStore(store, "tune").claim()
        writer = Writer(store, 1)
        at = time.time()
        writer.add("launch", at, epoch=1, nodes=[], processes=1, started_at=at, steps=2, run="tune")
        for number, loss in enumerate(losses, 1):
            fields = {"tokens": 8, "rate": 1e-3, "norm": 1.0, "seconds": 0.1, "data_s": 0.0, "stall_s": 0.0}
            writer.add("step", at + number / 10, step=number, loss=loss, samples="00" * 8, **fields)
        writer.close()


@pytest.fixture
def line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setattr(launching, "TRAINER", (str(FAKE),))
    monkeypatch.setattr(gang, "FAILED_S", 0.2)
    monkeypatch.delenv("CHECKPOINT_S3", raising=False)
    return Line(tmp_path, capsys, monkeypatch)


def test_at_its_end_a_run_says_what_it_came_to_and_what_next(line: Line) -> None:
    assert line("train", str(line.file)) == exits.COMPLETED
    assert line.out.splitlines()[:2] == ["state       completed", "run         tune"]
    assert line.err.splitlines()[-2:] == [
        "`stoker runs show tune` shows losses, and where time and money went",
        f"`stoker register {line.file}` puts it into service with --unevaluated, since the run file has no "
        "evaluation.suites",
    ]


def test_with_json_stdout_has_one_object_and_nothing_else(line: Line) -> None:
    assert line("train", str(line.file)) == 0
    line.learned(1.5, 0.75)
    assert line("train", str(line.file), "--json") == 0
    found = json.loads(line.out)
    assert list(found) == [
        *("state", "run", "steps", "steps_of_all", "loss", "launches", "usd", "goodput", "checkpoint", "store"),
    ]
    assert (found["state"], found["run"], found["steps"], found["loss"]) == ("completed", "tune", 2, 0.75)
    assert (found["checkpoint"], found["store"]) == (None, (line.state / "runs" / "tune").as_uri())


@pytest.mark.parametrize(
    ("code", "state", "said"),
    [
        (75, "preempted", "interrupted (preempted); `stoker train FILE` begins at the beginning"),
        (76, "budget", "the budget is spent; with a larger `budget` in FILE, `stoker train FILE` begins at"),
        (77, "fenced", "another launch of this run has taken over; this one wrote nothing more"),
        (78, "failed", "failed: the loss is not a number any more"),
        (2, "failed", "failed: it cannot run as it is asked for; when that is mended, `stoker train FILE` begins at"),
    ],
)
def test_each_end_has_its_code_and_its_words(line: Line, code: int, state: str, said: str) -> None:
    line.plan(str(code))
    assert line("train", str(line.file), "--json") == code
    assert json.loads(line.out)["state"] == state
    assert said.replace("FILE", str(line.file)) in line.err


STOKER = """
import os, signal, sys
from stoker.train import gang, launching

launching.TRAINER = (sys.argv.pop(1),)
if sys.argv.pop(1) == "early":
    class Meanwhile:
        def find_spec(name, *_):
            if name == "stoker.cli.app":
                os.kill(os.getpid(), signal.SIGTERM)

    sys.meta_path.insert(0, Meanwhile)
from stoker.cli import main
main()
"""


def the_script(line: Line, when: str) -> "subprocess.Popen[bytes]":
    line.plan("wait")
    command = [sys.executable, "-c", STOKER, str(FAKE), when, "train", str(line.file), "--state", str(line.state)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_sigterm_as_often_as_it_likes_ends_it_as_one_does(line: Line) -> None:
    with the_script(line, "late") as stoker:
        while not (line.state / "ready-1-0").exists() and stoker.poll() is None:
            os.sched_yield()
        while stoker.poll() is None:
            stoker.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                stoker.wait(timeout=0.005)
        assert stoker.stderr is not None
        said = stoker.stderr.read().decode()
    assert stoker.returncode == exits.PREEMPTED, said
    assert said.count("SIGTERM: saved") == 1
    assert said.splitlines()[-1].startswith("interrupted (SIGTERM); `stoker train")


def test_sigterm_before_anything_has_begun_is_an_interruption(line: Line) -> None:
    """While the program itself is being read."""
    with the_script(line, "early") as stoker:
        said = stoker.communicate()[1].decode()
    assert stoker.returncode == exits.PREEMPTED, said
    assert said.splitlines() == [
        "SIGTERM: ending before anything has begun",
        f"interrupted (SIGTERM); `stoker train {line.file}` begins at the beginning",
    ]
    assert not (line.state / "launch-1-0").exists()


def test_what_a_process_died_of_is_said(line: Line) -> None:
    line.write("relaunches: 0\n")
    line.plan("1")
    assert line("train", str(line.file)) == exits.FAILED
    assert line.err.splitlines()[-2:] == [
        "failed: process 0 ended with exit code 1, and relaunches is 0",
        f"`stoker runs show tune` shows how far it came; `stoker train {line.file}` begins at the beginning",
    ]


def test_without_torch_it_says_how_to_get_it(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for command in (["train"], ["drill", "spot", "--run"], ["register"], ["evaluate"]):
        assert line(*command, str(line.file)) == 2
        assert line.err == (
            f"error: `stoker {' '.join(command)}` needs torch, which is not installed\n\n"
            "hint: pip install 'stoker[train]'; in a checkout: .venv/bin/pip install -e '.[train]'\n"
        )
    assert not (line.state / "runs").exists()


def test_fresh_puts_aside_what_there_is(line: Line) -> None:
    assert line("train", str(line.file)) == 0
    line.learned(1.5)
    assert line("train", str(line.file), "--fresh", "--json") == 0
    assert json.loads(line.out)["steps"] == 0
    assert (line.state / "runs" / "tune.old-1" / "record" / "e0001.jsonl").exists()


def test_a_run_that_is_over_is_not_launched_again(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    assert line("train", str(line.file)) == 0
    launched = len(list(line.state.glob("launch-*")))
    monkeypatch.setattr(launching.runs, "is_over", lambda store, run: True)
    assert line("train", str(line.file)) == 0
    assert line.err.splitlines()[0] == (
        "it was completed before, and nothing was left to do; another `name`, or --fresh, trains anew"
    )
    assert len(list(line.state.glob("launch-*"))) == launched == 1


def test_a_run_whose_budget_is_spent_is_not_launched_again(line: Line) -> None:
    assert line("train", str(line.file)) == 0
    line.learned(1.5, 0.75)
    line.write("budget: {hours: 0.00001}\n")
    assert line("train", str(line.file), "--json") == exits.BUDGET_SPENT
    assert json.loads(line.out)["state"] == "budget"
    assert "the budget is spent: " in line.err
    assert "with a larger `budget` in" in line.err
    assert len(list(line.state.glob("launch-*"))) == 1


def test_check_says_what_it_would_do_and_begins_nothing(line: Line) -> None:
    line.write("epochs: 3\nbatch: {rows: 4}\ndataset: {packing: false}\n")
    assert line("train", str(line.file), "--check", "--json") == 0
    found = json.loads(line.out)
    assert (found["state"], found["steps"], found["data"]["examples"], found["resumes"]) == ("checked", 6, 8, None)
    assert found["tokens"] == 3 * found["data"]["tokens"]
    assert found["trained"] == 221_184
    assert found["checkpoint_bytes"] == 12 * found["trained"]
    assert found["guarantee"]["holds"] is True
    assert {"instance_type", "capacity", "usd"} <= found["options"][0].keys()
    assert not list(line.state.glob("launch-*"))
    assert not (line.state / "runs" / "tune" / "run.yaml").exists()


def test_check_finds_bad_lines_before_anything_is_paid_for(line: Line) -> None:
    (line.folder / "data.jsonl").write_text(f'{json.dumps(CHAT)}\n{{"messages": 7}}\n')
    assert line("train", str(line.file), "--check") == 2
    assert "data.jsonl:2" in line.err


def test_check_reads_the_validation_data_too(line: Line) -> None:
    line.write("validation: held.jsonl\n")
    assert line("train", str(line.file), "--check") == 2
    assert "held.jsonl" in line.err
    (line.folder / "held.jsonl").write_text('{"messages": 7}\n')
    assert line("train", str(line.file), "--check") == 2
    assert "held.jsonl:1" in line.err


def test_check_says_what_the_run_needs_of_its_machine(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_DEVICES", line.folder)
    for name in ("nvidia0", "nvidiactl"):
        (line.folder / name).touch()
    line.write("gpus: 3\nbudget: {usd: 1}\n")
    assert line("train", str(line.file), "--check", "--json") == 0
    assert "warning: gpus is 3, and this machine has 1: on this one the run is refused" in line.err
    assert "warning: budget.usd is set, and prices does not say what a machine costs" in line.err
    line.write("gpus: 1\nbudget: {usd: 1}\nprices: {usdPerHour: 1}\n")
    assert line("train", str(line.file), "--check", "--json") == 0
    assert "warning: " not in line.err


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("vocab_size", 10, "tokens, config.json 10"),
        ("hidden_size", 384, "config.json says (1536, 384)"),
        ("intermediate_size", 8, "tensor model.layers.0.mlp.gate_proj.weight has shape"),
        ("num_hidden_layers", 1000, "the weights lack model.layers."),
    ],
)
def test_check_refuses_weights_that_are_not_what_their_config_says(line: Line, key: str, value: int, said: str) -> None:
    shutil.copytree(bundle.default_folder(), line.folder / "base")
    config = line.folder / "base" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), key: value}))
    line.write("base: base\n")
    assert line("train", str(line.file), "--check") == 2
    assert said in line.err


def test_a_guarantee_that_is_required_and_cannot_hold_is_exit_code_1(line: Line) -> None:
    line.write("spot: {guarantee: require, graceSeconds: 0.000001}\n")
    assert line("train", str(line.file), "--check", "--json") == 1
    assert "spot.guarantee is require, so the run would not begin" in line.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "FILE", "--check", "--fresh"], "--check begins nothing, so it does not go with --fresh"),
        (["drill", "spot", "--run", "FILE", "--tasks", "8"], "--tasks and --run do not go together"),
        (["drill", "spot", "--run", "FILE", "--action", "stop", "--model", "m"], "--model, --action and --run do not"),
        (["drill", "spot", "--kills", "2"], "--kills needs --run"),
        (["drill", "spot", "--steps", "24"], "--steps needs --run"),
        (["drill", "spot", "--run", "unknown"], "there is no run 'unknown' in"),
    ],
)
def test_what_does_not_go_together_is_refused_in_words(line: Line, arguments: list[str], said: str) -> None:
    assert line(*[str(line.file) if each == "FILE" else each for each in arguments]) == 2
    assert said in line.err
