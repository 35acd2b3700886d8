"""How many examples a property is tried with: few in `make test`, TEST_EXAMPLES times as many in `make test-long`, whose 3
is what was usual when the properties were written."""

import os

TIMES = int(os.environ.get("TEST_EXAMPLES", "1"))


def examples(few: int) -> int:
    return few * TIMES
