"""What a run is, as each of its checkpoints says it: digests of what it learns from, and the settings that change what
is learned. Whoever goes on from a checkpoint, or makes something of it, compares. No torch."""

import json
from collections.abc import Mapping
from typing import Any

from stoker.base.errors import InvalidInput

SETTINGS = "settings"
"""Of a checkpoint's state: `runs.learned`."""

_DIGESTS = {
    "files_digest": ("data", "the data has changed since the run began"),
    "data_digest": ("data", "the data has changed since the run began (or how it is read: see dataset)"),
    "validation_digest": (
        "validation",
        "the validation data has changed, so that losses before and after cannot be compared",
    ),
    "base_digest": ("base", "what it began from has changed (weights, tokenizer or config.json)"),
}
"""Of a checkpoint's state: the setting that it is of, and what is wrong when it is another. `files_digest`: of the
files of data alone, however they are read."""


def compare(state: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """`state` of a checkpoint against what is said of the run now. What one of them does not say is not compared: it is
    not known here, or the checkpoint was made before checkpoints said it. Raises InvalidInput."""
    changes = settings_changed(state.get(SETTINGS) or {}, now.get(SETTINGS) or {})
    if changes:
        raise InvalidInput(
            f"the run's checkpoints were made with other settings: {'; '.join(changes)}",
            param="settings",
            hint="write them as they were, or begin anew with --fresh or under another name",
        )
    for name, (param, words) in _DIGESTS.items():
        before, after = state.get(name), now.get(name)
        if before is not None and after is not None and before != after:
            raise InvalidInput(
                f"{words}: {str(before)[:12]} then, {str(after)[:12]} now",
                param=param,
                hint="put back what was there, or begin anew with --fresh or under another name",
            )


def settings_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words, by path. A setting that only one of them knows is of another version of Stoker, and no change."""
    return [
        f"{path} was {json.dumps(before[path])} and is {json.dumps(now[path])}"
        for path in sorted(before.keys() & now.keys())
        if before[path] != now[path]
    ]
