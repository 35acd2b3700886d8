"""What is written of a run outlives what kills it, and comes back as it was."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from run_records import T0, Files, Objects

from stoker.train import record
from stoker.train.record import PART_BYTES, PREFIX, Writer, follow, read


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_a_line_is_in_the_file_of_its_launch_as_soon_as_it_is_added(tmp_path: Path) -> None:
    writer = Writer(Files(tmp_path), 3, monotonic=Ticks())

    writer.add("alive", T0)
    writer.add("wish", T0 + 0.1, wish="STOP", reason="SIGTERM")

    assert (tmp_path / "record" / "e0003.jsonl").read_text() == (
        '{"kind":"alive","at":1700000000.0,"up":1.0}\n'
        '{"kind":"wish","at":1700000000.1,"up":2.0,"wish":"STOP","reason":"SIGTERM"}\n'
    )
    writer.close()
    writer.close()
    assert [each["kind"] for each in read(Files(tmp_path))] == ["alive", "wish"]


def test_a_loss_comes_back_bit_for_bit_and_what_is_no_number_too(tmp_path: Path) -> None:
    writer = Writer(Files(tmp_path), 1)
    losses = [0.1 + 0.2, 1 / 3, 5e-324, math.inf, math.nan]
    for number, loss in enumerate(losses, 1):
        writer.add("validate", T0, step=number, loss=loss, seconds=0.0)
    writer.close()

    back = [float(each["loss"]) for each in read(Files(tmp_path))]

    assert [each.hex() for each in back] == [each.hex() for each in losses]


def test_a_process_that_is_killed_leaves_every_line_that_it_added(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path;"
        "from run_records import Files; from stoker.train.record import Writer;"
        "writer = Writer(Files(Path(sys.argv[1])), 1);"
        "[writer.add('alive', float(i)) for i in range(50)];"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)], timeout=60, check=False
    )

    assert done.returncode == -signal.SIGKILL
    assert [each["at"] for each in read(Files(tmp_path))] == [float(i) for i in range(50)]


def test_a_line_that_is_cut_off_or_is_no_record_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "record"
    folder.mkdir()
    (folder / "e0001.jsonl").write_bytes(
        b'{"kind":"alive","at":1}\n\xff\xfe\n[1]\n{"kind":"nonsense","at":1}\n{"kind":"alive","at":"x"}\n\n'
        b'{"kind":"alive","at":2}\n{"kind":"alive","at":3'
    )
    (folder / "notes.txt").write_text('{"kind":"alive","at":9}\n')

    assert [each["at"] for each in read(Files(tmp_path))] == [1, 2]


def test_launches_come_in_the_order_of_their_epochs(tmp_path: Path) -> None:
    for epoch in (10_000, 2, 9999):
        writer = Writer(Files(tmp_path), epoch)
        writer.add("alive", float(epoch))
        writer.close()

    assert [each["at"] for each in follow(Files(tmp_path))] == [2.0, 9999.0, 10_000.0]


def test_a_file_that_cannot_be_written_stops_nothing_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(Files(tmp_path), 1)
    writer.add("alive", 1.0)
    real = os.write
    told = []
    monkeypatch.setattr(record._log, "warning", lambda *_, **fields: told.append(fields["why"]))

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    writer.add("alive", 2.0)
    writer.add("alive", 3.0)
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:10]))
    writer.add("alive", 4.0)
    monkeypatch.setattr(os, "write", real)
    writer.add("alive", 5.0)
    writer.close()

    assert told == ["[Errno 28] No space left on device"]
    assert [each["at"] for each in read(Files(tmp_path))] == [1.0, 5.0]


def test_to_s3_go_parts_when_it_is_told_to() -> None:
    store = Objects()
    writer = Writer(store, 3)
    writer.add("alive", 1.0)
    assert store.puts == []

    writer.send()
    writer.send()  # nothing new
    writer.add("alive", 2.0)
    writer.close()

    assert store.puts == ["record/e0003-0001.jsonl"] * 2
    assert [each["at"] for each in read(store)] == [1.0, 2.0]


def test_a_part_that_is_full_is_sent_once_and_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "PART_BYTES", 100)
    store = Objects()
    writer = Writer(store, 1, monotonic=Ticks())  # of 35 bytes is each line
    for i in range(7):
        writer.add("alive", float(i))
    writer.send()
    writer.add("alive", 7.0)
    writer.send()

    assert PART_BYTES == 4 << 20
    assert store.puts == [f"record/e0001-000{part}.jsonl" for part in (1, 2, 3, 3)]
    assert [each["at"] for each in read(store)] == [float(i) for i in range(8)]


def test_a_store_that_is_away_stops_nothing_and_has_all_of_it_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "PART_BYTES", 100)
    told = []
    monkeypatch.setattr(record._log, "warning", lambda *_, **fields: told.append(fields["why"]))
    store = Objects()
    store.is_away = True
    writer = Writer(store, 1)
    for i in range(7):
        writer.add("alive", float(i))
        writer.send()
    assert (store.objects, told) == ({}, ["the store is away"])

    store.is_away = False
    writer.close()

    assert [each["at"] for each in read(store)] == [float(i) for i in range(7)]


def test_what_cannot_be_sent_is_held_up_to_a_bound_and_the_oldest_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "PART_BYTES", 100)
    monkeypatch.setattr(record, "_MOST_HELD_BYTES", 300)
    store = Objects()
    store.is_away = True
    writer = Writer(store, 1, monotonic=Ticks())  # three lines to a part
    for i in range(20):
        writer.add("alive", float(i))
    store.is_away = False
    writer.close()

    assert [each["at"] for each in read(store)] == [float(i) for i in range(9, 20)]


def test_a_kind_that_there_is_not_is_a_fault_of_who_adds_it() -> None:
    with pytest.raises(ValueError, match="'nonsense'; it must be one of launch, resume"):
        Writer(Objects(), 1).add("nonsense", 1.0)


def test_records_are_read_without_torch_and_without_pydantic() -> None:
    code = (
        "import json, sys, stoker.train.record;"
        "print(json.dumps(sorted({'torch', 'pydantic', 'boto3'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []


def test_a_long_line_across_pieces_that_are_read_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_READ_BYTES", 7)
    store = Objects()
    store.objects[PREFIX + "e0001.jsonl"] = b'{"kind":"alive","at":1}\n{"kind":"alive","at":2}\n'

    assert [each["at"] for each in read(store)] == [1, 2]
