from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_parts import Stack, a_stack


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with a_stack(tmp_path) as made:
        yield made
