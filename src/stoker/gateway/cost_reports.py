"""Reports of costs for who asks a gateway: small ones in a thread, large ones in a process of their own, one at a
time."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

from stoker.base import json_text, logs
from stoker.base.errors import Unavailable
from stoker.meter import costs, reporting
from stoker.meter.bill import Line
from stoker.meter.ledger import Ledger
from stoker.meter.lives import Lives

MOST_INLINE = 5000
"""Records; a thread that computes with more of them would hold up requests for more than a tenth of a second."""
_log = logs.get(__name__)


class CostReports:
    def __init__(self, ledger: Ledger, lives: Lives, ledger_url: str) -> None:
        self._ledger, self._lives, self._url = ledger, lives, ledger_url
        self._one = asyncio.Semaphore()

    async def report(
        self, asked: costs.Asked, *, lines: Sequence[Line] | None = None, source: str = "platform"
    ) -> dict[str, Any]:
        """As `costs.report`. Raises Unavailable."""
        count = await asyncio.to_thread(self._ledger.count, since=asked.since, until=asked.until)
        if count <= MOST_INLINE:
            return await asyncio.to_thread(costs.report, asked, self._ledger, self._lives, lines=lines, source=source)
        async with self._one:
            return await self._elsewhere(reporting.written(asked, lines, source))

    async def _elsewhere(self, asked: bytes) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "stoker.meter.reporting"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, reporting.LEDGER_URL: self._url},
        )
        try:
            out, said = await process.communicate(asked)
        except BaseException:
            if process.returncode is None:  # who asked has gone
                process.kill()
                await process.wait()
            raise
        if process.returncode:
            _log.error("report of costs failed", exit_code=process.returncode)
            raise Unavailable(_why(said), code="cost_report_failed")
        found: dict[str, Any] = json_text.loads(out)
        return found


def _why(said: bytes) -> str:
    """What the process says of itself; never a traceback."""
    try:
        return f"the report of costs failed: {json_text.loads(said)['message']}"
    except (ValueError, TypeError, KeyError):
        return "the report of costs failed; the gateway's log says more"
