"""One process of a run: `python -m stoker.train FILE [--state DIR]`, or `torchrun -m stoker.train FILE`.

Where the others are is in the environment, see `world`. Ends with a code of `exits`.
"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

from stoker.base import logs
from stoker.base.clock import SystemClock
from stoker.base.errors import StokerError


def main() -> int:
    parser = argparse.ArgumentParser(prog="stoker.train", description="One process of a training run.")
    # No option: torchrun would take --run for its own --run-path, wherever it stands.
    parser.add_argument("run", type=Path, help="the run file")
    state = Path(os.environ.get("STOKER_STATE", ".stoker"))
    parser.add_argument("--state", type=Path, default=state, help="where runs are remembered; default: $STOKER_STATE")
    asked = parser.parse_args()
    from stoker import spec
    from stoker.train import exits

    logs.configure("train", level="error")  # what people need to know is told

    def tell(text: str) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - for people

    try:
        run = spec.load_run(asked.run)
        from stoker.train.starting import STATES, Process

        code, why = Process(run, asked.run, asked.state, environ=os.environ, clock=SystemClock()).go()
    except StokerError as error:
        tell(f"error: {error.message}" + (f"\n\nhint: {error.hint}" if error.hint else ""))
        return exits.ASKED_WRONGLY if error.exit_code == 2 else exits.FAILED
    if why and int(os.environ.get("RANK", "0")) == 0:
        tell(f"{STATES.get(code, 'failed')}: {why}")
    return code


if __name__ == "__main__":
    sys.exit(main())
