"""The command line. `main` is what the `stoker` script calls.

One module per command or group of commands; `app` puts them together and turns errors into words and exit codes. A
module imports what it needs inside its functions, so that `stoker --help` does not wait for a web stack.
"""

import sys
from typing import NoReturn


def main() -> NoReturn:
    # From the first moment to the last: whoever signals cannot know how far it is.
    is_train = sys.argv[1:2] == ["train"]
    if is_train:
        from stoker.train import sigterm

        sigterm.hold()
    from stoker.cli.app import run

    code = run(sys.argv[1:])
    if is_train:
        sigterm.ignore()
    sys.exit(code)
