"""On the path of all tests, since pytest puts the folder of a conftest there: so they can import `effort`.

Files that take long come first: what `make test` hands out last is short, and no process is left alone with a long one.
"""

from collections.abc import Iterator

import pytest

from stoker.base.errors import Unavailable
from stoker.testing.postgres import PostgresServer, find_programs

# Those that wait for processes, by turns with those that compute.
LONG = (
    *("drill", "render_whole", "gateway_schema", "stoker_up", "runs_on_s3", "autoscaling", "budget_model", "requests"),
    *("kinds_of_runs", "spot_notice", "torchrun", "batches", "queue_benchmarks", "fault_matrix", "agents_flows"),
    *("crashes_lose_nothing", "whole", "budget_race", "drill_training", "budget_chaos", "whole_checks", "streams"),
    *("simulate_command", "fair_shares", "elastic", "poison", "kill_points", "agents_examples", "agents_benchmarks"),
    *("simulate_for_real", "deployed", "own_weights", "engine_embeddings", "interfaces", "commit_model"),
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
