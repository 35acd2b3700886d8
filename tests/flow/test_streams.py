"""Streams that outlive their connection, and many over one WebSocket, with real processes."""

import http.client
import json
import os
import signal
from typing import Any, NoReturn

import pytest
from flow_parts import Running, Start, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from stoker.local.up import is_ready
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store

pytestmark = [pytest.mark.flow, pytest.mark.redis]

ROOMY = "llm: {models: {general: {limits: {contextTokens: 4096, maxOutputTokens: 3000}}}}\n"
# An answer that does not end by itself: its end, token 1 of the embedded engine, is never chosen.
BODY = {
    "model": "general",
    "messages": [{"role": "user", "content": "Tell me a long story."}],
    "stream": True,
    "max_tokens": 600,
    "logit_bias": {"1": -100},
}


class Events:
    """The events of one answer, by (id, data); what breaks off just ends."""

    def __init__(self, running: Running, method: str, path: str, body: Any = None, **headers: str) -> None:
        self._connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=60)
        sent = {"Authorization": f"Bearer {running.key}", **headers}
        self._connection.request(method, path, None if body is None else json.dumps(body), sent)
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200, self._answer.read()
        self.id = self._answer.headers["X-Request-Id"]

    def next(self) -> tuple[str, str] | None:
        event: dict[str, str] = {}
        try:
            for line in self._answer:
                name, _, value = line.decode().strip().partition(": ")
                if value:
                    event[name] = value
                elif "data" in event:
                    return event.get("id", ""), event["data"]
        except (http.client.HTTPException, ConnectionError):
            pass
        return None

    def rest(self) -> list[tuple[str, str]]:
        found = list(iter(self.next, None))
        self._connection.close()
        return found


def text(events: list[tuple[str, str]]) -> str:
    return "".join(json.loads(data)["choices"][0]["delta"].get("content") or "" for _, data in events)


def test_a_stream_goes_on_after_its_gateway_was_killed(start: Start) -> None:
    running = start(spec=ROOMY)
    broken = Events(running, "POST", "/v1/chat/completions", BODY, **{"X-Stoker-Resumable": "true"})
    seen = [broken.next() for _ in range(3)]
    os.kill(running.pid_of("gateway"), signal.SIGKILL)
    before = [event for event in seen if event is not None] + broken.rest()
    assert before[-1][1] != "[DONE]"
    wait_until(lambda: is_ready(running.url), 60, lambda: f"not back: {running.run_json()}")

    *after, done = Events(running, "POST", "/v1/chat/completions", BODY, **{"Last-Event-ID": before[-1][0]}).rest()
    assert done == ("", "[DONE]")
    with_id = Events(running, "GET", f"/v1/tasks/{broken.id}/events").rest()
    assert [data for _, data in before + after] == [data for _, data in with_id[:-1]]
    assert text(before + after)

    store = Store(f"sqlite:///{running.state}/ledger.sqlite")
    try:
        wait_until(lambda: bool(Ledger(store).records()), 20, lambda: "no record")
        records = Ledger(store).records()
    finally:
        store.close()
    assert [(record.id, record.status, record.completion_tokens) for record in records] == [
        (broken.id, "done", BODY["max_tokens"])
    ]
    running.stop()


def test_one_connection_has_several_answers_at_once_and_is_told_when_the_platform_stops(start: Start) -> None:
    running = start(spec=ROOMY)
    url = running.url.replace("http://", "ws://") + "/v1/ws"
    texts: dict[str, str] = {"a": "", "b": ""}
    requests: dict[str, str] = {}
    with connect(url, additional_headers={"Authorization": f"Bearer {running.key}"}, proxy=None) as socket:
        for name in texts:
            body = {**BODY, "max_tokens": 40}
            socket.send(json.dumps({"action": "chat", "id": name, "body": body, "resumable": name == "b"}))
        ended: set[str] = set()
        while ended != texts.keys():
            frame = json.loads(socket.recv(timeout=60))
            if frame["type"] == "begin":
                requests[frame["id"]] = frame["request_id"]
            elif frame["type"] == "chunk":
                texts[frame["id"]] += frame["data"]["choices"][0]["delta"].get("content") or ""
            else:
                assert (frame["type"], frame["receipt"]["completion_tokens"]) == ("done", 40), frame
                ended.add(frame["id"])
        assert all(texts.values())
        socket.send(json.dumps({"action": "resume", "id": "c", "request_id": requests["b"]}))
        again = ""
        while (frame := json.loads(socket.recv(timeout=60)))["type"] != "done":
            if frame["type"] == "chunk":
                again += frame["data"]["choices"][0]["delta"].get("content") or ""
        assert again == texts["b"]

        socket.send(json.dumps({"action": "chat", "id": "d", "body": {**BODY, "max_tokens": 3000}}))
        assert json.loads(socket.recv(timeout=60))["type"] == "begin"
        os.kill(running.pid_of("gateway"), signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            _read_to_the_end(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    running.stop()
    store = Store(f"sqlite:///{running.state}/ledger.sqlite")
    records = Ledger(store).records()
    store.close()
    assert len(records) == 3
    kinds = sorted((record.kind, record.session or "") for record in records)
    assert [kind for kind, _ in kinds] == ["request", "request", "task"]
    assert len({session for _, session in kinds}) == 1


def _read_to_the_end(socket: ClientConnection) -> NoReturn:
    while True:
        socket.recv(timeout=60)
