"""The platform as its admin sees it over HTTP: keys, tasks, usage, replicas. A platform that is hurt is asked again."""

import asyncio
from collections.abc import Mapping
from typing import Any

from stoker.base.clock import Clock
from stoker.base.errors import NotFound, Refused, StokerError, TimedOut, Unavailable
from stoker.drill.observed import SeenTask
from stoker.meter.usage import UsageRecord
from stoker.web.client import HttpClient, Timeouts

Json = dict[str, Any]

TENANT = "drill"
"""Whose key it is, so that what a drill uses is nobody's else."""
ENDED = ("done", "dead", "cancelled", "forwarded", "dropped")
# After a restart of the gateway or of Redis all that is asked works again; this is beyond what that takes.
PATIENCE_S = 30.0
_AGAIN_S = 0.2
_PAGE = 5000
_MOST_TASKS = 1000


class Outside:
    def __init__(self, url: str, admin_key: str, clock: Clock) -> None:
        self._http = HttpClient(url, key=admin_key, timeouts=Timeouts(connect_s=2.0, read_s=15.0))
        self._clock = clock

    async def close(self) -> None:
        await self._http.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> Any:
        """Raises StokerError; one that may be over soon (nobody there, 429, 503, 504) only once that time is over."""
        give_up_at = self._clock.monotonic() + patience_s
        while True:
            try:
                answer = await self._http.request(method, path, body=body, params=params)
                return answer.raise_for_error().json()
            except (Unavailable, TimedOut, Refused):
                if self._clock.monotonic() >= give_up_at:
                    raise
            await self._clock.sleep(_AGAIN_S)

    # --- the drill's own key ----------------------------------------------------------------------------------------

    async def make_key(self, name: str, *, tokens: int, expires_at: float) -> tuple[str, str]:
        """Its id and its secret. Raises StokerError at once: whoever cannot make one cannot drill."""
        wanted = {"tenant": TENANT, "name": name, "budgets": {"tokensTotal": tokens}, "expires_at": expires_at}
        made = await self.call("POST", "/admin/v1/keys", body=wanted, patience_s=2.0)
        return made["id"], made["key"]

    async def limit_key(self, key_id: str, *, tokens: int) -> None:
        await self.call("PATCH", f"/admin/v1/keys/{key_id}", body={"budgets": {"tokensTotal": tokens}})

    async def revoke_key(self, key_id: str) -> None:
        await self.call("DELETE", f"/admin/v1/keys/{key_id}")

    async def spent_and_reserved(self, key_id: str) -> tuple[int, int]:
        """What `stoker budgets` says."""
        rows = (await self.call("GET", "/admin/v1/budgets", params={"tenant": TENANT}))["budgets"]
        row = next(row for row in rows if row["id"] == key_id)
        return int(row["spent"]), int(row["reserved"])

    async def records(self, key_id: str, since: float) -> list[UsageRecord]:
        found: list[Json] = []
        params = {"tenant": TENANT, "since": repr(since), "limit": str(_PAGE)}
        while True:
            page = await self.call("GET", "/admin/v1/usage/records", params=params)
            found += page["records"]
            if page["next"] is None:
                return [UsageRecord.from_dict(record) for record in found if record["key_id"] == key_id]
            params["after"] = page["next"]

    # --- tasks ------------------------------------------------------------------------------------------------------

    async def tasks(self, model: str) -> list[SeenTask]:
        """The newest ones, without their results."""
        found = await self.call("GET", "/admin/v1/tasks", params={"model": model, "limit": str(_MOST_TASKS)})
        return [seen(task) for task in found["tasks"]]

    async def task(self, task_id: str, *, patience_s: float = PATIENCE_S) -> SeenTask | None:
        """None: the platform does not know it."""
        try:
            return seen(await self.call("GET", f"/v1/tasks/{task_id}", patience_s=patience_s))
        except NotFound:
            return None

    async def cancel(self, task_id: str) -> None:
        await self.call("DELETE", f"/v1/tasks/{task_id}", patience_s=5.0)

    # --- who serves -------------------------------------------------------------------------------------------------

    async def serving(self) -> set[str]:
        """The replicas that the gateway sends something to."""
        found = (await self.call("GET", "/admin/v1/replicas", patience_s=0.0))["replicas"]
        return {replica["id"] for replica in found if replica["state"] != "draining"}


async def generated_by(url: str) -> int | None:
    """How many tokens an embedded engine says that it has generated since its start; None: it does not say."""
    try:
        async with HttpClient(url, timeouts=Timeouts(connect_s=0.5, read_s=2.0)) as http:
            answer = await http.request("GET", "/metrics")
    except StokerError:
        return None
    for line in answer.body.decode(errors="replace").splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("vllm:generation_tokens_total"):
            return int(float(value))
    return None


def seen(task: Json) -> SeenTask:
    error = task.get("error")
    return SeenTask(
        id=task["id"],
        run=task.get("run"),
        state=task["state"],
        failures=tuple(str(failure.get("why")) for failure in task.get("failures") or ()),
        error=str(error.get("message", error)) if isinstance(error, dict) else None,
        answer=text_of(task.get("result")),
        worker=task.get("worker"),
    )


def text_of(completion: Any) -> str | None:
    """The text of a whole chat completion; None when it is none."""
    try:
        return str(completion["choices"][0]["message"]["content"])
    except (KeyError, IndexError, TypeError):
        return None


async def all_of(calls: list[Any], *, at_once: int = 8) -> list[Any]:
    """The results of coroutines, in their order, so many at a time."""
    room = asyncio.Semaphore(at_once)

    async def one(call: Any) -> Any:
        async with room:
            return await call

    return await asyncio.gather(*(one(call) for call in calls))
