"""What the supervisor decides, in numbers: no process, no clock."""

import pytest

from stoker.local.board import Board, Child, Kill, Limits, Retire, Role, Start, Status, Terminate, Trouble

ENGINE = "http://127.0.0.1:7001"
REDIS = "unix:///state/redis/redis.sock"


def platform(limits: Limits | None = None) -> Board:
    """Redis, one engine with its worker, and the gateway; backoff of 1, 2, 4... seconds."""
    return Board(
        [
            Child("redis", Role.REDIS),
            Child("engine-general-1", Role.ENGINE, url=ENGINE, model="general"),
            Child("worker-general-1", Role.WORKER, uses=("redis", "engine-general-1"), model="general"),
            Child("gateway", Role.GATEWAY, uses=("redis",), url="http://127.0.0.1:8080"),
        ],
        now=0.0,
        backoff_s=lambda attempt: 2.0 ** (attempt - 1),
        limits=limits,
    )


def act(board: Board, now: float) -> list[str]:
    """Do what the board decides, as the supervisor does, and say what it was."""
    done: list[str] = []
    while actions := board.decide(now):
        match actions[0]:
            case Start(name):
                board.started(name, 1000 + len(done), board.urls_for(name) or {}, now)
                done.append(f"start {name}")
            case Retire(name):
                board.retired(name, now)
                done.append(f"retire {name}")
            case Terminate(name):
                board.told(name, now)
                done.append(f"terminate {name}")
            case Kill(name):
                board.killed(name)
                done.append(f"kill {name}")
    return done


def running(limits: Limits | None = None) -> Board:
    """A platform that is up at time 1."""
    board = platform(limits)
    act(board, 0.0)
    board.ready("redis", REDIS, 0.5)
    act(board, 0.5)
    for name in ("engine-general-1", "worker-general-1", "gateway"):
        board.ready(name, None, 1.0)
    board.up()
    return board


def test_redis_and_engines_start_first_and_what_uses_redis_waits_for_its_url() -> None:
    board = platform()

    assert act(board, 0.0) == ["start redis", "start engine-general-1"]
    assert act(board, 0.4) == []
    board.ready("redis", REDIS, 0.5)
    assert act(board, 0.5) == ["start worker-general-1", "start gateway"]
    assert board.children["worker-general-1"].started_with == {"redis": REDIS, "engine-general-1": ENGINE}
    assert not board.all_ready


def test_deciding_changes_nothing() -> None:
    board = platform()

    assert board.decide(0.0) == board.decide(0.0) == [Start("redis"), Start("engine-general-1")]


def test_everything_is_ready_only_when_each_process_said_so() -> None:
    board = running()

    assert board.all_ready
    board.exited("engine-general-1", "signal SIGKILL", 2.0)
    assert not board.all_ready


def test_what_dies_comes_back_after_a_backoff_that_grows_with_each_death() -> None:
    board = running()

    waits = []
    now = 2.0
    for _ in range(3):
        wait_s = board.exited("engine-general-1", "signal SIGKILL", now)
        assert wait_s is not None
        waits.append(wait_s)
        assert act(board, now + wait_s - 0.01) == []
        assert board.wake_at() == now + wait_s
        now += wait_s
        assert act(board, now) == ["start engine-general-1"]
    assert waits == [1.0, 2.0, 4.0]
    assert board.children["engine-general-1"].restarts == 3
    assert board.children["engine-general-1"].last_exit == "signal SIGKILL"


def test_backoff_begins_anew_after_a_process_ran_well() -> None:
    board = running(Limits(well_s=30.0))
    board.exited("gateway", "exit code 1", 2.0)
    act(board, 3.0)
    board.ready("gateway", None, 4.0)

    assert board.exited("gateway", "exit code 1", 33.9) == 2.0
    act(board, 36.0)
    board.ready("gateway", None, 36.0)
    assert board.exited("gateway", "exit code 1", 66.0) == 1.0


def test_nothing_is_given_up_once_the_platform_was_up() -> None:
    board = running()
    now = 2.0
    for _ in range(20):
        now += board.exited("engine-general-1", "exit code 1", now) or 0.0
        act(board, now)

    assert board.trouble(now) is None
    assert board.children["engine-general-1"].restarts == 20


def test_a_process_that_keeps_dying_while_the_platform_starts_ends_the_start() -> None:
    board = platform(Limits(tries=3))
    now = 0.0
    for _ in range(2):
        act(board, now)
        now += board.exited("engine-general-1", "exit code 7", now) or 0.0
        assert board.trouble(now) is None
    act(board, now)
    board.exited("engine-general-1", "exit code 7", now)

    why = "engine-general-1 does not start: exit code 7, 3 times in a row"
    assert board.trouble(now) == Trouble(why, "engine-general-1")
    assert "start engine-general-1" not in act(board, now + 60.0)


def test_a_platform_that_is_not_up_in_time_says_who_was_not_ready() -> None:
    board = platform(Limits(startup_s=120.0))
    act(board, 0.0)
    board.ready("redis", REDIS, 1.0)
    act(board, 1.0)
    board.ready("worker-general-1", None, 2.0)
    board.ready("gateway", None, 2.0)

    assert board.trouble(119.9) is None
    why = "the platform is not up after 120 s: engine-general-1 (starting)"
    assert board.trouble(120.0) == Trouble(why, None)


def test_a_process_that_never_gets_ready_is_killed_and_counts_as_one_that_died() -> None:
    board = platform(Limits(ready_s=60.0))
    act(board, 0.0)
    board.ready("redis", REDIS, 1.0)
    act(board, 1.0)

    assert board.wake_at() == 60.0
    assert act(board, 59.9) == []
    assert act(board, 60.0) == ["kill engine-general-1"]
    assert act(board, 60.1) == []
    assert board.exited("engine-general-1", "signal SIGKILL", 60.2) == 1.0
    assert board.children["engine-general-1"].last_exit == "killed, because it was not ready after 60 s"


def test_an_engine_that_moves_takes_its_worker_with_it() -> None:
    board = running()
    board.exited("engine-general-1", "exit code 2", 2.0)
    board.moved("engine-general-1", "http://127.0.0.1:7002")

    assert act(board, 2.0) == ["terminate worker-general-1"]
    assert board.exited("worker-general-1", "exit code 0", 2.5) == 0.0
    assert act(board, 2.5) == ["start worker-general-1"]
    assert board.children["worker-general-1"].started_with["engine-general-1"] == "http://127.0.0.1:7002"
    assert board.children["worker-general-1"].attempt == 0
    assert act(board, 3.0) == ["start engine-general-1"]


def test_who_uses_redis_stays_when_it_comes_back_at_the_same_url_and_restarts_when_not() -> None:
    board = running()
    board.exited("redis", "signal SIGKILL", 2.0)
    assert act(board, 3.0) == ["start redis"]
    board.ready("redis", REDIS, 3.5)
    assert act(board, 3.5) == []

    board.exited("redis", "signal SIGKILL", 4.0)
    act(board, 6.0)
    board.ready("redis", "redis://127.0.0.1:9999", 6.5)
    assert act(board, 6.5) == ["terminate worker-general-1", "terminate gateway"]


def test_a_platform_that_stops_does_not_wake_up_for_who_would_have_been_late() -> None:
    """It would find nothing to do at that moment, and look again at once, until the others have left."""
    board = running(Limits(ready_s=60.0))
    board.exited("redis", "signal SIGKILL", 2.0)
    assert act(board, 3.0) == ["start redis"]
    board.stop(62.9)
    assert act(board, 62.9) == ["terminate worker-general-1", "terminate gateway"]
    wake_at = board.wake_at()
    assert wake_at is not None
    assert wake_at > 63.0  # when Redis would have had to be ready
    assert act(board, wake_at) != []


def test_who_was_asked_to_leave_before_the_platform_was_has_no_more_than_its_grace() -> None:
    board = running(Limits(grace_s=dict.fromkeys(Role, 2.0)))
    board.told("engine-general-1", 9.0)
    board.stop(10.0)
    assert act(board, 10.0) == ["terminate worker-general-1", "terminate gateway"]
    assert board.wake_at() == 11.0
    assert act(board, 11.0) == ["kill engine-general-1"]


def test_stopping_lets_gateway_and_workers_leave_first_and_redis_last() -> None:
    board = running()
    board.stop(10.0)

    assert act(board, 10.0) == ["terminate worker-general-1", "terminate gateway"]
    board.exited("gateway", "exit code 0", 10.2)
    assert act(board, 10.2) == []
    board.exited("worker-general-1", "exit code 0", 10.5)
    assert act(board, 10.5) == ["terminate engine-general-1"]
    board.exited("engine-general-1", "exit code 0", 10.7)
    assert act(board, 10.7) == ["terminate redis"]
    assert not board.is_finished(10.8)
    board.exited("redis", "exit code 0", 10.9)
    assert board.is_finished(10.9)
    assert {child.status for child in board.children.values()} == {Status.STOPPED}


def test_who_does_not_leave_is_killed_at_its_deadline_and_everything_within_ten_seconds() -> None:
    """Nobody reacts to SIGTERM: the deadlines alone decide."""
    board = running()
    board.stop(10.0)
    now, said = 10.0, []
    while not board.is_finished(now):
        for done in act(board, now):
            said.append((now, done))
            if done.startswith("kill"):
                board.exited(done.removeprefix("kill "), "signal SIGKILL", now)
        if not board.is_finished(now) and not board.decide(now):
            now = board.wake_at() or now

    assert said == [
        (10.0, "terminate worker-general-1"),
        (10.0, "terminate gateway"),
        (15.5, "kill worker-general-1"),
        (15.5, "kill gateway"),
        (15.5, "terminate engine-general-1"),
        (16.5, "kill engine-general-1"),
        (16.5, "terminate redis"),
        (19.0, "kill redis"),
    ]


def test_a_second_signal_kills_everything_at_once() -> None:
    board = running()
    board.stop(10.0)
    act(board, 10.0)
    board.stop(10.1, hurry=True)

    assert act(board, 10.1) == [
        "kill redis",
        "kill engine-general-1",
        "kill worker-general-1",
        "kill gateway",
    ]
    assert act(board, 10.1) == []


def test_a_process_that_even_sigkill_does_not_end_is_not_waited_for_beyond_ten_seconds() -> None:
    board = running()
    board.stop(10.0, hurry=True)
    act(board, 10.0)

    assert board.wake_at() == pytest.approx(19.8)
    assert not board.is_finished(19.7)
    assert board.is_finished(19.8)


def test_what_dies_while_the_platform_stops_stays_away() -> None:
    board = running()
    board.exited("engine-general-1", "signal SIGKILL", 9.0)
    board.stop(9.5)

    assert board.children["engine-general-1"].status is Status.STOPPED
    act(board, 9.5)
    assert board.exited("gateway", "exit code 1", 9.6) is None
    assert "start" not in " ".join(act(board, 30.0))


def test_stopping_before_anything_runs_is_finished_at_once() -> None:
    board = platform()
    board.stop(0.0)

    assert board.is_finished(0.0)
    assert board.decide(0.0) == []


def test_limits_that_break_the_promise_of_ten_seconds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"graces add up to 15.0 s, more than stop_s \(9.2 s\)"):
        Limits(grace_s=dict.fromkeys(Role, 5.0))


# --- replicas that come and go ----------------------------------------------------------------------------------------

ENGINE_2 = "http://127.0.0.1:7002"
PAIR = ["worker-general-2", "engine-general-2"]


def with_another(now: float = 10.0) -> Board:
    """A platform that is up, and a second replica of its model that is ready; it may finish for 60 s."""
    board = running()
    worker = Child("worker-general-2", Role.WORKER, uses=("redis", "engine-general-2"), model="general", finish_s=60.0)
    board.add(Child("engine-general-2", Role.ENGINE, url=ENGINE_2, model="general"), now)
    board.add(worker, now)
    assert act(board, now) == ["start engine-general-2", "start worker-general-2"]
    for name in PAIR:
        board.ready(name, None, now)
    return board


def not_needed(board: Board) -> None:
    for name in PAIR:
        board.retire(name)


def test_a_worker_that_is_not_needed_finishes_first_and_then_its_engine_leaves() -> None:
    board = with_another()
    not_needed(board)

    assert act(board, 20.0) == ["retire worker-general-2"]
    assert board.children["worker-general-2"].status is Status.STOPPING
    assert act(board, 79.9) == []
    board.exited("worker-general-2", "exit code 0", 79.9)
    assert act(board, 79.9) == ["terminate engine-general-2"]
    board.exited("engine-general-2", "exit code 0", 80.0)
    board.forget()
    assert [name for name in PAIR if name in board.children] == []
    assert (act(board, 100.0), board.wake_at()) == ([], None)


def test_who_does_not_finish_in_time_is_asked_to_leave_and_then_killed() -> None:
    board = with_another()
    not_needed(board)
    act(board, 20.0)

    assert board.wake_at() == 80.0
    assert act(board, 80.0) == ["terminate worker-general-2"]
    assert board.wake_at() == 85.5
    assert act(board, 85.5) == ["kill worker-general-2"]


def test_what_is_not_needed_does_not_come_back_when_it_dies() -> None:
    board = with_another()
    not_needed(board)
    act(board, 20.0)

    assert board.exited("engine-general-2", "signal SIGKILL", 21.0) is None
    assert act(board, 1000.0) == ["terminate worker-general-2"]  # it finishes what it can
    assert board.exited("worker-general-2", "signal SIGKILL", 1000.0) is None
    board.forget()
    assert act(board, 1000.0) == []


def test_a_worker_that_never_was_ready_is_asked_to_leave_at_once() -> None:
    """It has nothing, and may not know the other signal yet."""
    board = running()
    worker = Child("worker-general-2", Role.WORKER, uses=("redis",), model="general", finish_s=60.0)
    board.add(worker, 10.0)
    act(board, 10.0)
    board.retire("worker-general-2")

    assert act(board, 11.0) == ["terminate worker-general-2"]


def test_a_platform_that_stops_does_not_wait_for_who_finishes() -> None:
    board = with_another()
    not_needed(board)
    act(board, 20.0)
    board.stop(21.0)

    assert "terminate worker-general-2" in act(board, 21.0)
    assert board.wake_at() == 26.5


def test_what_is_added_to_a_platform_that_stops_is_not_started() -> None:
    board = running()
    board.stop(10.0)
    board.add(Child("engine-general-2", Role.ENGINE, url=ENGINE_2, model="general"), 11.0)

    assert board.children["engine-general-2"].status is Status.STOPPED
    assert "start engine-general-2" not in act(board, 11.0)


# Agents


def with_agents() -> Board:
    """Before anything has started."""
    return Board(
        [
            Child("redis", Role.REDIS),
            Child("agents", Role.AGENTS, uses=("redis",), url="http://127.0.0.1:7001"),
            Child("worker-agents-1", Role.AGENT_WORKER, uses=("redis",), model="agents", finish_s=60.0),
            Child("gateway", Role.GATEWAY, uses=("redis", "agents"), url="http://127.0.0.1:8080"),
        ],
        now=0.0,
        backoff_s=lambda attempt: 1.0,
    )


def test_agents_that_move_take_the_gateway_with_them() -> None:
    board = with_agents()
    act(board, 0.0)
    board.ready("redis", REDIS, 0.5)
    assert act(board, 0.5) == ["start agents", "start worker-agents-1", "start gateway"]
    board.exited("agents", "signal SIGKILL", 2.0)
    board.moved("agents", "http://127.0.0.1:7999")

    assert act(board, 3.0) == ["start agents", "terminate gateway"]
    assert board.urls_for("agents") == {"agents": "http://127.0.0.1:7999", "redis": REDIS}


def test_agents_and_their_workers_leave_with_the_gateway_and_redis_after_them() -> None:
    board = with_agents()
    act(board, 0.0)
    board.ready("redis", REDIS, 0.5)
    act(board, 0.5)
    board.stop(10.0)

    assert act(board, 10.0) == ["terminate agents", "terminate worker-agents-1", "terminate gateway"]
    for name in ("agents", "worker-agents-1", "gateway"):
        board.exited(name, "exit code 0", 11.0)
    assert act(board, 11.0) == ["terminate redis"]
