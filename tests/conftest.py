"""On the path of all tests, since pytest puts the folder of a conftest there: so they can import `effort`.

Files that take long come first: what `make test` hands out last is short, and no process is left alone with a long one.
"""

from collections.abc import Iterator

import pytest

from stoker.base.errors import Unavailable
from stoker.testing.postgres import PostgresServer, find_programs

LONG = (
    *("gateway_schema", "drill", "requests", "stoker_up", "autoscaling", "batches", "queue_benchmarks", "spot_notice"),
    *("torchrun", "budget_model", "budget_chaos", "budget_race", "poison", "kinds_of_runs", "render_whole"),
    *("agents_flows", "agents_examples", "agents_benchmarks"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {f"test_{name}.py": at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONG)))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server of the session's own; where none is installed its tests are skipped, with a word."""
    try:
        find_programs()
    except Unavailable as missing:
        pytest.skip(f"{missing.message}; {missing.hint}")
    with PostgresServer() as server:
        yield server
