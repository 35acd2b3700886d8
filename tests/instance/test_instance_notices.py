"""The watcher: whether there is anything to watch, and what stands after each look."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from stoker.instance import metadata
from stoker.instance.notices import FILE_POLL_S, Watcher, watcher
from stoker.policy.leaving import Notice
from stoker.spec import Spot
from stoker.testing import ManualClock
from stoker.testing.imds import FakeImds

UNHEARD = "no word from the instance metadata; no notice comes or goes by that"


@pytest.fixture
def imds(clock: ManualClock) -> Iterator[FakeImds]:
    with FakeImds(clock=clock) as made:
        yield made


class Watching:
    """Makes watchers as a worker's process does, and closes them."""

    def __init__(self, url: str, clock: ManualClock) -> None:
        self.environ = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url}
        self._clock = clock
        self._made: list[Watcher] = []

    def __call__(self, *, file: Path | None = None, **spot: Any) -> Watcher:
        made = watcher(Spot(**spot), file, self.environ, self._clock)
        assert made is not None
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close()


@pytest.fixture
async def watching(imds: FakeImds, clock: ManualClock) -> AsyncIterator[Watching]:
    made = Watching(imds.url, clock)
    yield made
    made.close()


def warnings(events: list[Any]) -> list[str]:
    return [event["event"] for event in events if event["log_level"] == "warning"]


async def test_a_notice_stands_until_two_looks_do_not_find_it(
    watching: Watching, imds: FakeImds, clock: ManualClock
) -> None:
    looking = watching()
    assert await looking.look() is None
    imds.notice("terminate", in_s=120)
    notice = Notice("terminate", clock.now() + 120)
    assert [await looking.look() for _ in range(2)] == [notice, notice]
    imds.withdraw()
    assert [await looking.look() for _ in range(3)] == [notice, None, None]
    imds.notice("hibernate", in_s=0)
    assert await looking.look() == Notice("hibernate", clock.now())


# --- whether to watch -------------------------------------------------------------------------------------------------


async def test_auto_watches_a_spot_instance_and_says_so_once(watching: Watching, imds: FakeImds) -> None:
    with capture_logs() as events:
        looking = watching()
        for _ in range(3):
            await looking.look()
    assert not looking.is_over
    assert [event["event"] for event in events] == ["watching for spot notices"]
    assert (imds.asked("instance-life-cycle"), imds.asked("spot/instance-action")) == (1, 3)


async def test_auto_leaves_an_instance_alone_that_is_not_spot(watching: Watching, imds: FakeImds) -> None:
    imds.say("instance-life-cycle", "on-demand")
    imds.notice()
    with capture_logs() as events:
        looking = watching()
        assert await looking.look() is None
    assert looking.is_over
    assert events == []
    assert imds.asked("spot/instance-action") == 0


async def test_a_laptop_pays_one_connection_that_fails_and_then_silence(watching: Watching) -> None:
    with FakeImds() as gone:
        watching.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = gone.url
    with capture_logs() as events:
        looking = watching()
        assert await looking.look() is None
    assert looking.is_over
    assert events == []


async def test_auto_leaves_another_clouds_metadata_alone(watching: Watching, imds: FakeImds) -> None:
    imds.fail(404, path="/latest/api/token")
    looking = watching()
    assert await looking.look() is None
    assert looking.is_over


async def test_a_spot_instance_whose_metadata_fails_at_first_is_watched_when_it_answers(
    watching: Watching, imds: FakeImds
) -> None:
    imds.fail(503, times=2)
    imds.notice()
    looking = watching()
    with capture_logs() as events:
        found = [await looking.look() for _ in range(3)]
    assert [notice is not None for notice in found] == [False, False, True]
    assert warnings(events) == [UNHEARD]
    assert not looking.is_over


async def test_beyond_the_hop_limit_it_says_once_what_to_do_and_goes_on_trying(
    watching: Watching, imds: FakeImds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "TIMEOUT_S", 0.05)
    imds.tokens_arrive = False
    imds.notice()
    looking = watching()
    with capture_logs() as events:
        assert [await looking.look() for _ in range(3)] == [None, None, None]
    [warned] = events
    assert "httpPutResponseHopLimit to 2" in warned["hint"]
    imds.tokens_arrive = True
    monkeypatch.undo()
    assert await looking.look() is not None


async def test_on_watches_whatever_the_instance_is(watching: Watching, imds: FakeImds) -> None:
    imds.say("instance-life-cycle", "on-demand")
    imds.notice()
    assert await watching(watch=True).look() is not None
    assert imds.asked("instance-life-cycle") == 0


def test_off_and_the_variable_of_aws_watch_nothing(clock: ManualClock) -> None:
    assert watcher(Spot(watch=False), None, {}, clock) is None
    assert watcher(Spot(watch=True), None, {"AWS_EC2_METADATA_DISABLED": "true"}, clock) is None


# --- silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503, 429, 403, None])
async def test_a_service_that_fails_gives_no_notice_and_takes_none(
    watching: Watching, imds: FakeImds, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    monkeypatch.setattr(metadata, "TIMEOUT_S", 0.2)
    looking = watching()
    assert await looking.look() is None
    imds.fail(status)
    with capture_logs() as events:
        assert [await looking.look() for _ in range(3)] == [None, None, None]
    assert warnings(events) == [UNHEARD]
    imds.mend()
    imds.notice()
    standing = await looking.look()
    assert standing is not None
    imds.fail(status)
    with capture_logs() as events:
        assert [await looking.look() for _ in range(3)] == [standing, standing, standing]
    assert warnings(events) == [UNHEARD]
    assert not looking.is_over


async def test_a_service_that_is_gone_takes_no_notice_with_it(watching: Watching, clock: ManualClock) -> None:
    with FakeImds(clock=clock) as imds:
        watching.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = imds.url
        looking = watching()
        imds.notice()
        standing = await looking.look()
    assert standing is not None
    assert [await looking.look() for _ in range(3)] == [standing, standing, standing]


async def test_nonsense_is_warned_of_and_neither_gives_nor_takes_a_notice(watching: Watching, imds: FakeImds) -> None:
    looking = watching(watch=True)
    imds.say("spot/instance-action", '{"action": "dance"}')
    with capture_logs() as events:
        assert await looking.look() is None
    assert events[0]["error"] == "the instance metadata service gives notice of an action that is none: 'dance'"
    imds.notice()
    standing = await looking.look()
    assert standing is not None
    imds.say("spot/instance-action", "gone?")
    assert [await looking.look() for _ in range(3)] == [standing, standing, standing]


# --- rebalancing ------------------------------------------------------------------------------------------------------


async def test_a_recommendation_is_logged_once_and_else_ignored(watching: Watching, imds: FakeImds) -> None:
    looking = watching()
    imds.rebalance()
    with capture_logs() as events:
        assert [await looking.look() for _ in range(3)] == [None, None, None]
    assert [event for event in events if event["event"] == "rebalance recommended"] == [
        {"event": "rebalance recommended", "since": "2023-11-14T22:13:20Z", "leaves": False, "log_level": "info"}
        | {"source": "stoker.instance.notices"}
    ]


async def test_a_recommendation_is_followed_where_that_is_asked_for(
    watching: Watching, imds: FakeImds, clock: ManualClock
) -> None:
    looking = watching(on_rebalance="leave")
    imds.rebalance()
    assert await looking.look() == Notice("rebalance")
    imds.notice("stop", in_s=120)
    assert await looking.look() == Notice("stop", clock.now() + 120)  # which is the more urgent
    imds.withdraw()
    assert [await looking.look() for _ in range(2)] == [Notice("stop", clock.now() + 120), None]


async def test_recommendations_that_fail_hide_no_notice(watching: Watching, imds: FakeImds) -> None:
    looking = watching()
    imds.fail(500, path="/latest/meta-data/events")
    with capture_logs() as events:
        assert await looking.look() is None
        imds.notice()
        assert await looking.look() is not None
        imds.withdraw()
        assert [await looking.look() is None for _ in range(2)] == [False, True]
    assert warnings(events) == []


# --- by file ----------------------------------------------------------------------------------------------------------


async def test_a_file_names_the_service_as_long_as_it_is_there(
    watching: Watching, imds: FakeImds, clock: ManualClock, tmp_path: Path
) -> None:
    file = tmp_path / "worker-general-1"
    looking = watching(file=file, watch=False)  # a file counts for more
    assert looking.poll_s == FILE_POLL_S
    imds.say("instance-life-cycle", "on-demand")
    imds.notice("terminate", in_s=120)
    assert await looking.look() is None
    assert imds.requests == []  # the instance's own is not asked
    file.write_text(f"{imds.url}\n")
    notice = Notice("terminate", clock.now() + 120)
    assert await looking.look() == notice
    file.unlink()  # a new instance, of which no notice was given
    assert [await looking.look() for _ in range(2)] == [notice, None]
    assert not looking.is_over
    with FakeImds(clock=clock) as other:
        other.notice("stop", in_s=60)
        file.write_text(other.url)
        assert await looking.look() == Notice("stop", clock.now() + 60)


@pytest.mark.parametrize("content", [b"", b"not a url", b"\xff\xfe", b"http://127.0.0.1:1", b"x" * 10_000])
async def test_a_file_that_names_no_service_is_no_notice_and_withdraws_none(
    watching: Watching, imds: FakeImds, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "worker-general-1"
    file.write_bytes(content)
    looking = watching(file=file)
    with capture_logs() as events:
        assert [await looking.look() for _ in range(3)] == [None, None, None]
    assert warnings(events) == [UNHEARD]
    imds.notice()
    file.write_text(imds.url)
    standing = await looking.look()
    assert standing is not None
    file.write_bytes(content)
    assert [await looking.look() for _ in range(3)] == [standing, standing, standing]
