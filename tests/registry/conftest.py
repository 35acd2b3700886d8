"""Stores for tests: a folder, and a bucket of moto's server behind a proxy that keeps conditions and makes faults."""

import itertools
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from registry_parts import PART, Time

from stoker.aws.s3 import Bucket
from stoker.registry.folders import FolderStore
from stoker.registry.s3 import S3Store
from stoker.registry.stores import Store
from stoker.testing.aws import CREDENTIALS, moto_server
from stoker.testing.s3_faults import S3Faults

_numbers = itertools.count()


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_server(tmp_path_factory.mktemp("moto") / "moto.log") as url:
        yield url


@pytest.fixture(scope="session")
def proxy(moto_url: str) -> Iterator[S3Faults]:
    with S3Faults(moto_url) as faults:
        yield faults


@pytest.fixture
def faults(proxy: S3Faults) -> Iterator[S3Faults]:
    proxy.clear()
    yield proxy
    proxy.clear()


@pytest.fixture
def bucket(moto_url: str, faults: S3Faults, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The name of a new bucket, and an environment in which boto3 finds it through the proxy."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", faults.url)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    name = f"bucket-{next(_numbers)}"
    where = b"<CreateBucketConfiguration><LocationConstraint>us-west-2</LocationConstraint></CreateBucketConfiguration>"
    with urllib.request.urlopen(urllib.request.Request(f"{moto_url}/{name}", data=where, method="PUT"), timeout=10):
        return name


@pytest.fixture(scope="session")
def all_calls() -> Bucket:
    """Waits for bytes at most half a second in calls of less than 15. Made once: boto3 takes its time."""
    return Bucket("none-yet", read_timeouts_s=(0.5, 5.0))


@pytest.fixture
def calls(all_calls: Bucket, bucket: str) -> Bucket:
    all_calls.name = bucket
    return all_calls


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def s3_store(bucket: str, calls: Bucket, time: Time) -> S3Store:
    """Waits for its retries not at all."""
    return S3Store(bucket, "runs/a", clock=time, random=Random(1), sleep=time.sleep_now, part_bytes=PART, calls=calls)


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    calls = request.getfixturevalue("calls")
    return S3Store(calls.name, "runs/a", part_bytes=PART, calls=calls)
