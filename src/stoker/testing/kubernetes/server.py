"""A stand-in for a cluster's API server, on loopback HTTPS: for tests of what applies, reads and deletes objects.

It stores objects, merges and owns their fields as server-side apply does, refuses what the catalogue's schemas and our
own validators refuse, plays the controllers in small, and lets a test make calls fail. What it does otherwise than
Kubernetes is said in each module. There is no authorization: whoever has the token may do all.
"""

import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from stoker.testing.kubernetes import certificates, discovery, faults, openapi, protobuf, selecting
from stoker.testing.kubernetes.controllers import Controllers, Readiness
from stoker.testing.kubernetes.faults import Call, Fault, How
from stoker.testing.kubernetes.resources import Registry, Resource
from stoker.testing.kubernetes.statuses import ApiError, no_such_path
from stoker.testing.kubernetes.storage import Event, Storage
from stoker.testing.kubernetes.trees import copied
from stoker.testing.kubernetes.verbs import Query, Target, Verbs

Tree = dict[str, Any]

TOKEN = "stand-in"  # noqa: S105 - of a server on loopback that lives as long as a test
_MAX_BODY = 3 << 20  # of Kubernetes' API server, too
_WATCH_S = 30.0
_WATCH_MOST_S = 300.0


@contextlib.contextmanager
def api_server(
    *,
    installed: Collection[str] | Literal["all"] = "all",
    version: str = "1.34",
    now: Callable[[], datetime] | None = None,
) -> Iterator["ApiServer"]:
    """`installed`: API groups of custom kinds that are served from the beginning ("keda.sh"); others are served once a
    CustomResourceDefinition of theirs is made. `version`: what `/version` says; Kubernetes' own kinds are those of the
    nearest minor of the catalogue. `now`: the time of writes; counted by seconds by default.

    Raises RuntimeError at its end where the stand-in itself met an error, which clients saw as a 500."""
    server = ApiServer(installed, version, now)
    server.start()
    try:
        yield server
    finally:
        server.stop()
    if server.broken:
        raise RuntimeError("the stand-in met an error of its own; its calls are in .calls") from server.broken[0]


class ApiServer:
    """See `api_server`. Its methods may be called while requests are answered."""

    def __init__(
        self, installed: Collection[str] | Literal["all"], version: str, now: Callable[[], datetime] | None
    ) -> None:
        self.version = version
        self.calls: list[Call] = []
        """In order of their coming."""
        self.broken: list[Exception] = []
        """Errors of the stand-in itself."""
        self._faults: list[Fault] = []
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._closing = False
        self._registry = Registry(installed, version)
        self._storage = Storage(now)
        self._controllers = Controllers(self._registry, self._storage)
        self._verbs = Verbs(self._registry, self._storage, self._controllers.after)
        self._connections: set[socket.socket] = set()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = False
        self._http.request_queue_size = 64
        self._http.socket = certificates.server_context().wrap_socket(
            self._http.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"https://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends every connection and waits for the threads that answer."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._http.shutdown()
        self._thread.join()
        with self._lock:
            open_now = list(self._connections)
        for each in open_now:
            _shut(each)
        self._http.server_close()

    # for tests

    def kubeconfig(self, path: Path, context: str = "stand-in") -> Path:
        """Written to `path`: one context, which signs in with a bearer token."""
        authority = base64.b64encode(certificates.pem()[0].encode()).decode()
        cluster = {"server": self.url, "certificate-authority-data": authority}
        path.write_text(
            json.dumps(  # which is YAML, and read sooner
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": context,
                    "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
                    "clusters": [{"name": context, "cluster": cluster}],
                    "users": [{"name": context, "user": {"token": TOKEN}}],
                }
            ),
            encoding="utf-8",
        )
        return path

    def objects(self, kind: str | None = None, namespace: str | None = None) -> list[Tree]:
        """Copies of what is stored, in the version it was last written in; sorted by group, kind, namespace, name."""
        with self._lock:
            return [
                copied(obj) for id, obj in self._storage.all() if kind in (None, id[1]) and namespace in (None, id[2])
            ]

    def get(self, kind: str, name: str, namespace: str | None = None) -> Tree | None:
        """The first of that name, where no namespace is said."""
        found = [each for each in self.objects(kind, namespace) if each["metadata"]["name"] == name]
        return found[0] if found else None

    def fail(self, when: Callable[[Call], bool] | int, how: How, times: int = 1) -> None:
        """Lets calls go wrong: those that `when` says yes to, or the n-th that changes something, counted from 1 and
        from the beginning. `how`: "refuse", "lose", or the status that is answered instead."""
        with self._lock:
            self._faults.append(Fault(when, how, times))

    @property
    def counted(self) -> int:
        """How many calls came that change something."""
        return max((each.changing for each in list(self.calls)), default=0)

    @property
    def readiness(self) -> Readiness:
        """What becomes of workloads: "ready" at once, "stuck", or what a mapping or a function says of (kind, name):
        one of these two, or why a container waits ("ImagePullBackOff"). Counts for what is written from now on, and
        after `settle` for all."""
        return self._controllers.readiness

    @readiness.setter
    def readiness(self, value: Readiness) -> None:
        self._controllers.readiness = value

    def settle(self) -> None:
        """Controllers look at every object again."""
        with self._changed:
            self._controllers.settle()
            self._changed.notify_all()

    def serve(self, *groups: str) -> None:
        """As if their definitions had been installed now."""
        with self._lock:
            self._registry.serve(*groups)

    def edit(
        self, kind: str, name: str, namespace: str | None, change: Callable[[Tree], None], manager: str = "kubectl-edit"
    ) -> None:
        """Somebody else changes an object: `change` gets it and changes it in place."""
        obj = self.get(kind, name, namespace)
        if obj is None:
            raise LookupError(f"there is no {kind} {name} to edit")
        change(obj)
        api_version = str(obj["apiVersion"])
        group, _, version = api_version.rpartition("/")
        resource = self._registry.of_kind(group, kind)
        assert resource is not None  # noqa: S101  # it has objects
        target = Target(resource, version, obj["metadata"].get("namespace", ""), name)
        with self._changed:
            self._verbs.replace(target, obj, Query(manager=manager))
            self._changed.notify_all()

    def put(self, *objects: Tree) -> None:
        """As controllers and kubelets wrote them: stored as they are, with their status, uid and times."""
        with self._changed:
            for obj in objects:
                meta = obj["metadata"]
                group = str(obj["apiVersion"]).rpartition("/")[0]
                self._storage.replace((group, obj["kind"], meta.get("namespace", ""), meta["name"]), obj)
            self._changed.notify_all()

    def take(self, kind: str, name: str) -> None:
        """It is gone, whatever its finalizers and owners say."""
        with self._changed:
            for id in [each for each in self._storage.ids() if (each[1], each[3]) == (kind, name)]:
                self._storage.remove(id)
            self._changed.notify_all()

    # requests

    def receive(self, method: str, path: str, query: dict[str, str], agent: str) -> tuple[Call, How | None]:
        """A call is written down; and what goes wrong with it."""
        with self._lock:
            changes = faults.changes_something(method, path, query)
            number = self.counted + 1 if changes else 0
            call = Call(len(self.calls) + 1, number, method, path, query, agent)
            self.calls.append(call)
            return call, next((each.how for each in self._faults if each.strikes(call)), None)

    def answer(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> tuple[int, Any, list[str], str]:
        """Status, body, warnings and content type."""
        if headers.get("authorization") != f"Bearer {TOKEN}":
            raise ApiError(401, "Unauthorized")
        accept = headers.get("accept", "")
        with self._changed:
            found = self._meta(path, accept)
            if found is not None:
                content = "application/json"
                if found.get("kind") == "APIGroupDiscoveryList":
                    content += f";g={discovery.AGGREGATED};v=v2;as=APIGroupDiscoveryList"
                return 200, found, [], content
            target = self.target(path)
            asked = _query(query, headers.get("user-agent", ""))
            status, found = self._object(method, target, asked, headers, body)
            self._changed.notify_all()
            return status, found, asked.warnings, "application/json"

    def _meta(self, path: str, accept: str) -> Tree | None:
        parts = [part for part in path.split("/") if part]
        match parts:
            case ["version"]:
                return discovery.version(self.version)
            case ["api"] if discovery.AGGREGATED in accept:
                return discovery.aggregated(self._registry, core=True)
            case ["apis"] if discovery.AGGREGATED in accept:
                return discovery.aggregated(self._registry, core=False)
            case ["api"]:
                return discovery.core_versions(self.url)
            case ["apis"]:
                return discovery.group_list(self._registry)
            case ["apis", group]:
                return discovery.group(self._registry, group)
            case ["api", version]:
                return discovery.resource_list(self._registry, "", version)
            case ["apis", group, version]:
                return discovery.resource_list(self._registry, group, version)
            case ["openapi", "v3"]:
                return openapi.index(self._registry)
            case ["openapi", "v3", "api", version]:
                return openapi.document(self._registry, "", version)
            case ["openapi", "v3", "apis", group, version]:
                return openapi.document(self._registry, group, version)
            case ["readyz" | "healthz" | "livez", *_]:
                return {}
        return None

    def target(self, path: str) -> Target:
        """Raises ApiError 404 for a path of no kind that is served."""
        parts = [unquote(part) for part in path.split("/") if part]
        if parts[:1] == ["api"] and len(parts) > 2:
            group, version, rest = "", parts[1], parts[2:]
        elif parts[:1] == ["apis"] and len(parts) > 3:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            raise no_such_path()
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        resource = self._registry.at(group, version, rest[0])
        if resource is None or len(rest) > 3 or (namespace and not resource.namespaced):
            raise no_such_path()
        name, subresource = [*rest, "", ""][1:3]
        if subresource not in ("", "status") or (subresource and not resource.status):
            raise no_such_path()
        if name and resource.namespaced and not namespace:
            raise no_such_path()
        return Target(resource, version, namespace, name, subresource)

    def _object(
        self, method: str, target: Target, query: Query, headers: dict[str, str], body: bytes
    ) -> tuple[int, Tree]:
        content = headers.get("content-type", "application/json").partition(";")[0].strip()
        if content == protobuf.CONTENT and method != "GET" and body:
            content, body = "application/json", json.dumps(protobuf.decoded(body)).encode()
        if method == "GET":
            return 200, self._verbs.get(target) if target.name else self._verbs.collection(target, query)
        if method == "DELETE":
            options = _tree(body) if body.strip() else {}
            verb = self._verbs.delete if target.name else self._verbs.delete_all
            return 200, verb(target, options, query)
        if method == "POST" and not target.name:
            if target.resource.namespaced and not target.namespace:
                raise ApiError(405, "an object of a namespace is made in its namespace")
            return 201, self._verbs.create(target, _tree(body), query)
        if method == "PUT" and target.name:
            return 200, self._verbs.replace(target, _tree(body), query)
        if method == "PATCH" and target.name:
            made = self._storage.get(target.id) is None
            return (201 if made else 200), self._verbs.patch(target, content, body, query)
        raise ApiError(405, f"the server does not allow {method} on the requested resource")

    def watch(self, target: Target, query: dict[str, str]) -> Iterator[Tree]:
        """Events of a collection, as they come; ends after `timeoutSeconds`, or with the server."""
        asked = _query(query, "")
        fields = ",".join(filter(None, (asked.fields, f"metadata.name={target.name}" if target.name else "")))
        matches = selecting.selector(asked.labels, fields)
        since = query.get("resourceVersion", "")
        until = time.monotonic() + min(float(query.get("timeoutSeconds") or _WATCH_S), _WATCH_MOST_S)
        position = 0
        if since in ("", "0"):
            with self._lock:
                position = len(self._storage.events)
                there = [
                    self._verbs.shown(obj, target)
                    for _, obj in self._storage.of(target.resource, target.namespace)
                    if matches(obj)
                ]
            yield from ({"type": "ADDED", "object": each} for each in there)
            if _says_yes(query.get("sendInitialEvents")):
                yield {"type": "BOOKMARK", "object": self._bookmark(target)}
        after = int(since) if since.isdecimal() else 0
        while True:
            with self._changed:
                while position >= len(self._storage.events):
                    left = until - time.monotonic()
                    if self._closing or left <= 0 or not self._changed.wait(left):
                        return
                fresh = [each for each in self._storage.events[position:] if each.version > after]
                position = len(self._storage.events)
                shown = [self._shown(each, target) for each in fresh if _of(each, target) and matches(each.obj)]
            yield from shown

    def _bookmark(self, target: Target) -> Tree:
        """What ends the events of what was there when a watch began, for clients that ask for no list."""
        meta = {"resourceVersion": str(self._storage.version), "annotations": {"k8s.io/initial-events-end": "true"}}
        return {"kind": target.resource.kind, "apiVersion": target.api_version, "metadata": meta}

    def _shown(self, event: Event, target: Target) -> Tree:
        return {"type": event.kind, "object": self._verbs.shown(event.obj, target)}

    def opened(self, connection: socket.socket, is_open: bool) -> None:
        with self._lock:
            (self._connections.add if is_open else self._connections.discard)(connection)
            if is_open and self._closing:
                _shut(connection)

    @property
    def is_closing(self) -> bool:
        return self._closing


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _of(event: Event, target: Target) -> bool:
    resource: Resource = target.resource
    return event.id[:2] == (resource.group, resource.kind) and target.namespace in ("", event.id[2])


def _says_yes(text: str | None) -> bool:
    return text in ("1", "t", "T", "true", "True", "TRUE")  # as Go reads it


def _query(query: dict[str, str], agent: str) -> Query:
    return Query(
        manager=query.get("fieldManager", ""),
        agent=agent.partition("/")[0],
        force=_says_yes(query.get("force")),
        dry_run=query.get("dryRun") == "All",
        validation=query.get("fieldValidation", "Warn"),
        labels=query.get("labelSelector", ""),
        fields=query.get("fieldSelector", ""),
        limit=int(query.get("limit") or 0),
        after=query.get("continue", ""),
    )


def _tree(body: bytes) -> Tree:
    try:
        found = json.loads(body)
    except ValueError:
        try:
            found = yaml.safe_load(body)
        except yaml.YAMLError as error:
            raise ApiError(400, f"error decoding the body: {error}") from error
    if not isinstance(found, dict):
        raise ApiError(400, "the body must be an object")
    return found


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def setup(self) -> None:
            super().setup()
            server.opened(self.connection, True)

        def finish(self) -> None:
            for close in (super().finish, self.wfile.close, self.rfile.close):
                with contextlib.suppress(OSError):  # whoever asked is not there any more
                    close()
            server.opened(self.connection, False)

        def handle(self) -> None:
            with contextlib.suppress(OSError):
                super().handle()

        def do_GET(self) -> None:
            _serve(self, server)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - names of http.server

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def _serve(handler: BaseHTTPRequestHandler, server: ApiServer) -> None:
    length = int(handler.headers.get("content-length") or 0)
    if length > _MAX_BODY:
        handler.close_connection = True
        _send(handler, 413, ApiError(413, "the body is too large", "RequestEntityTooLarge").status())
        return
    body = handler.rfile.read(length)
    parts = urlsplit(handler.path)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    headers = {name.lower(): value for name, value in handler.headers.items()}
    call, how = server.receive(handler.command, parts.path, query, headers.get("user-agent", ""))
    if how == "refuse" or server.is_closing:
        handler.close_connection = True
        return
    try:
        if isinstance(how, int):
            raise ApiError(how, "a fault that a test asked for", details={"retryAfterSeconds": 0})
        if handler.command == "GET" and _says_yes(query.get("watch")):
            call.status = 200
            _stream(handler, server, server.target(parts.path), query)
            return
        status, found, warnings, content = server.answer(handler.command, parts.path, query, headers, body)
    except ApiError as error:
        status, found, warnings, content = error.code, error.status(), [], "application/json"
    except Exception as error:  # told to the test by api_server
        server.broken.append(error)
        status, found, warnings, content = 500, ApiError(500, f"the stand-in is broken: {error!r}").status(), [], ""
    if how == "lose":
        handler.close_connection = True
        return
    call.status = status
    _send(handler, status, found, warnings, content)


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    found: Any,
    warnings: Collection[str] = (),
    content: str = "application/json",
) -> None:
    body = json.dumps(found, separators=(",", ":")).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", content)
    handler.send_header("Content-Length", str(len(body)))
    if status in (429, 503):
        handler.send_header("Retry-After", "0")
    for each in warnings:
        handler.send_header("Warning", f"299 - {json.dumps(each)}")
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def _stream(handler: BaseHTTPRequestHandler, server: ApiServer, target: Target, query: dict[str, str]) -> None:
    """A watch: a line of JSON per event, in chunks."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.flush()
    with contextlib.suppress(OSError):  # whoever watched is not there any more
        for event in server.watch(target, query):
            line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")
        handler.wfile.flush()
