"""What is not kept: usage records that are older than `ledger.retentionDays` says become sums of their days; what
admins' keys changed is forgotten after `ledger.auditDays`; files that have expired go, and so do the lines of batches
that have ended.
"""

import asyncio
from datetime import UTC, datetime, timedelta

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.meter.audit import AuditTrail
from stoker.meter.batches import BatchStore
from stoker.meter.files import FileStore
from stoker.meter.ledger import DAY_S, Ledger

_log = logs.get(__name__)
# A day ends once a day; a look that finds nothing to do is one step in an index.
LOOK_EVERY_S = 3600.0
# What has expired is not shown, so nobody sees when it goes.
SWEEP_EVERY_S = 60.0


async def prune_forever(ledger: Ledger, days: int | None, clock: Clock) -> None:
    """`days`: whole days of which records are kept besides today; None keeps all. Other gateways may do the same."""
    while True:
        if days is not None:
            today = datetime.fromtimestamp(clock.now(), UTC).date()
            try:
                pruned = await asyncio.to_thread(ledger.prune, today - timedelta(days=days), today)
            except StokerError as error:
                _log.warning("old usage stays", error=error.in_log)
            else:
                if pruned:
                    _log.info("old usage pruned", records=pruned, kept_days=days)
        await clock.sleep(LOOK_EVERY_S)


async def sweep_forever(files: FileStore, batches: BatchStore, clock: Clock) -> None:
    """Other gateways may do the same."""
    while True:
        await clock.sleep(SWEEP_EVERY_S)
        try:
            expired = await asyncio.to_thread(files.sweep)
            lines = await asyncio.to_thread(batches.sweep)
        except StokerError as error:
            _log.warning("old files stay", error=error.in_log)
        else:
            if expired or lines:
                _log.info("old files deleted", files=expired, lines_of_batches=lines)


async def forget_changes_forever(trail: AuditTrail, days: int, clock: Clock) -> None:
    while True:
        try:
            forgotten = await asyncio.to_thread(trail.prune, clock.now() - days * DAY_S)
        except StokerError as error:
            _log.warning("old records of the audit log stay", error=error.in_log)
        else:
            if forgotten:
                _log.info("old records of the audit log forgotten", records=forgotten, kept_days=days)
        await clock.sleep(LOOK_EVERY_S)
