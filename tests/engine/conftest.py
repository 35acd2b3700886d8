"""An engine behind a real socket, and its client. One thread for matrix products, as the engine's process sets it: read
when numpy is imported, so before the tests."""

import os
from collections.abc import AsyncIterator

import openai
import pytest
from hypothesis import settings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
from engine_builders import Serving, serving

# The machine that runs these may be busy with others: how long one example takes says nothing.
settings.register_profile("stoker", deadline=None)
settings.load_profile("stoker")


@pytest.fixture
async def engine() -> AsyncIterator[Serving]:
    async with serving(context=4096) as running:
        yield running


@pytest.fixture
async def sdk(engine: Serving) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=engine.url + "/v1", api_key="unused", max_retries=0) as client:
        yield client
