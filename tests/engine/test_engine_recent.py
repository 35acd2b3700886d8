"""What an engine remembers of the latest requests, and since when it can say that one never came."""

import pytest

from stoker.engine import recent
from stoker.engine.recent import Ended, Recent


@pytest.fixture(autouse=True)
def two_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "KEPT", 2)


def test_what_came_is_known_and_until_something_is_forgotten_all_since_the_start_is() -> None:
    remembered = Recent(100.0)
    remembered.begin("req_1", Ended(1, 1), 101.0)
    remembered.begin("req_2", Ended(2, 2), 102.0)
    assert remembered.find("req_1") == Ended(1, 1)
    assert remembered.find("never came") is None
    assert remembered.since == 100.0


def test_of_what_came_before_one_was_forgotten_nobody_can_say_that_it_never_came() -> None:
    """Else a request that ran and was forgotten would be taken for one that cost nothing."""
    remembered = Recent(100.0)
    for number, now in ((1, 101.0), (2, 102.0), (3, 103.0)):
        remembered.begin(f"req_{number}", Ended(number, number), now)
    assert remembered.find("req_1") is None
    assert remembered.since == 103.0
    remembered.begin("req_4", Ended(4, 4), 104.0)
    assert remembered.since == 104.0


def test_one_that_comes_again_is_the_latest_and_drives_nobody_out() -> None:
    remembered = Recent(100.0)
    for request_id, now in (("req_1", 101.0), ("req_2", 102.0), ("req_1", 103.0)):
        remembered.begin(request_id, Ended(1, 1), now)
    assert remembered.since == 100.0
    remembered.begin("req_3", Ended(3, 3), 104.0)
    assert (remembered.find("req_2"), remembered.find("req_1")) == (None, Ended(1, 1))
