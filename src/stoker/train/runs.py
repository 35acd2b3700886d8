"""Where runs are: `STATE/runs/NAME` holds the run file as it was begun (run.yaml), where its store is (store.json), and
the store itself where `checkpoints` says nothing else. No torch.

The store has run.yaml, too, so that a run that goes on elsewhere, on a machine that knows nothing of it, cannot go on as
another one.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from stoker.base.errors import Conflict, InvalidInput, NotFound
from stoker.registry import stores
from stoker.registry.runs import RunStore
from stoker.registry.stores import Changed, Store
from stoker.spec.loading import load_run, run_of, to_yaml
from stoker.spec.run import Run
from stoker.spec.section import plain, yaml_name

RUN_FILE = "run.yaml"
_STORE_FILE = "store.json"
_FOLDER = "runs"
_MOST_BYTES = 4 << 20
_MOST_OLD = 10_000

MAY_CHANGE = frozenset(
    {
        "budget",
        "checkpointing",
        "checkpoints",
        "data",
        "dataset.workers",
        "dataset.badLines",
        "evaluation",
        "gpus",
        "base",
        "memory",
        "nodes",
        "parallel",
        "prices",
        "processes",
        "publish",
        "registerAs",
        "relaunches",
        "recompute",
        "spot",
        "threads",
        "tracking",
        "validateEvery",
        "validation",
    }
)
