"""What a process of the platform owes its supervisor: it says when it is ready, stops when told, and never outlives it.

Contract of `python -m stoker.gateway`, `stoker.engine` and `stoker.worker`: events as JSON lines on stderr; one line
`{"ready": true, "url": ...}` on stdout; SIGTERM or SIGINT drains and ends with exit code 0; with `--leash`, end of
file on stdin means that the supervisor is gone, and does the same. A worker also knows SIGUSR1: `retire_event`.
"""

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
import threading

# The variable with what an embedded engine asks of whoever calls it, so that nobody on its machine gets round budgets.
CLOUDWATCH_ENV = "STOKER_CLOUDWATCH"
"""`on` where the gateway puts metrics into CloudWatch: in the cluster. The same platform.yaml runs on laptops, whose
requests are not the cluster's."""
ENGINE_KEY = "STOKER_ENGINE_KEY"

# Objects that may be made, and not freed, before the collector looks at them. Python's own 700 are those of a few
# requests at once.
_YOUNG = 10_000


def stop_event(*, leash: bool) -> asyncio.Event:
    """An event that is set when this process should drain and leave. Call it inside the running loop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if leash:
        threading.Thread(target=_watch_stdin, args=(loop, stop), daemon=True, name="leash").start()
    return stop


def retire_event() -> asyncio.Event:
    """An event that is set when nobody needs this process any more: it finishes all that it has, takes nothing new, and
    leaves. What `stop_event` says comes first. Call it inside the running loop, before `say_ready`."""
    retire = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, retire.set)
    return retire


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass  # a closed stdin means the same as its end
    with contextlib.suppress(RuntimeError):  # the loop is closed: this process is leaving anyway
        loop.call_soon_threadsafe(stop.set)


def keep_what_is_there() -> None:
    """Call it once all is set up: the garbage collector passes over what is there now, which stays, and looks less
    often at what comes and goes, nearly all of which is freed without it. A tenth of a gateway's time otherwise."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)


def say_ready(**fields: object) -> None:
    said = {name: value for name, value in fields.items() if value is not None}
    sys.stdout.write(json.dumps({"ready": True, **said}) + "\n")
    sys.stdout.flush()
