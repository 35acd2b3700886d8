"""The routes of agents, behind the gateway: who calls is what its signed statement says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from stoker.agents import probes, schedules
from stoker.agents import store as rows
from stoker.agents.metrics import ServiceMetrics
from stoker.agents.runs import ENDED, STATUSES
from stoker.agents.service import QUIET_S, Service
from stoker.agents.spans import tree_spans
from stoker.agents.tasks import MODEL
from stoker.base import json_text, logs
from stoker.base.errors import InvalidInput, NotPermitted, StokerError, Unauthenticated
from stoker.meter.grants import CALLER_HEADER, CallerClaim
from stoker.queue import Depth
from stoker.telemetry.spans import parent_in
from stoker.web import sse
from stoker.web.parameters import Choice, Number, whole, whole_in, whole_of
from stoker.web.server import JSONResponse, application, read_json, while_connected

Json = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]

STATUS = Choice("status", STATUSES, "Only those in this status.")
LIMIT = whole("limit", 1, 100, 20, "How many at most.")
WAIT = Number("wait", 0, 300.0, "Wait so many seconds for its end.", default=0.0, of_what=" of seconds")
AFTER = whole("after", 0, 10**9, 0, "Go on after the event with this id.")
EVENTS = whole("limit", 1, 1000, 200, "Of a page: how many at most.")
_CLOSED = {401: 4401, 404: 4404}  # of a WebSocket, by the error's status


def create(service: Service, secret: str, metrics: ServiceMetrics) -> Starlette:
    routes = _Routes(service, secret)
    each = "/v1/agents/{name}"
    run = each + "/runs/{id}"
    made = application(
        [
            *probes.routes(metrics.metrics, metrics.refresh),
            Route("/ready", routes.ready),
            Route("/v1/agents", routes.agents),
            Route("/v1/agents/runs", routes.runs),
            *routes.of_run("/v1/agents/runs/{id}"),
            Route(each, routes.agent),
            Route(each + "/runs", routes.start, methods=["POST"]),
            Route(each + "/runs", routes.runs),
            *routes.of_run(run),
            Route(each + "/threads/{id}", routes.thread),
            Route(each + "/threads/{id}", routes.forget, methods=["DELETE"]),
            Route(each + "/schedules", routes.schedule, methods=["POST"]),
            Route(each + "/schedules", routes.scheduled),
            Route(each + "/schedules/{id}", routes.unschedule, methods=["DELETE"]),
        ]
    )
    # A redirect would lead whoever asks the gateway to this service's own address.
    made.router.redirect_slashes = False
    return made


class _Routes:
    def __init__(self, service: Service, secret: str) -> None:
        self._service, self._secret = service, secret

    def of_run(self, path: str) -> list[Route | WebSocketRoute]:
        return [
            Route(path, self.show),
            Route(path + "/cancel", self.cancel, methods=["POST"]),
            Route(path + "/resume", self.resume, methods=["POST"]),
            Route(path + "/events", self.events),
            Route(path + "/trace", self.trace),
            WebSocketRoute(path + "/ws", self.ws),
        ]

    def _caller(self, request: Request | WebSocket) -> CallerClaim:
        """Raises Unauthenticated."""
        said = request.headers.get(CALLER_HEADER)
        if said is None:
            raise Unauthenticated("this service is asked through the gateway", code="no_caller")
        caller = CallerClaim.read(said, self._secret, now=self._service.clock.now())
        if caller.run is not None:
            _check_own(caller.run, request)
        return caller

    async def _body(self, request: Request) -> Json:
        return await read_json(request, max_bytes=self._service.platform.gateway.max_body_bytes)

    # --- this process -----------------------------------------------------------------------------------------------

    async def ready(self, _: Request) -> Response:
        depth: Depth = await self._service.queue.depth(MODEL)
        return JSONResponse({"ready": True, "steps": {"waiting": depth.lag, "running": depth.pending}})

    # --- agents -----------------------------------------------------------------------------------------------------

    async def agents(self, request: Request) -> Response:
        self._caller(request)
        names = self._service.platform.agents.definitions
        return JSONResponse({"object": "list", "data": [self._service.described(name) for name in names]})

    async def agent(self, request: Request) -> Response:
        self._caller(request)
        return JSONResponse(self._service.described(request.path_params["name"]))

    # --- runs -------------------------------------------------------------------------------------------------------

    async def start(self, request: Request) -> Response:
        caller, name = self._caller(request), request.path_params["name"]
        body = await self._body(request)
        once, parent = request.headers.get("idempotency-key"), parent_in(request.headers)
        trace = None if parent is None else parent.text
        logs.bound.set(parent)
        run = await self._service.start(caller, name, body, once=once, trace=trace)
        shown = await self._service.shown(caller, run.id)
        return JSONResponse(shown, 202, headers={"Location": f"/v1/agents/{name}/runs/{run.id}"})

    async def runs(self, request: Request) -> Response:
        caller, name, query = self._caller(request), request.path_params.get("name"), request.query_params
        if name is not None:
            self._service.agent(name)
        asked = {
            "agent": name,
            "status": STATUS.of(request),
            "thread": query.get("thread"),
            "after": query.get("after"),
        }
        limit = whole_of(LIMIT, request)
        found = await self._service.listed(caller, **asked, limit=limit + 1)
        page = found[:limit]
        has_more = len(found) > len(page)
        return JSONResponse({"object": "list", "data": page, "has_more": has_more})

    async def show(self, request: Request) -> Response:
        caller, run, name = self._asked(request)
        wait_s = WAIT.of(request) or 0.0
        if wait_s > 0:
            shown = await while_connected(request, self._service.ended(caller, run, name, wait_s))
        else:
            shown = await self._service.shown(caller, run, name)
        return JSONResponse(shown)

    async def cancel(self, request: Request) -> Response:
        caller, run, name = self._asked(request)
        await self._service.cancel(caller, run, name)
        return JSONResponse(await self._service.shown(caller, run))

    async def resume(self, request: Request) -> Response:
        caller, run, name = self._asked(request)
        body = await self._body(request) if int(request.headers.get("content-length") or 0) else {}
        await self._service.resume(caller, run, name, body)
        return JSONResponse(await self._service.shown(caller, run))

    async def trace(self, request: Request) -> Response:
        caller, run, name = self._asked(request)
        found = await self._service.run(caller, run, name)
        return JSONResponse({"object": "list", "data": tree_spans(await self._service.tree(found))})

    def _asked(self, request: Request | WebSocket) -> tuple[CallerClaim, str, str | None]:
        return self._caller(request), request.path_params["id"], request.path_params.get("name")

    # --- events -----------------------------------------------------------------------------------------------------

    async def events(self, request: Request) -> Response:
        caller, run, name = self._asked(request)
        found = await self._service.run(caller, run, name)
        said = request.headers.get("last-event-id") or request.query_params.get("after")
        after = whole_in(AFTER, said)
        if request.query_params.get("format") == "json":
            page = await self._service.events(found.id, after, whole_of(EVENTS, request))
            return JSONResponse({"object": "list", "data": [event.shown() for event in page]})
        return sse.EventStream(self._as_sse(found.id, after))

    async def _as_sse(self, run_id: str, after: int) -> AsyncIterator[bytes]:
        async for event in self._each(run_id, after):
            yield f"id: {event['id']}\nevent: {event['type']}\n".encode() + sse.event(json_text.dumps(event))
        yield sse.event(sse.DONE)

    async def _each(self, run_id: str, after: int) -> AsyncIterator[Json]:
        """All after that, as they come, until the run has ended."""
        async with self._service.queue.listening(run_id) as rung:
            while True:
                rung.clear()
                run = await self._service.store.read(lambda c: _status(c, run_id))
                while page := await self._service.events(run_id, after):
                    for event in page:
                        yield event.shown()
                    after = page[-1].id
                if run in ENDED:
                    return
                try:
                    async with asyncio.timeout(QUIET_S):
                        await rung.wait()
                except TimeoutError:
                    pass

    async def ws(self, socket: WebSocket) -> None:
        """The events of a run as messages, and its answers and cancellation as messages of the client: {"resume":
        {...}}, {"cancel": true}."""
        await socket.accept()
        try:
            caller, run_id, name = self._asked(socket)
            run = await self._service.run(caller, run_id, name)
            after = whole_of(AFTER, socket)
        except StokerError as error:
            await socket.send_json(_problem(error))
            await socket.close(_CLOSED.get(error.status, 4400))
            return
        sending = asyncio.create_task(self._send(socket, run.id, after))
        hearing = asyncio.create_task(self._hear(socket, caller, run.id))
        await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (sending, hearing):
            task.cancel()
        await asyncio.gather(sending, hearing, return_exceptions=True)

    async def _send(self, socket: WebSocket, run_id: str, after: int) -> None:
        async for event in self._each(run_id, after):
            await socket.send_json(event)
        await socket.close(1000)

    async def _hear(self, socket: WebSocket, caller: CallerClaim, run_id: str) -> None:
        while True:
            try:
                said = json_text.loads(await socket.receive_text())
                if isinstance(said, dict) and said.get("cancel") is True:
                    await self._service.cancel(caller, run_id)
                elif isinstance(said, dict) and isinstance(said.get("resume"), dict):
                    await self._service.resume(caller, run_id, None, said["resume"])
                else:
                    raise InvalidInput('a message has to be {"resume": {...}} or {"cancel": true}')
            except WebSocketDisconnect:
                return
            except ValueError:
                await socket.send_json(_problem(InvalidInput("the message is not JSON", code="invalid_json")))
            except StokerError as error:
                await socket.send_json(_problem(error))

    # --- threads and schedules --------------------------------------------------------------------------------------

    async def thread(self, request: Request) -> Response:
        caller, name = self._caller(request), request.path_params["name"]
        return JSONResponse(await self._service.thread(caller, name, request.path_params["id"]))

    async def forget(self, request: Request) -> Response:
        caller, name, thread = self._caller(request), request.path_params["name"], request.path_params["id"]
        await self._service.thread(caller, name, thread)
        await self._service.forget_thread(caller, name, thread)
        return JSONResponse({"id": thread, "object": "agent.thread", "deleted": True})

    async def schedule(self, request: Request) -> Response:
        caller, name = self._caller(request), request.path_params["name"]
        made = await self._service.schedule(caller, name, await self._body(request))
        return JSONResponse(made.shown(), 201)

    async def scheduled(self, request: Request) -> Response:
        caller, name = self._caller(request), request.path_params["name"]
        self._service.agent(name)
        tenant = None if caller.role == "admin" else caller.tenant
        found = await self._service.store.read(lambda c: schedules.of_agent(c, name, tenant))
        return JSONResponse({"object": "list", "data": [each.shown() for each in found]})

    async def unschedule(self, request: Request) -> Response:
        caller, name, id = self._caller(request), request.path_params["name"], request.path_params["id"]
        tenant = None if caller.role == "admin" else caller.tenant
        await self._service.store.write(lambda c: schedules.delete(c, name, id, tenant))
        return JSONResponse({"id": id, "object": "agent.schedule", "deleted": True})


def _check_own(run: str, request: Request | WebSocket) -> None:
    """Of the runs of its tenant, one that asks by its grant sees itself and what is below it. What it may not do is the
    service's to say. Raises NotPermitted."""
    path, method = request.url.path.rstrip("/"), request.scope.get("method", "GET")
    asked = str(request.path_params.get("id", "")) if "/runs/" in path else ""
    is_own = asked == run or asked.startswith(f"{run}.")
    is_about_agents = path.count("/") <= 3 and not path.endswith("/runs")
    is_judged = method == "POST" or ("/threads/" in path and method == "DELETE")
    if not (is_own or is_about_agents or is_judged):
        raise NotPermitted(f"run {run} may not ask for {path[:100]}", hint="it sees itself and its sub-agents")


def _status(connection: Any, run_id: str) -> str:
    return rows.run_of(connection, run_id).status


def _problem(error: StokerError) -> Json:
    return {"error": {"message": error.message, "type": error.type, "code": error.code, "param": None}}
