"""The client of instance metadata, and the fake that it talks to over real HTTP."""

import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator

import pytest

from stoker.base.errors import InvalidInput, StokerError, TimedOut, Unreachable, UpstreamError
from stoker.instance import metadata
from stoker.instance.metadata import Metadata, endpoint
from stoker.policy.leaving import Notice
from stoker.testing import ManualClock
from stoker.testing.imds import FakeImds

TOKEN = "x-aws-ec2-metadata-token"
TTL = "x-aws-ec2-metadata-token-ttl-seconds"


@pytest.fixture
def imds(clock: ManualClock) -> Iterator[FakeImds]:
    with FakeImds(clock=clock) as made:
        yield made


@pytest.fixture
async def client(imds: FakeImds, clock: ManualClock) -> AsyncIterator[Metadata]:
    made = Metadata(imds.url, clock=clock)
    yield made
    made.close()


def ask(imds: FakeImds, method: str, path: str, **headers: str) -> tuple[int, str]:
    """As somebody who is not our client would."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        request = urllib.request.Request(imds.url + path, headers=sent, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def token_of(imds: FakeImds, ttl_s: int = 60) -> str:
    status, token = ask(imds, "PUT", "/latest/api/token", **{TTL: str(ttl_s)})
    assert status == 200
    return token


# --- the fake: as strict as the real one ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "status"),
    [("1", 200), ("21600", 200), ("0", 400), ("21601", 400), ("-1", 400), ("soon", 400), ("", 400), ("٣", 400)],
)
def test_a_token_is_given_for_one_second_to_six_hours(imds: FakeImds, ttl: str, status: int) -> None:
    assert ask(imds, "PUT", "/latest/api/token", **{TTL: ttl.encode().decode("latin-1")})[0] == status


def test_a_token_is_not_given_without_a_lifetime_through_a_proxy_or_to_a_get(imds: FakeImds) -> None:
    assert ask(imds, "PUT", "/latest/api/token")[0] == 400
    assert ask(imds, "PUT", "/latest/api/token", **{TTL: "60", "x-forwarded-for": "10.0.0.1"})[0] == 403
    assert ask(imds, "GET", "/latest/api/token", **{TTL: "60"})[0] == 405
    assert [request.status for request in imds.requests] == [400, 403, 405]


def test_nothing_is_said_without_a_token_that_is_valid(imds: FakeImds, clock: ManualClock) -> None:
    path = "/latest/meta-data/instance-type"
    assert ask(imds, "GET", path)[0] == 401
    assert ask(imds, "GET", path, **{TOKEN: "guessed"})[0] == 401
    token = token_of(imds, ttl_s=60)
    clock._now += 59.5
    assert ask(imds, "GET", path, **{TOKEN: token}) == (200, "g5.xlarge")
    clock._now += 0.5
    assert ask(imds, "GET", path, **{TOKEN: token})[0] == 401
    imds.expire_tokens()
    assert ask(imds, "PUT", path, **{TOKEN: token})[0] == 405


def test_what_it_says_is_what_it_was_told(imds: FakeImds) -> None:
    token = token_of(imds)

    def said(path: str) -> tuple[int, str]:
        return ask(imds, "GET", f"/latest/meta-data/{path}", **{TOKEN: token})

    facts = ("instance-life-cycle", "instance-type", "instance-id", "placement/availability-zone")
    assert [said(path)[1] for path in facts] == ["spot", "g5.xlarge", "i-0123456789abcdef0", "us-west-2a"]
    signs = ("spot/instance-action", "spot/termination-time", "events/recommendations/rebalance", "nothing/here")
    assert [said(path)[0] for path in signs] == [404, 404, 404, 404]
    assert said("events/maintenance/scheduled") == (200, "[]")

    imds.notice("terminate", in_s=120)
    imds.rebalance()
    imds.maintenance.append({"Code": "instance-stop", "State": "active"})
    assert json.loads(said("spot/instance-action")[1]) == {"action": "terminate", "time": "2023-11-14T22:15:20Z"}
    assert said("spot/termination-time") == (200, "2023-11-14T22:15:20Z")
    assert json.loads(said("events/recommendations/rebalance")[1]) == {"noticeTime": "2023-11-14T22:13:20Z"}
    assert json.loads(said("events/maintenance/scheduled")[1]) == [{"Code": "instance-stop", "State": "active"}]
    assert imds.asked("spot/termination-time") == 2

    imds.notice("hibernate", in_s=0)
    assert [said(path)[0] for path in signs[:3]] == [200, 404, 200]  # the plain time is of terminate alone
    imds.withdraw()
    assert [said(path)[0] for path in signs] == [404, 404, 404, 404]


# --- the client -----------------------------------------------------------------------------------------------------


async def test_what_the_instance_says(client: Metadata, imds: FakeImds, clock: ManualClock) -> None:
    assert await client.life_cycle() == "spot"
    assert await client.notice() is None
    assert await client.rebalance() is None
    imds.notice("stop", in_s=120)
    imds.rebalance()
    assert await client.notice() == Notice("stop", clock.now() + 120)
    assert await client.rebalance() == "2023-11-14T22:13:20Z"
    assert imds.tokens_given == 1
    [put, *gets] = imds.requests
    assert put.headers[TTL] == "21600"
    assert {request.status for request in gets} == {200, 404}


async def test_a_token_is_renewed_before_its_end(client: Metadata, imds: FakeImds, clock: ManualClock) -> None:
    await client.notice()
    await clock.advance(21600 - 301)
    await client.notice()
    assert imds.tokens_given == 1
    await clock.advance(1)
    await client.notice()
    assert imds.tokens_given == 2
    assert 401 not in [request.status for request in imds.requests]


async def test_a_token_that_cannot_be_renewed_is_used_to_its_end(
    client: Metadata, imds: FakeImds, clock: ManualClock
) -> None:
    await client.notice()
    imds.fail(503, path="/latest/api/token")
    imds.notice()
    await clock.advance(21600 - 100)
    assert await client.notice() is not None
    await clock.advance(100)
    with pytest.raises(UpstreamError, match="gave no token \\(status 503\\)"):
        await client.notice()
    imds.mend()
    assert await client.notice() is not None


async def test_a_token_that_is_refused_is_replaced_at_once(client: Metadata, imds: FakeImds) -> None:
    await client.notice()
    imds.notice()
    imds.expire_tokens()
    found = await client.notice()
    assert found is not None
    assert [(request.method, request.status) for request in imds.requests[2:]] == [
        ("GET", 401),
        ("PUT", 200),
        ("GET", 200),
    ]


async def test_a_service_that_refuses_every_token_is_asked_twice_and_not_for_ever(
    client: Metadata, imds: FakeImds
) -> None:
    imds.fail(401, path="/latest/meta-data/")
    with pytest.raises(UpstreamError, match="answered with status 401"):
        await client.notice()
    assert [request.method for request in imds.requests] == ["PUT", "GET", "PUT", "GET"]


async def test_beyond_the_hop_limit_the_token_never_arrives_and_the_error_says_what_to_do(
    client: Metadata, imds: FakeImds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "TIMEOUT_S", 0.05)
    imds.tokens_arrive = False
    with pytest.raises(TimedOut, match="took the connection and gave no token") as caught:
        await client.notice()
    assert "httpPutResponseHopLimit to 2" in (caught.value.hint or "")


async def test_a_service_that_hangs_is_waited_for_briefly(
    client: Metadata, imds: FakeImds, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.life_cycle()
    monkeypatch.setattr(metadata, "TIMEOUT_S", 0.05)
    imds.fail(None, path="/latest/meta-data/spot", times=1)
    with pytest.raises(TimedOut, match="did not answer within"):
        await client.notice()
    assert await client.notice() is None


async def test_where_nobody_is_nothing_is_reached(clock: ManualClock) -> None:
    with FakeImds() as gone:
        pass
    client = Metadata(gone.url, clock=clock)
    with pytest.raises(Unreachable):
        await client.life_cycle()
    client.close()


@pytest.mark.parametrize(
    "said",
    [
        "",
        "soon",
        "[]",
        "null",
        '"terminate"',
        "{}",
        '{"action": "rebalance", "time": "2023-11-14T22:15:20Z"}',
        '{"action": ["terminate"]}',
        '{"action": "dance"}',
        '{"action": null}',
        "\x00\xff",
        "<html>",
        "x" * 100_000,
        "[" * 10_000,
    ],
)
async def test_nonsense_is_no_notice(client: Metadata, imds: FakeImds, said: str) -> None:
    imds.say("spot/instance-action", said)
    with pytest.raises(UpstreamError):
        await client.notice()
    imds.withdraw()
    assert await client.notice() is None  # and spoils no connection


@pytest.mark.parametrize(
    "time", ["soon", "", None, 12, {"at": 1}, "2023-13-45T00:00:00Z", "0001-01-01T00:00:00+14:00", "9" * 5000]
)
async def test_a_time_that_cannot_be_read_is_a_notice_all_the_same(
    client: Metadata, imds: FakeImds, time: object
) -> None:
    imds.say("spot/instance-action", json.dumps({"action": "terminate", "time": time}))
    assert await client.notice() == Notice("terminate", None)


@pytest.mark.parametrize(
    "written", ["2023-11-14T22:15:20Z", "2023-11-14T22:15:20.000Z", "2023-11-14T22:15:20", "2023-11-14T23:15:20+01:00"]
)
async def test_times_are_utc_where_they_do_not_say(client: Metadata, imds: FakeImds, written: str) -> None:
    imds.say("spot/instance-action", json.dumps({"action": "terminate", "time": written}))
    assert await client.notice() == Notice("terminate", 1_700_000_120.0)


async def test_proxies_of_the_environment_are_none_of_its_business(
    client: Metadata, imds: FakeImds, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await client.life_cycle() == "spot"
    assert all("x-forwarded-for" not in request.headers for request in imds.requests)
    imds.fail(302, path="/latest/meta-data/", times=1)
    with pytest.raises(UpstreamError, match="status 302"):
        await client.life_cycle()


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://169.254.169.254"),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338"}, "http://127.0.0.1:1338"),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": ""}, "http://169.254.169.254"),
        ({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"}, "http://[fd00:ec2::254]"),
        ({"AWS_EC2_METADATA_DISABLED": "True", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338"}, None),
        ({"AWS_EC2_METADATA_DISABLED": "false"}, "http://169.254.169.254"),
    ],
)
def test_where_it_is_asked_is_what_aws_own_variables_say(environ: dict[str, str], url: str | None) -> None:
    assert endpoint(environ) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "169.254.169.254",
        "https://169.254.169.254",
        "http://",
        "http://h:99999",
        "http://h\r\nX: y",
        "http://h /",
        "http://[::",
    ],
)
def test_what_is_no_url_is_refused(url: str, clock: ManualClock) -> None:
    with pytest.raises(InvalidInput, match="is no URL of the instance metadata service"):
        Metadata(url, clock=clock)


async def test_a_path_before_its_own_is_kept(imds: FakeImds, clock: ManualClock) -> None:
    client = Metadata(f"{imds.url}/mock/", clock=clock)
    with pytest.raises(StokerError):
        await client.life_cycle()
    assert imds.requests[0].path == "/mock/latest/api/token"
    client.close()
