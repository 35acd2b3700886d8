"""How many examples a property is tried with: few in `make test`, TEST_EXAMPLES times as many in `make test-long`.

Three times as many is what was usual when the properties were written."""

import os

TIMES = int(os.environ.get("TEST_EXAMPLES", "1"))


def examples(few: int) -> int:
    return few * TIMES
