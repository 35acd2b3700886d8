"""`stoker runs`: what became of a run, read from its store; no torch."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stoker.cli import show
from stoker.cli.app import run as command
from stoker.cli.curve import bar, curve
from stoker.cli.runs_page import thinned
from stoker.registry.heads import Keep
from stoker.registry.manifests import Manifest, name_of
from stoker.registry.runs import RunStore
from stoker.registry.shards import Piece
from stoker.registry.stores import Store, open_store
from stoker.spec.run import Run
from stoker.train import runs as places
from stoker.train.record import Writer, folder_of

T0 = 1_700_000_000.0
NODE = {"id": "i-1", "type": "g5.xlarge", "zone": "us-east-1a", "capacity": "spot", "usd_per_hour": 0.36}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Made:
    """A run that was preempted at step 6 (its checkpoint: 5), and came to its end at step 12 in the next launch."""

    def __init__(self, folder: Path, name: str = "fine") -> None:
        file = folder / "run.yaml"
        file.write_text(f"name: {name}\ndata: train.jsonl\n")
        run = Run.model_validate({"name": name, "data": "train.jsonl"}, by_name=True)
        _, self.store = places.begin(run, file, folder / "state", {})
        self.runs = RunStore(self.store, name)
        self.name = name
        self.checkpoints: list[str] = []

    def launch(self, began: float, steps: range, *, saved: int, end: str | None, loss: Any = None) -> None:
        lease, up = self.runs.claim(), Clock()
        writer = Writer(self.store, lease.epoch, monotonic=up)

        def add(kind: str, after_s: float, **fields: Any) -> None:
            up.now = after_s
            writer.add(kind, began + after_s, **fields)

        add("launch", 4, epoch=lease.epoch, run=self.name, nodes=[NODE], processes=1, started_at=began, steps=12)
        if steps[0] > 1:
            add("resume", 5, step=steps[0] - 1, name="s", skipped=[], seconds=1.0)
        at = 6.0
        for step in steps:
            at += 2.0
            fields = {
                "data_s": 0.5,
                "stall_s": 0.0,
                "samples": f"{step:016x}",
                "tokens": 100,
                "rate": 1e-4,
                "norm": 1.0,
            }
            add("step", at, step=step, loss=12.0 / step if loss is None else loss, seconds=2.0, **fields)
            if step == saved:
                name = name_of(step, lease.epoch, 0)
                shard = self.runs.write(name, "shard-00000.safetensors", [_piece(step)], timeout_s=10.0)
                manifest = Manifest(self.name, name, step, lease.epoch, began + at, (shard,), {"step": step})
                lease = self.runs.commit(lease, manifest, Keep(last=5), loss=3.0)
                self.checkpoints.append(name)
                add("save", at, step=step, name=name, stall_s=0.0, seconds=0.1, bytes=shard.size_bytes, why="interval")
                add("validate", at + 0.5, step=step, loss=20.0 / step, seconds=0.5)
        if end is not None:
            add("end", at + 1.0, state=end, why="spot notice" if end == "preempted" else "", step=steps[-1])
        writer.close()


def _piece(step: int) -> Piece:
    return Piece("weight", "F32", (4,), (4,), (0,), bytes([step] * 16))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setenv("STOKER_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("time.time", lambda: T0 + 1000.0)
    found = Made(tmp_path)
    found.launch(T0, range(1, 7), saved=5, end="preempted")
    found.launch(T0 + 100, range(6, 13), saved=12, end="completed")
    return found


def test_show_says_in_json_what_scripts_rely_on(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["runs", "show", "fine", "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert (said["state"], said["steps"], said["steps_of_all"], said["run"]) == ("completed", 12, 12, "fine")
    assert said["losses"] == {str(step): 12.0 / step for step in range(1, 13)}
    assert said["validation"] == {"5": 4.0, "12": 20.0 / 12}
    assert (said["lost_steps"], said["lost_work_s"], said["trouble"]) == (1, 2.0, None)
    # 19 s, 81 s in which the machine waited, and 21 s
    assert said["usd"] == pytest.approx(121e-4)
    assert said["goodput"] == pytest.approx(12 * 1.5 / 121)
    assert sum(said["seconds"].values()) == pytest.approx(121)
    assert sum(said["usd_by_cause"].values()) == pytest.approx(said["usd"], abs=1e-9)
    assert said["seconds"]["recompute"] == 1.5
    assert said["interruptions"] == ["preempted at step 6: spot notice"]
    assert [(each["epoch"], each["from_step"], each["to_step"], each["state"]) for each in said["launches"]] == [
        (1, 0, 6, "preempted"),
        (2, 5, 12, "completed"),
    ]
    assert [(each["name"], each["step"], each["pinned"]) for each in said["checkpoints"]] == [
        (made.checkpoints[0], 5, False),
        (made.checkpoints[1], 12, False),
    ]


def test_show_tells_a_person_where_time_and_money_went(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["runs", "show", "fine"]) == 0

    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0] == "fine: completed, step 12 of 12"
    assert "15 % of 2 min was useful, $0.012" in lines
    assert "useful           18 s   $0.0018   15 %  ███▋" in lines  # 18 of 121 s
    assert "lost: 1 steps, 2.0 s of work" in lines
    assert "last 1; validation 1.66667, at best 1.66667 at step 12" in lines
    assert re.search(r"^ +1  .*19 s +0-6  preempted: spot notice +\$0\.0019$", said, re.MULTILINE)
    assert re.search(rf"^{made.checkpoints[1]} +12 ", said, re.MULTILINE)
    assert "█" in lines[lines.index("loss") + 1]


@pytest.mark.parametrize(
    "absurd",
    [
        {"at": 1e300},
        {"at": -1e18, "started_at": -1e18},
        {"at": 10**400},
        {"kind": {}},
        {"kind": ["launch"]},
    ],
)
def test_a_line_that_makes_no_sense_is_left_out(made: Made, tmp_path: Path, capsys: Any, absurd: Any) -> None:
    command(["runs", "show", "fine", "--json"])
    before = json.loads(capsys.readouterr().out)
    line = {"kind": "launch", "at": T0 + 500, "up": 4.0, "epoch": 2, "run": "fine", "nodes": [NODE], **absurd}
    with (made_record(made) / "e0002.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    assert command(["runs", "show", "fine", "--html", str(tmp_path / "page.html")]) == 0
    assert command(["runs", "show", "fine"]) == 0
    capsys.readouterr()
    assert command(["runs", "show", "fine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == before


def test_what_makes_no_sense_in_a_line_counts_as_nothing(made: Made, tmp_path: Path, capsys: Any) -> None:
    node = {**NODE, "usd_per_hour": 1e308}
    line = {"kind": "launch", "at": T0 + 500, "epoch": 3, "nodes": [node], "started_at": -1e18, "steps": 10**400}
    (made_record(made) / "e0003.jsonl").write_text(json.dumps(line) + "\n")
    for more in ([], ["--html", str(tmp_path / "page.html")]):
        assert command(["runs", "show", "fine", *more]) == 0
    capsys.readouterr()
    assert command(["runs", "show", "fine", "--json"]) == 0
    launch = json.loads(capsys.readouterr().out)["launches"][-1]
    assert (launch["began_at"], launch["ended_at"], launch["usd"]) == (T0 + 500, T0 + 500, None)


def test_a_time_that_no_calendar_has_is_a_question_mark() -> None:
    assert [show.local_time(at) for at in (1e300, -1e18, float("nan"), None)] == ["?", "?", "?", "-"]


def made_record(made: Made) -> Path:
    folder = folder_of(made.store.url)
    assert folder is not None
    return folder / "record"


def test_a_timeline_of_prices_is_paid_instead(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = tmp_path / "prices.csv"
    prices.write_text(f"type,zone,capacity,usd_per_hour,at_s\ng5.xlarge,us-east-1a,spot,3.6,{T0}\n")

    assert command(["runs", "show", "fine", "--prices", str(prices), "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["usd"] == pytest.approx(0.121)


def test_the_list_has_a_line_for_each_run_and_says_which_cannot_be_read(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Made(tmp_path, "other")
    other.launch(T0 + 900, range(1, 4), saved=2, end=None, loss=float("nan"))
    (tmp_path / "state" / "runs" / "other" / "HEAD").write_bytes(b"?")
    (tmp_path / "state" / "runs" / "other" / "HEAD.copy").write_bytes(b"?")

    assert command(["runs"]) == 0
    said = capsys.readouterr()
    assert [line.split() for line in said.out.splitlines()] == [
        ["run", "state", "step", "loss", "goodput", "dollars", "launches", "age"],
        ["fine", "completed", "12", "of", "12", "1", "15", "%", "$0.012", "2", "15", "min"],
        ["other", "running", "3", "of", "12", "-", "4", "%", "$0.01", "1", "0.0", "s"],
    ]
    assert command(["runs", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [(each["run"], each["loss"], each["age_s"]) for each in rows] == [("fine", 1.0, 879.0), ("other", None, 0.0)]
    assert command(["runs", "show", "other", "--json"]) == 0
    assert "other/HEAD is damaged" in json.loads(capsys.readouterr().out)["trouble"]


def test_a_name_where_a_word_belongs_leads_to_show(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["runs", "fine"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == (
        "error: 'fine' is none of its words; `stoker runs show fine` shows a run"
    )


def test_a_run_of_which_nothing_began_has_no_empty_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "runs" / "none"
    store.mkdir(parents=True)
    (store / "store.json").write_text(json.dumps({"url": store.as_uri()}))
    assert command(["runs", "show", "none", "--state", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"none: empty, no process of it has begun yet\n{store.as_uri()}\n"


def test_no_runs_is_said_and_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["runs", "--state", str(tmp_path)]) == 0
    assert capsys.readouterr().err == f"there is no run in {tmp_path} yet; `stoker train RUN.yaml` begins one\n"
    assert command(["runs", "list", "--state", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": []}


def test_a_run_that_there_is_not_is_asked_for_wrongly(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["runs", "show", "fien"]) == 2
    assert "there is no run 'fien'" in capsys.readouterr().err
    assert command(["runs", "--json", "show", "fine"]) == 2
    assert "options belong behind the word show" in capsys.readouterr().err


def test_a_run_that_began_elsewhere_is_found_by_its_place(made: Made, tmp_path: Path, capsys: Any) -> None:
    assert command(["runs", "show", made.store.url, "--state", str(tmp_path / "none"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "fine"
    assert command(["runs", "show", (tmp_path / "nothing").as_uri(), "--state", str(tmp_path / "none")]) == 2
    assert "there is no run in file://" in capsys.readouterr().err


def test_verify_reads_every_byte(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["runs", "verify", "fine"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*reversed(made.checkpoints)]

    (shard,) = [path for path in _files(made.store) if "s00000005" in str(path) and path.suffix == ".safetensors"]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)

    assert command(["runs", "verify", "fine", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)["checkpoints"]
    assert [each["damage"] is None for each in said] == [True, False]
    assert command(["runs", "verify", "fine", "--checkpoint", "12"]) == 0
    assert command(["runs", "verify", "fine", "--checkpoint", "7"]) == 2
    assert "fine has no checkpoint '7'; it has: s00000005-e0001-0 (step 5)" in capsys.readouterr().err


def test_a_checkpoint_is_kept_and_let_go(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    def pinned() -> list[bool]:
        seen = made.runs.head()
        assert seen is not None
        return [each.pinned for each in seen[0].entries]

    assert command(["runs", "pin", "fine", "5"]) == 0
    assert pinned() == [True, False]
    assert capsys.readouterr().err == "s00000005-e0001-0 is kept\n"
    assert command(["runs", "pin", "fine", made.checkpoints[0], "--unpin"]) == 0
    assert pinned() == [False, False]


def test_the_page_stands_alone_and_no_name_can_break_out_of_it(made: Made, tmp_path: Path, capsys: Any) -> None:
    writer = Writer(made.store, 3)
    bad = {**NODE, "type": "<script>alert(1)</script>"}
    writer.add("launch", T0 + 500, epoch=3, run="fine", nodes=[bad], processes=1, started_at=T0 + 500, steps=12)
    writer.add("end", T0 + 510, state="failed", why="</script><b>", step=12)
    writer.close()
    file = tmp_path / "run.html"

    assert command(["runs", "show", "fine", "--html", str(file)]) == 0

    html = file.read_text()
    assert capsys.readouterr().err == f"written to {file}\n"
    assert "<h1>fine</h1>" in html
    assert html.count('<figure class="plot"') == 2
    assert "<script>alert" not in html
    assert "&lt;/script&gt;&lt;b&gt;" in html
    assert "launch 3" in html
    assert not re.search(r"""(src|href)=["'](https?:)?//""", html)
    assert "prefers-color-scheme: dark" in html
    assert command(["runs", "show", "fine", "--html", str(tmp_path / "no" / "such.html")]) == 2


def test_torch_is_not_needed(made: Made, tmp_path: Path) -> None:
    code = (
        "import sys; from stoker.cli.app import run;"
        "assert run(['runs']) == 0 and run(['runs', 'show', 'fine']) == 0;"
        "assert run(['runs', 'verify', 'fine']) == 0;"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_a_curve_goes_from_the_most_to_the_least() -> None:
    assert curve([4.0, 3.0, 2.0, 1.0], height=2) == ["4 │█▃", "1 │██▆▁"]
    assert curve([2.0, 2.0], height=2) == ["  │", "2 │▁▁"]
    assert curve([1.0, float("nan"), 2.0], height=1) == ["1 │▁×█"]
    assert curve([]) == []


def test_a_curve_of_many_values_is_as_wide_as_it_may_be() -> None:
    lines = curve([float(i) for i in range(1000)], width=10, height=3)

    assert {len(line) for line in lines} <= {len("949.5 │") + n for n in range(11)}
    assert lines[0].startswith("949.5 │")


def test_bars_show_a_part_however_small() -> None:
    assert [bar(part, width=2) for part in (0.0, 0.001, 0.5, 0.75, 1.0, 7.0)] == ["", "▏", "█", "█▌", "██", "██"]


def test_points_of_a_page_are_bounded() -> None:
    at, values = thinned(list(range(1, 1201)), [1.0, float("nan"), *[3.0] * 1198])

    assert (len(at), at[0], at[-1], values[0], values[1]) == (600, 2.0, 1200.0, 1.0, 3.0)


def _files(store: Store) -> list[Path]:
    folder = Path(store.url.removeprefix("file://"))
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_place_of_a_run_can_be_opened_again(made: Made) -> None:
    assert [stat.key for stat in open_store(made.store.url).list("record/")] == [
        "record/e0001.jsonl",
        "record/e0002.jsonl",
    ]
