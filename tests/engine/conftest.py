"""One thread for matrix products, as the engine's process sets it: read when numpy is imported, so before the tests."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
