import pytest

from stoker.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
