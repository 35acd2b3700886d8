"""What is seen of processes while they die and come back."""

import pytest
from drill_parts import SkippingClock

from stoker.base.errors import Conflict
from stoker.drill.observed import Kill
from stoker.drill.outside import Outside
from stoker.drill.processes import Process
from stoker.drill.watching import Watch


def a_watch() -> Watch:
    clock = SkippingClock()
    return Watch(lambda: (), Outside("http://127.0.0.1:1", "nobody", clock), "general", clock)


def worker(pid: int | None, state: str = "ready", *, name: str = "worker-general-1") -> Process:
    return Process(name, "worker", state, pid=pid, model="general")


def test_a_process_is_back_when_another_of_its_name_is_ready() -> None:
    watch = a_watch()
    killed = Kill("worker-general-1", 100, 10.0, 5)
    watch.see([worker(100)], 9.9)
    watch.kills.append(killed)

    # Dead, and the supervisor does not know it yet; then its successor starts.
    watch.see([worker(100)], 10.1)
    watch.see([worker(None, "waiting")], 10.3)
    watch.see([worker(101, "starting")], 10.6)
    assert killed.back_at is None
    watch.see([worker(101)], 11.0)

    assert (killed.back_at, killed.is_replaced) == (11.0, False)
    watch.see([worker(101)], 12.0)
    assert killed.back_at == 11.0
    assert round(watch.away_s["worker-general-1"], 6) == 0.7


def test_one_that_is_not_needed_any_more_is_replaced_by_another_that_does_the_same() -> None:
    watch = a_watch()
    killed = Kill("worker-general-2", 100, 10.0, 5)
    watch.kills.append(killed)

    watch.see([worker(None, "waiting", name="worker-general-2"), worker(50)], 10.1)
    assert killed.back_at is None
    watch.see([worker(7, name="worker-code-1")], 10.2)
    assert killed.back_at is None
    watch.see([worker(50)], 10.3)

    assert (killed.back_at, killed.is_replaced) == (10.3, True)


def test_a_gateway_is_never_replaced_by_something_else() -> None:
    watch = a_watch()
    killed = Kill("gateway", 100, 10.0, 5)
    watch.kills.append(killed)

    watch.see([Process("redis", "redis", "ready", pid=3)], 10.1)

    assert killed.back_at is None


def test_a_platform_of_which_nothing_runs_for_a_while_was_stopped() -> None:
    """For a moment nothing runs when all is killed at once."""
    watch = a_watch()
    watch.see([worker(100)], 10.0)
    watch.see([worker(None, "waiting")], 12.9)
    watch.see([worker(101, "starting")], 13.0)
    watch.see([worker(None, "stopped")], 15.9)

    with pytest.raises(Conflict) as gone:
        watch.see([worker(None, "stopped")], 16.0)

    assert gone.value.message == "the platform was stopped in the middle of the drill"
