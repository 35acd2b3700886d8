"""One thread for matrix products, as the engine's process sets it: read when numpy is imported, so before the tests."""

import os

from hypothesis import settings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# The machine that runs these may be busy with others: how long one example takes says nothing.
settings.register_profile("stoker", deadline=None)
settings.load_profile("stoker")
