"""Recorded spot markets as they are published, and as tables."""

import gzip
import json
from pathlib import Path

import pytest

from stoker.base.errors import InvalidInput, NotFound
from stoker.simulate.spot_market import read_market

TRACE = {"kind": "availability", "gap_seconds": 195, "points": 10, "rle": [[0, 2], [1, 3], [4, 5]]}


def test_run_lengths_become_steps(tmp_path: Path) -> None:
    file = tmp_path / "spot.jsonl.gz"
    other = {**TRACE, "rle": [[16, 1]], "gap_seconds": 600}
    file.write_bytes(gzip.compress(f"{json.dumps(TRACE)}\n{json.dumps(other)}\n".encode()))
    assert read_market(str(file)) == ((0.0, 0), (390.0, 1), (975.0, 4))
    assert read_market(f"{file}:1", times=8) == ((0.0, 0), (390.0, 8), (975.0, 32))
    assert read_market(f"{file}:2") == ((0.0, 16),)


def test_a_table_holds_its_first_number_from_the_start(tmp_path: Path) -> None:
    file = tmp_path / "spot.csv"
    file.write_text("at_s,available\n60,3\n60,2\n90.5,0\n")
    assert read_market(str(file)) == ((0.0, 3), (60.0, 3), (60.0, 2), (90.5, 0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,available\n", "row 1: columns time, available"),
        ("at_s,available\n", "row 1: no rows"),
        ("at_s,available\n5,1\n4,1\n", "row 3: at_s 4, available 1"),
        ("at_s,available\n-1,1\n", "row 2: at_s -1"),
        ("at_s,available\nnan,1\n", "row 2: at_s nan"),
        ("at_s,available\n1,-2\n", "row 2: at_s 1, available -2"),
        ("at_s,available\n1,many\n", "row 2: invalid literal"),
        ('{"gap_seconds": 1}\n', "row 1: no trace: 'rle'"),
        ('{"gap_seconds": 0, "rle": [[1, 1]]}\n', "row 1: a gap or a run"),
        ('{"gap_seconds": 1, "rle": [[1, 0]]}\n', "row 1: a gap or a run"),
    ],
)
def test_what_is_wrong_is_said_with_its_row(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "spot"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=said):
        read_market(str(file))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "spot.jsonl"
    file.write_text(json.dumps(TRACE))
    with pytest.raises(InvalidInput, match="has 1 traces, and not a 2th"):
        read_market(f"{file}:2")
    with pytest.raises(NotFound, match="no recorded market /no/such:1"):
        read_market("/no/such:1")
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(b"at_s,available\n0,1\n")[:-9])
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_market(str(cut))
