"""One S3 bucket, call by call: each method is one request (or the look that explains its error), made once. Where S3
is, and with which credentials, boto3 finds by its own rules (environment, profile, role of the pod; AWS_ENDPOINT_URL
for another server). Nothing is tried again here, since only who calls knows until when.

Errors become Stoker's: Unavailable for whatever may work when it is asked again, NotPermitted for credentials and
rights, InvalidInput for a bucket that is not there or a request that will never work, NotFound only when S3 says
NoSuchKey.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.aws.s3_bodies import Body, OutOfTime
from stoker.aws.s3_errors import NoSuchUpload, PreconditionFailed, code_of, in_words, of_code
from stoker.base.errors import InvalidInput, StokerError, Unavailable

__all__ = ["Body", "Bucket", "Found", "Got", "NoSuchUpload", "Page", "PartSent", "PreconditionFailed", "Upload"]

Left = Callable[[], float]
"""Seconds that the call still has."""

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUTS_S = (3.0, 10.0, 30.0)
"""How long one wait for bytes may take. A call gets the longest that leaves time for two more tries, so that a
connection that stalls costs a third of the time, and never much more than is left."""

MOST_AT_ONCE = 1000  # keys of one page or one DeleteObjects, S3's own limit
_WORDLESS = {"301", "307", "400", "403", "404"}
_CONNECTIONS = 64
_READ_BYTES = 64 << 10  # between two of them the time is looked at


@dataclass(frozen=True, slots=True)
class Found:
    key: str
    size_bytes: int
    etag: str
    modified_at: float
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Got:
    data: bytes
    total_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class Page:
    found: Sequence[Found]
    next: str | None


@dataclass(frozen=True, slots=True)
class PartSent:
    number: int
    etag: str
    checksum: str | None


@dataclass(frozen=True, slots=True)
class Upload:
    """One that was begun, and neither completed nor aborted."""

    key: str
    id: str
    begun_at: float


class Bucket:
    """Thread-safe. Connects when first used."""

    def __init__(self, name: str, *, read_timeouts_s: Sequence[float] = READ_TIMEOUTS_S) -> None:
        self.name = name
        self._read_timeouts_s = sorted(read_timeouts_s)
        self._forget()

    # --- writing ----------------------------------------------------------------------------------------------------

    def put(
        self, key: str, body: Body, metadata: Mapping[str, str], left: Left, *, absent: bool, match: str | None
    ) -> str:
        """The etag. Raises PreconditionFailed."""
        with self._words(f"write {key}", has_match=match is not None):
            client = self._client(left)
            more = _condition(absent, match)
            if checksum := self._checksum(client, body):
                more["ChecksumCRC32"] = checksum
            answer = client.put_object(
                Bucket=self.name,
                Key=key,
                Body=body.within(left),
                ContentLength=body.size_bytes,
                Metadata=dict(metadata),
                **more,
            )
            return str(answer["ETag"])

    def begin(self, key: str, metadata: Mapping[str, str], left: Left) -> str:
        """The id of a new multipart upload."""
        with self._words(f"begin to write {key}"):
            client = self._client(left)
            more = {"ChecksumAlgorithm": "CRC32"} if _adds_checksums(client) else {}
            answer = client.create_multipart_upload(Bucket=self.name, Key=key, Metadata=dict(metadata), **more)
            return str(answer["UploadId"])

    def send(self, key: str, upload: str, number: int, body: Body, left: Left) -> PartSent:
        """Raises NoSuchUpload."""
        with self._words(f"write part {number} of {key}"):
            client = self._client(left)
            checksum = self._checksum(client, body)
            answer = client.upload_part(
                Bucket=self.name,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                Body=body.within(left),
                ContentLength=body.size_bytes,
                **({"ChecksumCRC32": checksum} if checksum else {}),
            )
            return PartSent(number, str(answer["ETag"]), checksum)

    def complete(
        self, key: str, upload: str, parts: Sequence[PartSent], left: Left, *, absent: bool, match: str | None
    ) -> str:
        """The etag. Raises PreconditionFailed and NoSuchUpload. An error that comes with status 200 is an error."""
        with self._words(f"complete {key}", has_match=match is not None):
            listed = [
                {"PartNumber": part.number, "ETag": part.etag}
                | ({"ChecksumCRC32": part.checksum} if part.checksum else {})
                for part in parts
            ]
            answer = self._client(left).complete_multipart_upload(
                Bucket=self.name,
                Key=key,
                UploadId=upload,
                MultipartUpload={"Parts": listed},
                **_condition(absent, match),
            )
            if "ETag" not in answer:
                raise Unavailable(f"cannot complete {key} in s3://{self.name}: S3 did not say what it has made")
            return str(answer["ETag"])

    def abort(self, key: str, upload: str, left: Left) -> None:
        """One that is gone is no error."""
        with contextlib.suppress(NoSuchUpload), self._words(f"abort an upload of {key}"):
            self._client(left).abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload)

    def delete(self, keys: Sequence[str], left: Left) -> list[str]:
        """Up to MOST_AT_ONCE; those that S3 could not delete now. Raises NotPermitted when one may not be deleted."""
        with self._words("delete objects"):
            listed = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
            answer = self._client(left).delete_objects(Bucket=self.name, Delete=listed)
        refused = [each for each in answer.get("Errors", ()) if each.get("Code") != "NoSuchKey"]
        for each in refused:
            error = of_code(str(each.get("Code")), 500, f"cannot delete {each.get('Key')} in s3://{self.name}")
            if not isinstance(error, Unavailable):
                raise error
        return [str(each["Key"]) for each in refused]

    # --- reading ----------------------------------------------------------------------------------------------------

    def get(
        self, key: str, left: Left, *, start: int = 0, length: int | None = None, most_bytes: int | None = None
    ) -> Got:
        """Those bytes of it that there are, as many as S3 announced, and with the checksum that S3 has, if it has one
        for them. `length` is above 0. Raises NotFound; InvalidInput when there are more than `most_bytes`, which are
        not fetched then."""
        wanted = {}
        if start or length is not None:
            wanted["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        with self._words(f"read {key}"):
            try:
                answer = self._client(left).get_object(Bucket=self.name, Key=key, **wanted)
            except Exception as exc:
                if code_of(exc) == "InvalidRange":  # it ends before `start`
                    return Got(b"", start, "")
                raise
            if most_bytes is not None and int(answer["ContentLength"]) > most_bytes:
                answer["Body"].close()
                raise InvalidInput(
                    f"{key} has {answer['ContentLength']} bytes; at most {most_bytes} are expected of it"
                )
            data = _whole(answer, left, f"read {key} from s3://{self.name}")
        total = len(data)
        if wanted:
            span, _, whole = str(answer.get("ContentRange", "")).removeprefix("bytes ").partition("/")
            if not span.startswith(f"{start}-") or not whole.isdecimal():
                raise InvalidInput(f"cannot read part of {key}: what answers for s3://{self.name} does not know ranges")
            total = int(whole)
        return Got(data, total, str(answer["ETag"]))

    def look(self, key: str, left: Left) -> Found:
        """Raises NotFound."""
        client = self._client(left)
        try:
            with self._words(f"look at {key}"):
                answer = client.head_object(Bucket=self.name, Key=key)
        except StokerError as exc:
            if not isinstance(exc.__cause__, Exception) or code_of(exc.__cause__) not in _WORDLESS:
                raise
            # The answer to HEAD has no words: 404 may mean that there is no such bucket. GET says which it is.
            with self._words(f"look at {key}"):
                answer = client.get_object(Bucket=self.name, Key=key)
                answer["Body"].close()
        modified_at = answer["LastModified"].timestamp()
        return Found(key, int(answer["ContentLength"]), str(answer["ETag"]), modified_at, answer.get("Metadata", {}))

    def page(self, prefix: str, after: str | None, left: Left) -> Page:
        """Up to MOST_AT_ONCE keys, sorted."""
        with self._words(f"list {prefix or 'all'}"):
            more = {"ContinuationToken": after} if after else {}
            answer = self._client(left).list_objects_v2(Bucket=self.name, Prefix=prefix, MaxKeys=MOST_AT_ONCE, **more)
            found = [
                Found(each["Key"], int(each["Size"]), str(each["ETag"]), each["LastModified"].timestamp(), {})
                for each in answer.get("Contents", ())
            ]
            return Page(found, answer.get("NextContinuationToken") if answer.get("IsTruncated") else None)

    def uploads(self, prefix: str, left: Left) -> Iterator[Upload]:
        """All that were begun and not ended."""
        more: dict[str, str] = {}
        while True:
            with self._words(f"list uploads below {prefix or 'all'}"):
                answer = self._client(left).list_multipart_uploads(Bucket=self.name, Prefix=prefix, **more)
            for each in answer.get("Uploads", ()):
                yield Upload(each["Key"], each["UploadId"], each["Initiated"].timestamp())
            if not answer.get("IsTruncated"):
                return
            more = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    # --- boto3 ------------------------------------------------------------------------------------------------------

    def _words(self, doing: str, *, has_match: bool = False) -> contextlib.AbstractContextManager[None]:
        return in_words(doing, self.name, has_match=has_match)

    def _checksum(self, client: Any, body: Body) -> str | None:
        return body.crc32() if _adds_checksums(client) else None

    def _client(self, left: Left) -> Any:
        if self._pid != os.getpid():  # a fork, as of a data loader: its parent goes on with the connections
            self._forget()
        share = left() / 3
        timeout = max((each for each in self._read_timeouts_s if each <= share), default=self._read_timeouts_s[0])
        with self._connecting:
            if timeout not in self._clients:
                with self._words("connect"):
                    self._clients[timeout] = self._made(timeout)
            return self._clients[timeout]

    def _forget(self) -> None:
        self._session: Any = None
        self._clients: dict[float, Any] = {}
        self._connecting = threading.Lock()
        self._pid = os.getpid()

    def _made(self, read_timeout_s: float) -> Any:
        import boto3
        from botocore.config import Config

        if self._session is None:
            self._session = boto3.session.Session()
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=read_timeout_s,
            max_pool_connections=_CONNECTIONS,
            retries={"total_max_attempts": 1},  # who calls decides when to try again
            s3={"addressing_style": "path"} if _is_elsewhere() else None,
        )
        return self._session.client("s3", config=config)


def _condition(absent: bool, match: str | None) -> dict[str, str]:
    if absent:
        return {"IfNoneMatch": "*"}
    return {} if match is None else {"IfMatch": match}


def _adds_checksums(client: Any) -> bool:
    """Unless whoever runs this has said that the server does not know them (AWS_REQUEST_CHECKSUM_CALCULATION)."""
    return getattr(client.meta.config, "request_checksum_calculation", None) != "when_required"


def _is_elsewhere() -> bool:
    """Other servers than AWS' want the bucket in the path, and seldom have a name in DNS for each."""
    return any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))


def _whole(answer: Mapping[str, Any], left: Left, doing: str) -> bytes:
    """The body of an answer. Reading to its end is what makes boto3 compare its length and checksum."""
    body, parts = answer["Body"], []
    try:
        while part := body.read(_READ_BYTES):
            parts.append(part)
            if left() <= 0:
                raise OutOfTime(f"cannot {doing}: the time for it is over")
    except BaseException:
        body.close()
        raise
    return b"".join(parts)
