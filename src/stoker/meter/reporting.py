"""`python -m stoker.meter.reporting`: one report of costs in a process of its own, since a month of a million requests
takes a third of a minute of a core, and a gateway has requests to answer meanwhile.

What is asked comes on stdin, the report goes to stdout, both as JSON. The ledger's URL, which may hold a password, is
in the environment. Ends with the exit code of the error, which is on stderr as JSON.
"""

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from stoker.base import json_text
from stoker.base.errors import StokerError
from stoker.meter import costs
from stoker.meter.bill import Line
from stoker.meter.ledger import Ledger
from stoker.meter.lives import Lives
from stoker.meter.store import Store

LEDGER_URL = "STOKER_LEDGER_URL"


def written(asked: costs.Asked, lines: Sequence[Line] | None, source: str) -> bytes:
    return json_text.dumps(
        {
            "asked": {**asdict(asked), "elsewhere": sorted(asked.elsewhere)},
            "lines": None if lines is None else [asdict(line) for line in lines],
            "source": source,
        }
    )


def read(text: bytes) -> tuple[costs.Asked, list[Line] | None, str]:
    said = json_text.loads(text)
    asked = said["asked"]
    asked = {**asked, "by": tuple(asked["by"]), "elsewhere": frozenset(asked["elsewhere"])}
    lines = None if said["lines"] is None else [Line(**line) for line in said["lines"]]
    return costs.Asked(**asked), lines, said["source"]


def main(environ: Mapping[str, str] = os.environ) -> int:
    asked, lines, source = read(sys.stdin.buffer.read())
    try:
        store = Store(environ[LEDGER_URL])
        found: dict[str, Any] = costs.report(asked, Ledger(store), Lives(store), lines=lines, source=source)
        store.close()
    except StokerError as error:
        sys.stderr.buffer.write(json_text.dumps({"message": error.message, "code": error.code}))
        return error.exit_code
    sys.stdout.buffer.write(json_text.dumps(found))
    return 0


if __name__ == "__main__":
    gc.disable()  # nothing of it goes round in circles, and looking for garbage among a million rows takes time
    sys.exit(main())
