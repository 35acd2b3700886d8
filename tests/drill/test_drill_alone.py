import os
from pathlib import Path

import pytest

from stoker.base.errors import InvalidInput, StateInUse
from stoker.drill.alone import alone


def test_one_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path / "drill.lock"), pytest.raises(StateInUse) as refused, alone(tmp_path / "drill.lock"):
        pass

    assert refused.value.message == f"another drill runs on this platform: pid {os.getpid()}"
    assert refused.value.exit_code == 2
    with alone(tmp_path / "drill.lock"):
        pass


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput), alone(tmp_path / "nowhere" / "drill.lock"):
        pass
