"""S3 on a bad day: what is tried again, what is not, and that nothing is half there or taken for somebody else's."""

import os
from random import Random

import pytest
from registry_parts import MIB, PART, Time

from stoker.aws.s3 import Bucket, Got
from stoker.base.errors import InvalidInput, NotFound, NotPermitted, StokerError, Unavailable
from stoker.registry.s3 import S3Store, part_bytes
from stoker.registry.stores import Changed
from stoker.testing.s3_faults import Fault, Kind, S3Faults

BIG = bytes(range(256)) * (44 * 1024) + b"and the end"  # 11 MiB and a little: three parts


def keys(store: S3Store) -> list[str]:
    return [each.key for each in store.list()]


def uploads(store: S3Store) -> int:
    """How many unfinished ones there are; they are none afterwards."""
    return store.sweep(older_than_s=-1e9)


def refused(key: str, code: str) -> bytes:
    return f"<DeleteResult><Error><Key>{key}</Key><Code>{code}</Code></Error></DeleteResult>".encode()


class TestTriedAgain:
    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (500, "InternalError"),
            (503, "SlowDown"),
            (503, "ServiceUnavailable"),
            (400, "RequestTimeout"),
            (400, "IncompleteBody"),
            (429, "TooManyRequests"),
            (409, "ConditionalRequestConflict"),
            (404, ""),
        ],
    )
    def test_an_answer_that_says_not_now(
        self, s3_store: S3Store, faults: S3Faults, time: Time, status: int, code: str
    ) -> None:
        faults.add(Fault("status", method="PUT", status=status, code=code, times=2))
        faults.add(Fault("status", method="GET", status=status, code=code, times=2))
        s3_store.put("a", [b"1"], if_absent=True)
        assert s3_store.get("a") == b"1"
        assert faults.done == {"status": 4}
        assert len(time.slept) == 4

    @pytest.mark.parametrize("kind", ["reset_request", "lost_before", "lost", "reset_answer", "stall"])
    @pytest.mark.parametrize("condition", ["absent", "match", "none"])
    def test_a_write_whose_connection_breaks(
        self, s3_store: S3Store, faults: S3Faults, kind: Kind, condition: str
    ) -> None:
        """Whether S3 has done it or not: it is there once, and it is nobody else's."""
        match = s3_store.put("a", [b"before"]) if condition == "match" else None
        faults.clear()
        faults.add(Fault(kind, method="PUT"))
        timeout_s = 10 if kind == "stall" else 60  # which makes one wait for bytes short
        etag = s3_store.put("a", [b"after"] * 9, if_absent=condition == "absent", if_match=match, timeout_s=timeout_s)
        assert faults.done == {kind: 1}
        assert faults.count("PUT") >= 2
        assert s3_store.read("a") == (b"after" * 9, etag)

    @pytest.mark.parametrize("kind", ["cut", "reset_answer", "lost", "stall"])
    def test_an_object_that_does_not_come_whole(self, s3_store: S3Store, faults: S3Faults, kind: Kind) -> None:
        s3_store.put("a", [b"0123456789" * 100])
        faults.add(Fault(kind, method="GET", times=2))
        assert s3_store.get("a", timeout_s=10 if kind == "stall" else 60) == b"0123456789" * 100
        assert faults.done == {kind: 2}
        faults.add(Fault(kind, method="GET", times=2))
        assert s3_store.get("a", start=10, length=900, timeout_s=10 if kind == "stall" else 60) == b"0123456789" * 90

    @pytest.mark.parametrize("kind", ["status", "cut", "lost"])
    def test_a_listing(self, s3_store: S3Store, faults: S3Faults, kind: Kind) -> None:
        for key in ("a", "b"):
            s3_store.put(key, [b"1"])
        faults.add(Fault(kind, method="GET", query="list-type", times=3))
        assert keys(s3_store) == ["a", "b"]
        assert faults.done == {kind: 3}

    @pytest.mark.parametrize("kind", ["status", "lost", "lost_before", "error_in_200"])
    def test_a_deletion(self, s3_store: S3Store, faults: S3Faults, kind: Kind) -> None:
        s3_store.put("a", [b"1"])
        faults.add(Fault(kind, method="POST", query="delete"))
        s3_store.delete(["a"])
        assert keys(s3_store) == []

    def test_an_object_that_could_not_be_deleted_now(self, s3_store: S3Store, faults: S3Faults) -> None:
        for key in ("1", "2"):
            s3_store.put(key, [b"x"])
        faults.add(
            Fault("status", method="POST", query="delete", status=200, body=refused("runs/a/2", "InternalError"))
        )
        s3_store.delete(["1", "2"])
        assert faults.count("POST", "delete") == 2
        assert keys(s3_store) == ["1"], (
            "the second try asks for what was left, and the proxy had not passed the first on"
        )

    @pytest.mark.parametrize("status", [200, 404, 502])
    def test_what_is_no_answer_of_s3(self, s3_store: S3Store, faults: S3Faults, status: int) -> None:
        s3_store.put("a", [b"1"])
        for method in ("GET", "POST"):
            faults.add(Fault("status", method=method, status=status, body=b"<html>Bad <p>gateway"))
        assert keys(s3_store) == ["a"]
        s3_store.delete(["a"])
        assert keys(s3_store) == []
        assert faults.done == {"status": 2}

    def test_waits_are_drawn_and_grow(self, s3_store: S3Store, faults: S3Faults, time: Time) -> None:
        s3_store.put("a", [b"1"])
        time.slept.clear()
        faults.add(Fault("status", times=8))
        s3_store.stat("a")
        due = Random(1)
        assert time.slept == [due.uniform(0, most) for most in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5)]
        assert faults.count("HEAD") == 9


class TestGivenUp:
    def test_when_the_time_is_over(self, s3_store: S3Store, faults: S3Faults, time: Time) -> None:
        faults.add(Fault("status", times=None, code="SlowDown"))
        began = time.at
        with pytest.raises(
            Unavailable, match=r"cannot write a in s3://.*/runs/a within 30 s, tried \d+ times.*SlowDown"
        ):
            s3_store.put("a", [b"1"], timeout_s=30)
        assert 10 < time.at - began <= 30

    @pytest.mark.parametrize("call", ["put", "put_big", "get", "read", "stat", "list", "delete", "sweep"])
    def test_each_call_ends(self, s3_store: S3Store, faults: S3Faults, time: Time, call: str) -> None:
        calls = {
            "put": lambda: s3_store.put("a", [b"1"], timeout_s=20),
            "put_big": lambda: s3_store.put("a", [BIG], timeout_s=20),
            "get": lambda: s3_store.get("a", timeout_s=20),
            "read": lambda: s3_store.read("a", timeout_s=20),
            "stat": lambda: s3_store.stat("a", timeout_s=20),
            "list": lambda: list(s3_store.list(timeout_s=20)),
            "delete": lambda: s3_store.delete(["a"], timeout_s=20),
            "sweep": lambda: s3_store.sweep(older_than_s=0, timeout_s=20),
        }
        faults.add(Fault("lost_before", times=None))
        began = time.at
        with pytest.raises(Unavailable, match="within 20 s") as caught:
            calls[call]()
        assert caught.value.message.count("within") == 1, "said once, however deep it was tried"
        assert time.at - began <= 20

    def test_a_connection_that_stalls_is_left(self, bucket: str, faults: S3Faults) -> None:
        """In real time: every wait for bytes ends after a fifth of a second, so the call does."""
        store = S3Store(bucket, calls=Bucket(bucket, read_timeouts_s=(0.2,)))
        faults.add(Fault("stall", times=None))
        with pytest.raises(Unavailable, match=r"within 0\.3 s.*ReadTimeoutError"):
            store.get("a", timeout_s=0.3)
        assert faults.done["stall"] <= 3

    def test_an_answer_that_trickles_is_left(self, bucket: str, faults: S3Faults) -> None:
        store = S3Store(bucket, calls=Bucket(bucket, read_timeouts_s=(0.2,)))
        store.put("a", [bytes(MIB)])
        faults.add(Fault("slow", method="GET", bytes_per_s=400_000, times=None))
        with pytest.raises(Unavailable, match=r"within 0\.3 s"):
            store.get("a", timeout_s=0.3)

    def test_a_request_that_trickles_is_left(self, bucket: str, faults: S3Faults) -> None:
        store = S3Store(bucket, calls=Bucket(bucket, read_timeouts_s=(5.0,)), part_bytes=PART)
        faults.add(Fault("slow", method="PUT", bytes_per_s=1_000_000, times=None))
        with pytest.raises(Unavailable):
            store.put("a", [BIG], timeout_s=0.5)
        faults.clear()
        assert keys(store) == []
        assert uploads(store) == 0

    def test_what_is_slow_and_moves_is_waited_for(self, bucket: str, faults: S3Faults) -> None:
        """No limit of a single wait ends a transfer that goes on."""
        store = S3Store(bucket, calls=Bucket(bucket, read_timeouts_s=(2.0,)))
        store.put("a", [bytes(300_000)])
        faults.add(Fault("slow", method="GET", bytes_per_s=120_000))
        assert store.get("a") == bytes(300_000)
        assert faults.count("GET") == 1


class TestNotTriedAgain:
    @pytest.mark.parametrize(
        ("status", "code", "error", "hint"),
        [
            (403, "AccessDenied", NotPermitted, "s3:GetObject"),
            (403, "SignatureDoesNotMatch", NotPermitted, "sign in again"),
            (400, "ExpiredToken", NotPermitted, "sign in again"),
            (403, "InvalidAccessKeyId", NotPermitted, "sign in again"),
            (403, "RequestTimeTooSkewed", NotPermitted, "clock"),
            (404, "NoSuchBucket", InvalidInput, "create it"),
            (301, "PermanentRedirect", InvalidInput, "AWS_REGION"),
            (400, "AuthorizationHeaderMalformed", InvalidInput, "AWS_REGION"),
            (400, "InvalidRequest", InvalidInput, None),
            (501, "NotImplemented", InvalidInput, None),
        ],
    )
    @pytest.mark.parametrize("call", ["put", "get", "stat", "list", "delete"])
    def test_what_a_person_has_to_set_right(
        self, s3_store: S3Store, faults: S3Faults, time: Time, call: str, status: int, code: str,
        error: type[StokerError], hint: str | None,
    ) -> None:  # fmt: skip
        calls = {
            "put": lambda: s3_store.put("a", [b"1"]),
            "get": lambda: s3_store.get("a"),
            "stat": lambda: s3_store.stat("a"),
            "list": lambda: list(s3_store.list()),
            "delete": lambda: s3_store.delete(["a"]),
        }
        for method in ("GET", "PUT", "POST", "HEAD"):
            # boto3 asks for the region of a bucket by a HEAD of its own, which S3 answers.
            faults.add(
                Fault("status", method=method, key="/runs" * (method == "HEAD"), status=status, code=code, times=None)
            )
        with pytest.raises(error) as caught:
            calls[call]()
        assert type(caught.value) is error
        assert "cannot" in caught.value.message
        assert "s3://bucket-" in caught.value.message
        assert hint is None or hint in str(caught.value.hint)
        assert time.slept == []
        assert "127.0.0.1" not in caught.value.message

    def test_no_such_bucket(self, bucket: str, time: Time) -> None:
        nowhere = S3Store("there-is-none", clock=time, sleep=time.sleep_now)
        for call in (nowhere.get, nowhere.stat, lambda key: nowhere.put(key, [b"1"]), lambda _: list(nowhere.list())):
            with pytest.raises(InvalidInput, match="there is no such bucket"):
                call("a")
        assert time.slept == []

    def test_no_credentials(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(NotPermitted, match="there are no AWS credentials"):
            S3Store(bucket).get("a")

    def test_a_404_that_is_not_of_s3_is_no_absence(self, s3_store: S3Store, faults: S3Faults) -> None:
        """A balancer's, say. Taken for absence, a run would begin anew over its checkpoints."""
        faults.add(Fault("status", status=404, code="", times=None))
        for ask in (s3_store.get, s3_store.read, s3_store.stat):
            with pytest.raises(Unavailable):
                ask("a", timeout_s=20)

    def test_an_object_that_may_not_be_deleted(self, s3_store: S3Store, faults: S3Faults) -> None:
        """S3 answers 200, and says it of each object."""
        faults.add(Fault("status", method="POST", query="delete", status=200, body=refused("runs/a/2", "AccessDenied")))
        with pytest.raises(NotPermitted, match="cannot delete runs/a/2"):
            s3_store.delete(["1", "2"])


class TestParts:
    def test_sizes(self) -> None:
        assert part_bytes(17 * MIB) == 16 * MIB
        assert part_bytes(160_000 * MIB) == 16 * MIB
        assert part_bytes(160_000 * MIB + 1) == 17 * MIB
        assert -(-5_000_000 * MIB // part_bytes(5_000_000 * MIB)) <= 10_000

    @pytest.mark.parametrize("kind", ["status", "reset_request", "lost", "lost_before", "reset_answer"])
    @pytest.mark.parametrize("of", ["uploads", "partNumber", "complete"])
    def test_one_that_fails_is_sent_again(self, s3_store: S3Store, faults: S3Faults, of: str, kind: Kind) -> None:
        methods = {
            "uploads": ("POST", "uploads"),
            "partNumber": ("PUT", "partNumber"),
            "complete": ("POST", "uploadId"),
        }
        method, query = methods[of]
        faults.add(Fault(kind, method=method, query=query))
        s3_store.put("a", [BIG[:100], BIG[100:]], if_absent=True)
        assert faults.done == {kind: 1}
        assert s3_store.get("a") == BIG
        assert faults.count("PUT", "partNumber") == 3 + (of == "partNumber")
        assert uploads(s3_store) == (of == "uploads" and kind in ("lost", "reset_answer"))

    def test_an_error_in_a_200_is_seen(self, s3_store: S3Store, faults: S3Faults) -> None:
        faults.add(Fault("error_in_200", method="POST", query="uploadId", code="InternalError", times=2))
        etag = s3_store.put("a", [BIG])
        assert faults.done == {"error_in_200": 2}
        assert s3_store.stat("a").etag == etag
        assert s3_store.get("a") == BIG

    def test_an_error_in_every_200_is_no_success(self, s3_store: S3Store, faults: S3Faults) -> None:
        faults.add(Fault("error_in_200", method="POST", query="uploadId", code="InternalError", times=None))
        with pytest.raises(Unavailable, match="InternalError"):
            s3_store.put("a", [BIG], timeout_s=20)
        assert keys(s3_store) == []
        assert uploads(s3_store) == 0, "it was aborted"

    def test_one_that_may_not_be_sent_ends_all(self, s3_store: S3Store, faults: S3Faults) -> None:
        faults.add(Fault("status", method="PUT", query="partNumber", status=403, code="AccessDenied", skip=1))
        with pytest.raises(NotPermitted):
            s3_store.put("a", [BIG])
        assert keys(s3_store) == []
        assert uploads(s3_store) == 0

    def test_an_upload_that_is_gone_is_begun_anew(self, s3_store: S3Store, faults: S3Faults) -> None:
        faults.add(Fault("status", method="PUT", query="partNumber", status=404, code="NoSuchUpload"))
        s3_store.put("a", [BIG])
        assert s3_store.get("a") == BIG
        assert faults.count("POST", "uploads") == 2

    def test_gone_since_it_was_completed(self, s3_store: S3Store, faults: S3Faults) -> None:
        """The answer was lost, and S3 does not know the upload any more: what is there tells that it was ours."""
        faults.add(Fault("lost", method="POST", query="uploadId"))
        faults.add(Fault("status", method="POST", query="uploadId", status=404, code="NoSuchUpload"))
        etag = s3_store.put("a", [BIG])
        assert faults.done == {"lost": 1, "status": 1}
        assert faults.count("POST", "uploads") == 1
        assert s3_store.stat("a").etag == etag

    def test_what_died_is_swept_when_it_is_old(
        self, s3_store: S3Store, calls: Bucket, faults: S3Faults, time: Time
    ) -> None:
        faults.add(Fault("lost", method="POST", query="uploads"))
        s3_store.put("below/a", [BIG])
        (began,) = calls.uploads("", lambda: 9.0)
        time.at = began.begun_at + 600
        assert s3_store.sweep(older_than_s=3600) == 0
        assert s3_store.sweep("above/", older_than_s=60) == 0
        assert s3_store.sweep("below/", older_than_s=60) == 1
        assert s3_store.sweep(older_than_s=0) == 0


class TestTwoWriters:
    @pytest.mark.parametrize("content", [b"1", BIG])
    def test_somebody_else_came_first_between_two_tries(self, calls: Bucket, faults: S3Faults, content: bytes) -> None:
        """With the same bytes, which does not make the object ours."""
        other, time = S3Store(calls.name, calls=calls), Time()

        def sleep(seconds: float) -> None:
            if not time.slept:
                other.put("a", [content], if_absent=True)
            time.sleep_now(seconds)

        store = S3Store(calls.name, clock=time, sleep=sleep, part_bytes=PART, calls=calls)
        faults.add(
            Fault("lost_before", method="POST" if content is BIG else "PUT", query="uploadId" * (content is BIG))
        )
        with pytest.raises(Changed, match="exists already"):
            store.put("a", [content], if_absent=True)
        assert uploads(store) == 0


def test_a_listing_that_lags_hides_nothing_from_who_knows_the_key(s3_store: S3Store, faults: S3Faults) -> None:
    s3_store.put("a/1", [b"1"])
    s3_store.put("a/2", [b"2"])
    faults.add(Fault("hide", method="GET", query="list-type", hides="a/2"))
    assert keys(s3_store) == ["a/1"]
    assert s3_store.get("a/2") == b"2"
    assert keys(s3_store) == ["a/1", "a/2"]


def test_more_than_one_page(s3_store: S3Store, faults: S3Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.aws.s3.MOST_AT_ONCE", 10)
    monkeypatch.setattr("stoker.registry.s3.MOST_AT_ONCE", 10)
    names = [f"n/{number:04d}" for number in range(23)]
    for name in names:
        s3_store.put(name, [b""])
    assert keys(s3_store) == names
    s3_store.delete(names)
    assert keys(s3_store) == []
    assert faults.count("POST", "delete") == 3
    assert faults.count("GET", "list-type") == 3 + 1


def test_not_found_names_the_key(s3_store: S3Store) -> None:
    with pytest.raises(NotFound, match=r"cannot read runs/a/b in s3://bucket-\d+: there is no such object"):
        s3_store.get("b")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of threads, as here
def test_a_fork_makes_connections_of_its_own(bucket: str) -> None:
    calls = Bucket(bucket)
    S3Store(bucket, calls=calls).put("a", [b"1"])
    before = calls._client(lambda: 60.0)
    child = os.fork()
    if child == 0:
        os._exit(7 if calls._client(lambda: 60.0) is before else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert calls._client(lambda: 60.0) is before


def test_a_bucket_whose_region_nobody_says(s3_store: S3Store, faults: S3Faults) -> None:
    """boto3 asks for it, and is sent to ask there."""
    faults.add(Fault("status", status=301, code="PermanentRedirect", times=None))
    with pytest.raises(InvalidInput, match="another region"):
        s3_store.get("a")


def test_fewer_bytes_than_the_object_has(bucket: str, time: Time) -> None:
    """An answer that is whole by its own length, and is not all that was asked for."""

    class Short(Bucket):
        def get(self, *_: object, **__: object) -> Got:
            return Got(b"12", 10, "etag")

    store = S3Store(bucket, clock=time, sleep=time.sleep_now, calls=Short(bucket))
    for ask in (lambda: store.get("a", timeout_s=1), lambda: store.get("a", start=5, length=4, timeout_s=1)):
        with pytest.raises(Unavailable, match="2 bytes came, and the object has 10"):
            ask()
    assert store.get("a", start=8) == b"12"
