"""Fixtures: a platform of all tests, and ones of a test's own."""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from flow_parts import Running, Start, begin, wait_ready


@pytest.fixture(scope="session")
def _starting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    started: list[Running] = []
    begun: list[subprocess.Popen[bytes]] = []

    def start(
        *options: str, spec: str | None = None, state: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> Running:
        where = state or tmp_path_factory.mktemp("platform") / "state"
        begun.append(begin(where, *options, spec=spec, environ=environ))
        started.append(wait_ready(begun[-1], where))
        return started[-1]

    yield start
    try:
        for running in started:
            running.stop()
            running.wait_until_nothing_is_left()
    finally:
        for process in begun:
            if process.poll() is None:
                process.kill()  # what it started is on its leash
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def start(_starting: Start) -> Start:
    """Starts a platform of the test's own: `start(spec=ONE_MODEL)`, `start(state=...)` for the same directory again.
    It is stopped at the end of the session, unless the test does."""
    return _starting


@pytest.fixture(scope="session")
def platform(_starting: Start) -> Running:
    """The default platform, shared by all tests that leave it as it was."""
    return _starting()
