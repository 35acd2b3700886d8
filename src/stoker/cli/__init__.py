"""The command line. `main` is what the `stoker` script calls.

One module per command or group of commands; `app` puts them together and turns errors into words and exit codes. A
module imports what it needs inside its functions, so that `stoker --help` does not wait for a web stack.
"""

import sys
from typing import NoReturn


def main() -> NoReturn:
    from stoker.cli.app import run

    sys.exit(run(sys.argv[1:]))
