"""What a gateway writes down before it sends a request, and what its successor reads after its death."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import HELLO, a_stack

from stoker.base.errors import InvalidInput
from stoker.gateway import journal
from stoker.gateway.bounds import Bound
from stoker.gateway.journal import Abandoned, InFlight, Journal, abandoned

SHARED = {"counters": [["key:k:tokens:total", 1]], "tenant": "acme"}
OTHER = {"counters": [], "tenant": "other"}
SAID: dict[str, Any] = {
    "id": "req_1",
    "kind": "request",
    "status": "done",
    "tenant": "acme",
    "key_id": "k",
    "model": "general",
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "nano_usd": 5,
    "started_at": 1.5,
    "ended_at": 2,
}
RECORD = json.dumps(SAID)


def sent(to: Journal, number: int, shared: Any = SHARED, *, replica: str = "general-0") -> None:
    to.sent(
        number,
        shared,
        request_id=f"req_{number}",
        bound=Bound(10, 20, 30),
        model="general",
        route="auto:code",
        replica_id=replica,
        replica_url="http://127.0.0.1:1",
        now=12.5,
    )


def in_flight(number: int, shared: Any = SHARED) -> InFlight:
    return InFlight(
        number=number,
        id=f"req_{number}",
        bound=Bound(10, 20, 30),
        model="general",
        route="auto:code",
        replica_id="general-0",
        replica_url="http://127.0.0.1:1",
        started_at=12.5,
        shared=shared,
    )


def read(directory: Path) -> dict[str, list[InFlight]]:
    """What a successor finds, with every journal left as it is."""
    found = {}
    for left in abandoned(directory):
        found[left.owner] = left.in_flight
        left.put_back()
    return found


@pytest.fixture
def mine(tmp_path: Path) -> Journal:
    return Journal(tmp_path, "gw_1")


def died(it: Journal) -> None:
    """What the death of its process does: the lock is gone, the file stays."""
    it.close(remove=False)


def test_what_was_sent_and_not_settled_is_found_as_it_was(mine: Journal, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        sent(mine, number, OTHER if number == 2 else SHARED)
    mine.settled([3])
    died(mine)
    assert read(tmp_path) == {"gw_1": [in_flight(1), in_flight(2, OTHER)]}


def test_what_requests_share_is_written_once(mine: Journal) -> None:
    for number in (1, 2):
        sent(mine, number)
    assert mine.path.read_text() == (
        '= 0 {"counters":[["key:k:tokens:total",1]],"tenant":"acme"}\n'
        "+ 1 0 req_1 10 20 30 general auto:code general-0 http://127.0.0.1:1 12.500\n"
        "+ 2 0 req_2 10 20 30 general auto:code general-0 http://127.0.0.1:1 12.500\n"
    )


def test_a_request_that_went_to_another_replica_is_asked_about_there(mine: Journal, tmp_path: Path) -> None:
    sent(mine, 1)
    sent(mine, 1, replica="general-1")
    died(mine)
    assert read(tmp_path) == {"gw_1": [replace(in_flight(1), replica_id="general-1")]}


def test_the_record_of_what_ended_while_redis_was_away_is_kept_once(mine: Journal, tmp_path: Path) -> None:
    sent(mine, 1)
    mine.ended(1, RECORD)
    mine.ended(1, '{"id": "again"}')
    mine.ended(2, '{"id": "never sent"}')
    died(mine)
    assert read(tmp_path) == {"gw_1": [replace(in_flight(1), record=RECORD)]}


@pytest.mark.parametrize(
    "said",
    [
        '{"id": "req_1"}',
        "[]",
        "7",
        "[" * 100_000,
        RECORD[:-1],
        json.dumps({name: value for name, value in SAID.items() if name != "nano_usd"}),
        json.dumps({**SAID, "prompt_tokens": "3"}),
        json.dumps({**SAID, "completion_tokens": None}),
        json.dumps({**SAID, "cached_tokens": True}),
        json.dumps({**SAID, "nano_usd": -1}),
        json.dumps({**SAID, "nano_usd": 1.5}),
        json.dumps({**SAID, "ended_at": "now"}),
    ],
)
def test_a_record_that_is_none_is_left_out_and_the_request_counts_as_in_flight(
    mine: Journal, tmp_path: Path, said: str
) -> None:
    sent(mine, 1)
    mine.ended(1, said)
    sent(mine, 2)
    died(mine)
    assert read(tmp_path) == {"gw_1": [in_flight(1), in_flight(2)]}


def test_a_record_of_a_later_version_is_one(mine: Journal, tmp_path: Path) -> None:
    later = json.dumps({**SAID, "colour": "red"})
    sent(mine, 1)
    mine.ended(1, later)
    died(mine)
    assert read(tmp_path) == {"gw_1": [replace(in_flight(1), record=later)]}


def test_a_number_that_was_never_sent_leaves_no_line(mine: Journal) -> None:
    mine.settled([7])
    assert mine.path.read_text() == ""


def test_settled_lines_are_dropped_and_what_is_open_stays(
    mine: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "COMPACT_BYTES", 1000)
    sent(mine, 1)
    mine.ended(1, RECORD)
    for number in range(2, 200):
        sent(mine, number, {**OTHER})  # each of another minute
        mine.settled([number])
    assert mine.path.stat().st_size < 1500
    assert read(tmp_path) == {}  # the new file is locked, too
    sent(mine, 200, OTHER)
    died(mine)
    assert read(tmp_path) == {"gw_1": [replace(in_flight(1), record=RECORD), in_flight(200, OTHER)]}


# --- who is dead ------------------------------------------------------------------------------------------------------


def test_only_the_journals_of_the_dead_are_found(mine: Journal, tmp_path: Path) -> None:
    dead = Journal(tmp_path, "gw_2")
    sent(mine, 1)
    sent(dead, 1)
    assert read(tmp_path) == {}
    died(dead)
    assert read(tmp_path) == {"gw_2": [in_flight(1)]}
    died(mine)


def test_a_journal_that_one_reads_no_other_reads(mine: Journal, tmp_path: Path) -> None:
    died(mine)
    [held] = abandoned(tmp_path)
    assert list(abandoned(tmp_path)) == []
    held.put_back()
    [held] = abandoned(tmp_path)
    held.done()
    assert list(abandoned(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_one_that_another_ended_meanwhile_is_passed_over(
    mine: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the opening of the file and its lock, another has locked it, settled what was in it and removed it."""
    died(mine)
    real: Callable[..., None] = journal.fcntl.flock

    def meanwhile(fd: int, operation: int) -> None:
        mine.path.unlink(missing_ok=True)
        real(fd, operation)

    monkeypatch.setattr(journal.fcntl, "flock", meanwhile)
    assert list(abandoned(tmp_path)) == []


def test_a_clean_end_leaves_nothing_and_an_unclean_one_what_is_open(tmp_path: Path) -> None:
    clean, unclean = Journal(tmp_path, "gw_1"), Journal(tmp_path, "gw_2")
    for each in (clean, unclean):
        sent(each, 1)
    clean.settled([1])
    clean.close(remove=True)
    unclean.close(remove=True)
    assert read(tmp_path) == {"gw_2": [in_flight(1)]}


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(InvalidInput) as caught:
        Journal(tmp_path, "gw_1")
    assert (caught.value.message, caught.value.param) == (f"others may write to {tmp_path}", "journals")


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(InvalidInput):
        Journal(tmp_path, "gw_1")


def test_a_new_folder_is_for_nobody_else(tmp_path: Path) -> None:
    mine = Journal(tmp_path / "a" / "journals", "gw_1")
    assert (tmp_path / "a" / "journals").stat().st_mode & 0o777 == 0o700
    assert mine.path.stat().st_mode & 0o777 == 0o600
    mine.close(remove=True)


# --- half a line, and a full disk -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "torn",
    ["+ 9 0 req_9 1 1", "= 9 {", "! 1 {", "- ", "-", "", "+ 9 7 req_9 1 1 1 m r i u 1.0", "- x", "+ 9", "\ufffd", "zz"],
)
def test_half_a_line_hides_nothing(mine: Journal, tmp_path: Path, torn: str) -> None:
    sent(mine, 1)
    died(mine)
    before = mine.path.read_text()
    mine.path.write_text(before + torn)
    assert read(tmp_path) == {"gw_1": [in_flight(1)]}
    mine.path.write_text(before.replace("+ 1", torn + "\n+ 1"))
    assert read(tmp_path) == {"gw_1": [in_flight(1)]}


def test_a_character_that_was_cut_in_two_hides_nothing(mine: Journal, tmp_path: Path) -> None:
    sent(mine, 1)
    died(mine)
    mine.path.write_bytes(mine.path.read_bytes() + "+ 2 0 é".encode()[:-1])
    assert read(tmp_path) == {"gw_1": [in_flight(1)]}


class FullDisk:
    """`os.write` with room for so many bytes; then half a line goes out, and after that nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self._real = os.write
        monkeypatch.setattr(os, "write", self._write)

    def _write(self, fd: int, data: bytes) -> int:
        if self.room is None:
            return self._real(fd, data)
        if self.room == 0 and data:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._real(fd, data[: self.room])
        self.room -= written
        return written


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    return FullDisk(monkeypatch)


@pytest.mark.parametrize("room", range(0, 112, 3))
def test_a_line_that_does_not_fit_is_as_if_it_were_never_written(tmp_path: Path, disk: FullDisk, room: int) -> None:
    mine = Journal(tmp_path, "gw_1")
    sent(mine, 1)
    disk.room = room
    with pytest.raises(OSError, match=r"No space left|written whole"):
        sent(mine, 2, OTHER)
    disk.room = None
    sent(mine, 3, OTHER)
    died(mine)
    assert read(tmp_path) == {"gw_1": [in_flight(1), in_flight(3, OTHER)]}


@pytest.mark.parametrize("room", range(5))
def test_half_a_settlement_settles_nobody_else(tmp_path: Path, disk: FullDisk, room: int) -> None:
    """Of `- 12` there is `- 1` on the disk: that is not the settlement of 1. What was settled in vain is settled again
    by the successor, and Redis knows that it was done."""
    mine = Journal(tmp_path, "gw_1")
    sent(mine, 1)
    sent(mine, 12)
    disk.room = room
    mine.settled([12])
    disk.room = None
    sent(mine, 13)
    died(mine)
    assert in_flight(1) in read(tmp_path)["gw_1"]
    assert in_flight(13) in read(tmp_path)["gw_1"]


@pytest.mark.parametrize("room", [8, 100, 200])
def test_what_is_open_is_not_lost_when_it_cannot_be_written_anew(
    tmp_path: Path, disk: FullDisk, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    mine = Journal(tmp_path, "gw_1")
    for number in (1, 2, 3):
        sent(mine, number)
    monkeypatch.setattr(journal, "COMPACT_BYTES", 0)
    disk.room = room
    mine.settled([3])
    disk.room = None
    died(mine)
    assert read(tmp_path) == {"gw_1": [in_flight(1), in_flight(2)]}


async def test_a_request_that_cannot_be_written_down_is_refused_and_not_sent(tmp_path: Path, disk: FullDisk) -> None:
    chat = "/v1/chat/completions"
    async with a_stack(tmp_path) as stack:
        engine = await stack.engine()
        http = await stack.http()
        journals = tmp_path / "journals"
        before = disk._real
        path = next(journals.glob("*.journal"))

        def only_the_journal(fd: int, data: bytes) -> int:
            if os.fstat(fd).st_ino == path.stat().st_ino:
                raise OSError(errno.ENOSPC, "No space left on device")
            return before(fd, data)

        hold = engine.hold_at(0)
        running = stack.gateway.commitments.begin(
            http.request("POST", chat, body={"model": "general", "messages": HELLO})
        )
        await hold.reached()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", only_the_journal)
            answer = await http.request("POST", chat, body={"model": "general", "messages": HELLO})
            assert (answer.status, answer.json()["error"]["code"]) == (503, "budgets_unavailable")
            assert answer.json()["error"]["message"] == (
                "the gateway cannot write its journal (No space left on device), so nothing may be spent"
            )
            assert len(engine.requests) == 1
            # What runs already ends as always.
            hold.open.set()
            assert (await running).status == 200
        records = {record.status: record for record in await stack.records()}
        assert {status: record.completion_tokens for status, record in records.items()} == {"done": 4, "failed": 0}
        assert (await http.request("POST", chat, body={"model": "general", "messages": HELLO})).status == 200


def test_an_abandoned_journal_says_whose_it_was(mine: Journal, tmp_path: Path) -> None:
    died(mine)
    [left] = abandoned(tmp_path)
    assert isinstance(left, Abandoned)
    assert (left.owner, left.in_flight) == ("gw_1", [])
    left.done()
