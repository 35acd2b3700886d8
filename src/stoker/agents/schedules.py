"""Runs at set times. One process at a time fires them (`Queue.lead`); a firing has the id of its run made of the
schedule and the time, so that whoever fires it twice makes one run."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import Connection, text

from stoker.base import json_text
from stoker.base.errors import InvalidInput, NotFound
from stoker.policy import cron

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """`said`: `cron`, `timezone`, and the body of each run. `next_at`: seconds since the epoch; None: it never fires
    again."""

    id: str
    agent: str
    tenant: str
    key_id: str
    team: str | None
    said: Json
    next_at: float | None
    last_run: str | None
    created_at: float

    def shown(self) -> Json:
        return {
            "id": self.id,
            "object": "agent.schedule",
            "agent": self.agent,
            **self.said,
            "next_at": self.next_at,
            "last_run": self.last_run,
            "created_at": self.created_at,
        }

    def run_id(self) -> str:
        """Of the run that its next firing is."""
        return "run_" + hashlib.sha256(f"{self.id} {self.next_at}".encode()).hexdigest()[:26]


def said_in(body: Mapping[str, Any]) -> Json:
    """What a schedule says, of a request's body. Raises InvalidInput."""
    schedule, zone = body.get("cron"), body.get("timezone") or "UTC"
    wrong = cron.fault(schedule) if isinstance(schedule, str) else "has to be a text, such as 0 8 * * 1-5"
    if wrong:
        raise InvalidInput(f"cron {wrong}", param="cron")
    zone_of(zone)
    of_run = ("input", "thread", "limits", "grants", "metadata", "session")
    unknown = sorted(set(body) - {"cron", "timezone", *of_run})
    if unknown:
        raise InvalidInput(f"{unknown[0][:64]!r} is nothing that a schedule has", param=unknown[0][:64])
    kept = {name: body[name] for name in of_run if name in body}
    if "input" not in kept:
        raise InvalidInput("there is no input in the body", param="input")
    return {"cron": schedule, "timezone": zone, **kept}


def zone_of(name: object) -> ZoneInfo:
    """Raises InvalidInput."""
    try:
        return ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(
            f"timezone is {str(name)[:60]!r}; it has to be one such as Europe/Berlin", param="timezone"
        ) from None


def next_after(said: Mapping[str, Any], now: float) -> float | None:
    """When it fires next. The wall clock of its zone is what counts: at 8 o'clock, summer and winter. A time that a day
    does not have, since clocks are put forward, is passed over."""
    zone = zone_of(said["timezone"])
    local = datetime.fromtimestamp(now, zone).replace(tzinfo=UTC)
    while True:
        found = cron.next_after(said["cron"], local)
        if found == cron.NEVER:
            return None
        at = found.replace(tzinfo=zone)
        if at.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == at.replace(tzinfo=None) and at.timestamp() > now:
            return at.timestamp()
        local = found


def insert(connection: Connection, schedule: Schedule) -> None:
    connection.execute(
        text(
            "INSERT INTO agent_schedules (id, agent, tenant, key_id, team, said, next_at, last_run, created_at) "
            "VALUES (:id, :agent, :tenant, :key_id, :team, :said, :next_at, :last_run, :created_at)"
        ),
        {name: getattr(schedule, name) for name in schedule.__slots__}
        | {"said": json_text.dumps(schedule.said).decode()},
    )


_SELECT = "SELECT id, agent, tenant, key_id, team, said, next_at, last_run, created_at FROM agent_schedules"


def of_agent(connection: Connection, agent: str, tenant: str | None) -> list[Schedule]:
    where = "WHERE agent = :agent" + ("" if tenant is None else " AND tenant = :tenant")
    found = connection.execute(text(f"{_SELECT} {where} ORDER BY id"), {"agent": agent, "tenant": tenant})
    return [_schedule(row) for row in found.mappings()]


def due(connection: Connection, now: float) -> list[Schedule]:
    found = connection.execute(text(f"{_SELECT} WHERE next_at <= :now ORDER BY next_at LIMIT 100"), {"now": now})
    return [_schedule(row) for row in found.mappings()]


def fired(connection: Connection, schedule: Schedule, next_at: float | None, run_id: str | None) -> None:
    connection.execute(
        text(
            "UPDATE agent_schedules SET next_at = :next, last_run = coalesce(:run, last_run) "
            "WHERE id = :id AND next_at = :was"
        ),
        {"id": schedule.id, "next": next_at, "run": run_id, "was": schedule.next_at},
    )


def delete(connection: Connection, agent: str, schedule_id: str, tenant: str | None) -> None:
    """Raises NotFound, also for another tenant's."""
    where = "WHERE id = :id AND agent = :agent" + ("" if tenant is None else " AND tenant = :tenant")
    values = {"id": schedule_id, "agent": agent, "tenant": tenant}
    if not connection.execute(text(f"DELETE FROM agent_schedules {where}"), values).rowcount:
        raise NotFound(f"there is no schedule {schedule_id[:64]!r} of {agent}", code="schedule_not_found")


def _schedule(row: Mapping[Any, Any]) -> Schedule:
    return Schedule(**{**row, "said": json_text.loads(row["said"])})
