"""One platform for all clients, with the embedded engines; and what it answers to plain HTTP."""

from collections.abc import Iterator

import pytest
from client_parts import Json, plain_answers
from flow_parts import Running, begin, wait_ready


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("clients") / "state"
    process = begin(state)
    try:
        running = wait_ready(process, state)
        yield running
        running.stop()
        running.wait_until_nothing_is_left()
    finally:
        if process.poll() is None:
            process.kill()  # what it started is on its leash
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="session")
def plain(served: Running) -> Json:
    return plain_answers(served)
