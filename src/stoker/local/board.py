"""What runs, and what to do next: the decisions of the supervisor, without a process, a clock or a signal.

The supervisor records facts (`started`, `ready`, `exited`, ...), asks `decide(now)` what to do, and does it. Times are
seconds of one monotonic clock, handed in.

Four rules carry everything:

1. A process is started when it is due and the URL of everything that it `uses` is known. So a worker waits for Redis,
   which says its URL when it is ready, and not for its engine, whose URL is known from the plan.
2. A process that was started with a URL that is no longer right is asked to leave, and started again with the new one.
3. A process that dies comes back after a backoff, for ever; only while the platform has not been up yet does a process
   that dies `tries` times in a row mean that the platform cannot start.
4. A process that is not needed any more (`retire`) finishes what it has and leaves, after those that use it. However it
   ends, it is not started again but forgotten.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    REDIS = "redis"
    ENGINE = "engine"
    WORKER = "worker"
    GATEWAY = "gateway"
    AGENTS = "agents"
    AGENT_WORKER = "agent-worker"


MOVABLE = frozenset({Role.ENGINE, Role.AGENTS})
"""Roles that listen where the plan says, at a port that only the platform's own processes know."""

SAY_THEIR_URL = frozenset({Role.REDIS, Role.WORKER, Role.AGENT_WORKER})
"""Roles that take a free port and say which; of workers, for /metrics."""


class Status(StrEnum):
    WAITING = "waiting"  # for a URL that it uses, or for its backoff to end
    STARTING = "starting"  # it has a pid and has not said that it is ready
    READY = "ready"
    STOPPING = "stopping"  # it was asked to leave, or finishes what it has and leaves then
    STOPPED = "stopped"  # it left because the platform stops


# Who takes requests leaves first, so that what it answers can still use what stands behind it; Redis leaves last,
# because it has to write down what the others did on their way out.
STOP_ORDER: tuple[frozenset[Role], ...] = (
    frozenset({Role.GATEWAY, Role.WORKER, Role.AGENTS, Role.AGENT_WORKER}),
    frozenset({Role.ENGINE}),
    frozenset({Role.REDIS}),
)


@dataclass(frozen=True)
class Limits:
    """Seconds, unless the name says otherwise. The graces add up to less than `stop_s`, and that to less than the 10 s
    within which `stoker up` promises to be gone."""

    ready_s: float = 60.0
    """A process that has not said that it is ready by then is killed, and counts as one that died."""
    startup_s: float = 120.0
    """A platform that is not up by then is stopped, with an error that names who was not ready."""
    tries: int = 3
    """Deaths in a row of one process, before the platform was ever up, that end the start."""
    well_s: float = 30.0
    """A process that was ready for as long as this starts its backoff anew when it dies."""
    grace_s: Mapping[Role, float] = field(
        default_factory=lambda: {
            **dict.fromkeys((Role.GATEWAY, Role.WORKER, Role.AGENTS, Role.AGENT_WORKER), 5.5),
            Role.ENGINE: 1.0,
            Role.REDIS: 2.5,
        }
    )
    """From SIGTERM to SIGKILL. The gateway lets answers end for 4 s, and then writes down what they used."""
    stop_s: float = 9.2
    """From the first SIGTERM of a stopping platform to SIGKILL for all that is left."""
    lost_s: float = 0.6
    """How long that SIGKILL is given; a process in uninterruptible sleep (a dead network disk) outlives it."""

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError(f"tries is {self.tries}; at least one is needed to start anything")
        needed = sum(max(self.grace_s[role] for role in phase) for phase in STOP_ORDER)
        if needed > self.stop_s:
            raise ValueError(f"the graces add up to {needed} s, more than stop_s ({self.stop_s} s)")


@dataclass(frozen=True)
class Start:
    name: str


@dataclass(frozen=True)
class Terminate:
    name: str


@dataclass(frozen=True)
class Kill:
    name: str


@dataclass(frozen=True)
class Retire:
    """Tell it to finish what it has and leave."""

    name: str


Action = Start | Terminate | Kill | Retire


@dataclass(frozen=True)
class Trouble:
    """Why a platform cannot start, and whose log says more."""

    why: str
    name: str | None


@dataclass
class Child:
    """One process of the plan. `pid` is None exactly while nothing runs under this name."""

    name: str
    role: Role
    uses: tuple[str, ...] = ()
    model: str | None = None
    url: str | None = None
    weights: str | None = None
    """Digest of what an engine was told to load; None: what comes with Stoker."""
    status: Status = Status.WAITING
    pid: int | None = None
    added_at: float = 0.0
    since: float = 0.0
    """When `status` began."""
    due: float = 0.0
    """Not started before then."""
    attempt: int = 0
    """Deaths in a row."""
    restarts: int = 0
    started_with: Mapping[str, str] = field(default_factory=dict)
    moments: Mapping[str, float] = field(default_factory=dict)
    """Of its start, as it said itself: seconds since the epoch (`starts.Moments`)."""
    told_at: float | None = None
    """When it was asked to leave."""
    finish_s: float | None = None
    """How long it may finish what it has once it is not needed; None: it is asked to leave at once."""
    is_needed: bool = True
    retired_at: float | None = None
    """When it was told to finish what it has."""
    was_killed: bool = False
    last_exit: str | None = None


class Board:
    def __init__(
        self, children: Iterable[Child], *, now: float, backoff_s: Callable[[int], float], limits: Limits | None = None
    ) -> None:
        self.children = {child.name: child for child in children}
        self.limits = limits or Limits()
        self.begun_at = now
        self.is_up = False
        self.stopping_at: float | None = None
        self.must_hurry = False
        self._backoff_s = backoff_s
        for child in self.children.values():
            child.added_at = child.since = child.due = now

    # Facts

    def urls_for(self, name: str) -> dict[str, str] | None:
        """The URLs that a process is started with: its own, if it is planned, and those of what it uses. None while
        one of these is not known."""
        child = self.children[name]
        own = {name: child.url} if child.role in MOVABLE and child.url else {}
        used = {other: self.children[other].url for other in child.uses}
        known = {other: url for other, url in used.items() if url is not None}
        return {**own, **known} if len(known) == len(used) else None

    def moved(self, name: str, url: str) -> None:
        """A process that is not running will listen somewhere else from now on."""
        self.children[name].url = url

    def started(self, name: str, pid: int, urls: Mapping[str, str], now: float) -> None:
        child = self.children[name]
        if child.last_exit is not None:
            child.restarts += 1
        child.pid, child.started_with, child.moments = pid, dict(urls), {}
        child.told_at, child.was_killed = None, False
        self._set(child, Status.STARTING, now)

    def ready(self, name: str, url: str | None, now: float, moments: Mapping[str, float] | None = None) -> None:
        """A process says that it is ready. A URL from the plan stands; others say their own with each start."""
        child = self.children[name]
        if child.status is Status.STARTING:
            child.url = url if child.role in SAY_THEIR_URL else child.url or url
            child.moments = moments or {}
            self._set(child, Status.READY, now)

    def add(self, child: Child, now: float) -> None:
        """One more process; a platform that stops does not start it any more."""
        child.added_at = child.since = child.due = now
        self.children[child.name] = child
        if self.stopping_at is not None:
            self._set(child, Status.STOPPED, now)

    def retire(self, name: str) -> None:
        """A process is not needed any more."""
        self.children[name].is_needed = False

    def forget(self) -> None:
        """Drop those that were not needed any more and are gone. Not while one of them is being started."""
        for child in list(self.children.values()):
            if not child.is_needed and child.pid is None:
                del self.children[child.name]

    def retired(self, name: str, now: float) -> None:
        child = self.children[name]
        child.retired_at = now
        self._set(child, Status.STOPPING, now)

    def up(self) -> None:
        """The gateway said that the platform answers: from now on nothing that dies is given up."""
        self.is_up = True

    def told(self, name: str, now: float) -> None:
        child = self.children[name]
        child.told_at = now
        self._set(child, Status.STOPPING, now)

    def killed(self, name: str) -> None:
        self.children[name].was_killed = True

    def exited(self, name: str, how: str, now: float) -> float | None:
        """Record that a process is gone, `how` in words. Returns the seconds until it is started again; None when it
        is not, because the platform stops or does not need it."""
        child = self.children[name]
        was_asked = child.told_at is not None
        ran_well = child.status is Status.READY and now - child.since >= self.limits.well_s
        if child.was_killed and child.status is Status.STARTING and self.stopping_at is None:
            how = f"killed, because it was not ready after {self.limits.ready_s:g} s"
        child.pid, child.last_exit = None, how
        if self.stopping_at is not None or not child.is_needed:
            self._set(child, Status.STOPPED, now)
            return None
        wait_s = 0.0
        if not was_asked:
            child.attempt = 1 if ran_well else child.attempt + 1
            wait_s = self._backoff_s(child.attempt)
        child.due = now + wait_s
        self._set(child, Status.WAITING, now)
        return wait_s

    def stop(self, now: float, *, hurry: bool = False) -> None:
        """The platform stops; with `hurry` nothing is waited for."""
        self.stopping_at = now if self.stopping_at is None else self.stopping_at
        self.must_hurry = self.must_hurry or hurry
        for child in self.children.values():
            if child.pid is None:
                self._set(child, Status.STOPPED, now)

    def _set(self, child: Child, status: Status, now: float) -> None:
        child.status, child.since = status, now

    # Questions

    @property
    def all_ready(self) -> bool:
        return all(child.status is Status.READY for child in self.children.values())

    def is_finished(self, now: float) -> bool:
        """Nothing is left, or nothing more can be done about what is."""
        if self.stopping_at is None:
            return False
        return not self._living() or now >= self.stopping_at + self.limits.stop_s + self.limits.lost_s

    def trouble(self, now: float) -> Trouble | None:
        """Why the platform cannot start; None once it was up, or while there is hope."""
        if self.is_up or self.stopping_at is not None:
            return None
        for child in self.children.values():
            if child.attempt >= self.limits.tries:
                why = f"{child.name} does not start: {child.last_exit}, {child.attempt} times in a row"
                return Trouble(why, child.name)
        if now >= self.begun_at + self.limits.startup_s:
            late = [
                f"{child.name} ({child.status})" for child in self.children.values() if child.status is not Status.READY
            ]
            who = ", ".join(late) or "the gateway knows no live replica of some model"
            return Trouble(f"the platform is not up after {self.limits.startup_s:g} s: {who}", None)
        return None

    # Decisions. Each moment is one sum of floats, here and in `wake_at`: a difference may round to the other side, and
    # then who wakes up at that moment finds nothing to do, for ever.

    def decide(self, now: float) -> list[Action]:
        """What to do now. Asked again with nothing done, it answers the same."""
        if self.stopping_at is not None:
            return self._decide_stop(now)
        actions: list[Action] = []
        for child in self.children.values():
            action = self._decide_one(child, now)
            if action is not None:
                actions.append(action)
        return actions

    def wake_at(self) -> float | None:
        """When `decide` may answer otherwise though nothing happens; None when only a happening can change it."""
        times = [self._wake_for(child) for child in self.children.values()]
        if self.stopping_at is not None:
            is_over = all(child.was_killed for child in self._living())
            times.append(self.stopping_at + self.limits.stop_s + (self.limits.lost_s if is_over else 0.0))
        elif self.stopping_at is None and not self.is_up:
            times.append(self.begun_at + self.limits.startup_s)
        return min((time for time in times if time is not None), default=None)

    def _wake_for(self, child: Child) -> float | None:
        if child.status is Status.WAITING:
            return child.due if self._may_start(child) else None
        if child.pid is None or child.was_killed:
            return None
        if child.told_at is not None:
            return child.told_at + self.limits.grace_s[child.role]
        if not child.is_needed:
            return None if child.retired_at is None else child.retired_at + (child.finish_s or 0.0)
        # A platform that stops does not ask whether somebody is ready in time.
        is_awaited = child.status is Status.STARTING and self.stopping_at is None
        return child.since + self.limits.ready_s if is_awaited else None

    def _living(self) -> list[Child]:
        return [child for child in self.children.values() if child.pid is not None]

    def _may_start(self, child: Child) -> bool:
        is_given_up = not self.is_up and child.attempt >= self.limits.tries
        return child.is_needed and self.urls_for(child.name) is not None and not is_given_up

    def _decide_one(self, child: Child, now: float) -> Action | None:
        if child.pid is None:
            return Start(child.name) if self._may_start(child) and now >= child.due else None
        if child.was_killed:
            return None
        if child.told_at is not None:
            return self._kill_after_grace(child, now)
        if not child.is_needed:
            return self._decide_unneeded(child, now)
        if child.status is Status.STARTING and now >= child.since + self.limits.ready_s:
            return Kill(child.name)
        urls = self.urls_for(child.name)
        if urls is not None and any(child.started_with.get(other) != url for other, url in urls.items()):
            return Terminate(child.name)
        return None

    def _decide_unneeded(self, child: Child, now: float) -> Action | None:
        if any(child.name in other.uses for other in self._living()):
            return None
        if child.finish_s is None:
            return Terminate(child.name)
        if child.retired_at is None:
            # One that is not ready has nothing to finish, and may not know the signal yet.
            return Retire(child.name) if child.status is Status.READY else Terminate(child.name)
        return Terminate(child.name) if now >= child.retired_at + child.finish_s else None

    def _decide_stop(self, now: float) -> list[Action]:
        living = self._living()
        if self.must_hurry or (self.stopping_at is not None and now >= self.stopping_at + self.limits.stop_s):
            return [Kill(child.name) for child in living if not child.was_killed]
        for phase in STOP_ORDER:
            leaving = [child for child in living if child.role in phase]
            if leaving:
                actions = [self._ask_to_leave(child, now) for child in leaving]
                # Of a later phase, but asked to leave before the platform was: its grace is as long as ever.
                actions += [self._kill_after_grace(child, now) for child in living if child not in leaving]
                return [action for action in actions if action is not None]
        return []

    def _ask_to_leave(self, child: Child, now: float) -> Action | None:
        return Terminate(child.name) if child.told_at is None else self._kill_after_grace(child, now)

    def _kill_after_grace(self, child: Child, now: float) -> Action | None:
        is_over = child.told_at is not None and now >= child.told_at + self.limits.grace_s[child.role]
        return Kill(child.name) if is_over and not child.was_killed else None
