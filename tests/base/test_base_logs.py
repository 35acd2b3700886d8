"""Logs are JSON lines, and never hold what was in a variable. In processes of their own: logging is global."""

import json
import subprocess
import sys
from typing import Any


def logged(script: str) -> list[dict[str, Any]]:
    """What a script writes to stderr, line by line."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_an_event_is_a_line_with_its_fields() -> None:
    [event] = logged(
        "from stoker.base import logs\n"
        "logs.configure('gateway')\n"
        "log = logs.get('stoker.x')\n"
        "log.debug('too quiet')\n"
        "log.info('replica joined', replica='general-0', tokens=3)\n"
    )
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "replica joined",
        "level": "info",
        "source": "stoker.x",
        "process": "gateway",
        "replica": "general-0",
        "tokens": 3,
    }


SECRETS = """
import logging
from stoker.base import logs
logs.configure('gateway')
def fail(body):
    key = 'sk-' + 'secret'
    raise ValueError('it went wrong')
try:
    fail('a body ' + 'of someone')
except ValueError as error:
    logs.get('x').error('request failed', exc_info=error)
    logging.getLogger('uvicorn.error').error('Exception in ASGI application', exc_info=error)
"""


def test_a_traceback_has_lines_and_no_values_also_from_libraries() -> None:
    events = logged(SECRETS)
    assert [event["event"] for event in events] == ["request failed", "Exception in ASGI application"]
    for event in events:
        [trace] = event["exception"]
        assert (trace["exc_type"], trace["exc_value"]) == ("ValueError", "it went wrong")
        assert [frame["name"] for frame in trace["frames"]] == ["<module>", "fail"]
        assert "secret" not in json.dumps(event)
        assert "a body of" not in json.dumps(event)


def test_libraries_are_heard_from_warnings_on() -> None:
    events = logged(
        "import logging\n"
        "from stoker.base import logs\n"
        "logs.configure('engine')\n"
        "logging.getLogger('lib').info('chatter')\n"
        "logging.getLogger('lib').warning('that is %s', 'odd')\n"
    )
    assert [(event["event"], event["level"], event["process"]) for event in events] == [
        ("that is odd", "warning", "engine")
    ]


BOUND = """
import asyncio
from stoker.base import logs
logs.configure('gateway')
log = logs.get('x')
class Span:
    in_logs = {'trace_id': 'aa', 'span_id': 'bb'}
async def main():
    log.info('before')
    logs.bound.set(Span())
    log.info('within')
    await asyncio.create_task(child())
    logs.bound.set(None)
    log.info('after')
    logs.bound.set(turns := logs.Turns())
    turns.now = Span()
    log.info('its turn')
    left = logs.beside(child(), lambda _: log.info('it has ended'))
    also = asyncio.create_task(child())
    turns.now = None
    await left
    await also
async def child():
    log.info('begun by it')
asyncio.run(main())
"""


def test_what_is_bound_is_in_each_event_until_it_is_over() -> None:
    assert [(event["event"], event.get("trace_id"), event.get("span_id")) for event in logged(BOUND)] == [
        ("before", None, None),
        ("within", "aa", "bb"),
        ("begun by it", "aa", "bb"),
        ("after", None, None),
        ("its turn", "aa", "bb"),
        ("begun by it", "aa", "bb"),
        ("begun by it", None, None),
        ("it has ended", "aa", "bb"),
    ]
