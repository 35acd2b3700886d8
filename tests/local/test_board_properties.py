"""Whatever happens to the processes, in whatever order, the board keeps its promises."""

from effort import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stoker.local.board import STOP_ORDER, Board, Child, Kill, Retire, Role, Start, Status, Terminate

MORE = ("engine-2", "worker-2")
NAMES = ("redis", "engine", "worker", "gateway", *MORE)


class Machine(RuleBasedStateMachine):
    """A supervisor that does each decision at once, and processes that start, die, deafen and move as they like."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.pids = iter(range(1, 1_000_000))
        self.running: set[str] = set()
        self.board = Board(
            [
                Child("redis", Role.REDIS),
                Child("engine", Role.ENGINE, url="http://1"),
                Child("worker", Role.WORKER, uses=("redis", "engine")),
                Child("gateway", Role.GATEWAY, uses=("redis",)),
            ],
            now=0.0,
            backoff_s=lambda attempt: min(10.0, 0.5 * attempt),
        )
        self.act()

    def act(self) -> None:
        for _ in range(50):
            actions = self.board.decide(self.now)
            if not actions:
                self.board.forget()
                return
            match actions[0]:
                case Start(name):
                    assert name not in self.running
                    assert self.board.children[name].is_needed
                    assert self.board.stopping_at is None
                    self.running.add(name)
                    self.board.started(name, next(self.pids), self.board.urls_for(name) or {}, self.now)
                case Retire(name):
                    assert name in self.running
                    assert self.board.stopping_at is None
                    self.board.retired(name, self.now)
                case Terminate(name):
                    assert name in self.running
                    self.assert_phase(name)
                    is_unneeded = not self.board.children[name].is_needed and self.board.stopping_at is None
                    assert not (is_unneeded and name == "engine-2" and "worker-2" in self.running)
                    self.board.told(name, self.now)
                case Kill(name):
                    assert name in self.running
                    self.board.killed(name)
                    self.exit(name, "signal SIGKILL")
        raise AssertionError("the board never comes to rest")

    def assert_phase(self, name: str) -> None:
        """When the platform stops, nobody is asked to leave before those who use it are gone."""
        if self.board.stopping_at is None:
            return
        earlier = [role for phase in STOP_ORDER for role in phase][: self.rank(name)]
        assert not [other for other in self.running if self.board.children[other].role in earlier]

    def rank(self, name: str) -> int:
        phases = [len(phase) for phase in STOP_ORDER]
        number = next(i for i, phase in enumerate(STOP_ORDER) if self.board.children[name].role in phase)
        return sum(phases[:number])

    def exit(self, name: str, how: str) -> None:
        self.running.discard(name)
        self.board.exited(name, how, self.now)

    @rule(name=st.sampled_from(NAMES), url=st.sampled_from(["unix:///a", "unix:///b"]))
    def says_ready(self, name: str, url: str) -> None:
        if name in self.running:
            self.board.ready(name, url, self.now)
            self.act()

    @rule(name=st.sampled_from(NAMES))
    def dies(self, name: str) -> None:
        if name in self.running:
            self.exit(name, "exit code 1")
            self.act()

    @precondition(lambda self: self.board.stopping_at is None and not set(MORE) & set(self.board.children))
    @rule()
    def one_more_is_needed(self) -> None:
        self.board.add(Child("engine-2", Role.ENGINE, url="http://2"), self.now)
        self.board.add(Child("worker-2", Role.WORKER, uses=("redis", "engine-2"), finish_s=45.0), self.now)
        self.act()

    @precondition(lambda self: set(MORE) <= set(self.board.children))
    @rule()
    def it_is_not_needed_any_more(self) -> None:
        for name in MORE:
            self.board.retire(name)
        self.act()

    @rule(port=st.integers(1, 3))
    def engine_moves(self, port: int) -> None:
        if "engine" not in self.running:
            self.board.moved("engine", f"http://{port}")
            self.act()

    @rule(seconds=st.floats(0, 70))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.act()

    @precondition(lambda self: self.board.all_ready)
    @rule()
    def is_up(self) -> None:
        self.board.up()
        self.act()

    @precondition(lambda self: self.board.stopping_at is None)
    @rule(hurry=st.booleans())
    def stops(self, hurry: bool) -> None:
        self.board.stop(self.now, hurry=hurry)
        self.act()

    @invariant()
    def what_has_a_pid_is_what_runs(self) -> None:
        assert {name for name, child in self.board.children.items() if child.pid is not None} == self.running

    @invariant()
    def something_will_happen_or_nothing_is_left_to_do(self) -> None:
        """No lost wake-up: time alone always leads on, unless all is well, over, or given up."""
        if self.board.is_finished(self.now) or self.board.trouble(self.now) is not None:
            return
        wake_at = self.board.wake_at()
        assert wake_at is None or wake_at > self.now
        if wake_at is None and self.board.stopping_at is None:
            waiting = [c for c in self.board.children.values() if c.status is Status.WAITING]
            assert not [c for c in waiting if self.board.urls_for(c.name) is not None]

    def teardown(self) -> None:
        """However it stood: told to stop, it is over within ten seconds, though nobody heeds SIGTERM."""
        began = self.now
        self.board.stop(self.now)
        self.act()
        while not self.board.is_finished(self.now):
            wake_at = self.board.wake_at()
            assert wake_at is not None
            self.now = wake_at
            self.act()
        assert not self.running
        assert self.now - began <= 10.0


Machine.TestCase.settings = settings(max_examples=examples(50), stateful_step_count=40, deadline=None)
TestBoard = Machine.TestCase
