"""Being called back when a task has ended: by whom, with what, how often, and by nobody who must not be."""

import asyncio
import base64
import hashlib
import hmac
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gateway_parts import ADMIN_KEY, HELLO, KEY, SPEC, Stack, a_stack, running_worker, until
from test_gateway_process import a_process, ready

from stoker.base.clock import SystemClock
from stoker.base.ids import KeyId, ModelName, TaskId, TenantName
from stoker.gateway import callbacks
from stoker.gateway.callbacks import Callbacks, message_of, post, resolved
from stoker.meter.keys import KeyStore
from stoker.meter.store import Store
from stoker.meter.tenants import TenantStore
from stoker.policy.callbacks import target_of
from stoker.queue import MemoryQueue, NewTask, RedisQueue, State, Task
from stoker.spec import loads
from stoker.testing import ManualClock
from stoker.testing.engine import EchoEngine
from stoker.testing.receiver import Got, Receiver
from stoker.testing.redis import RedisServer
from stoker.web.client import HttpClient

GENERAL = ModelName("general")
SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
HOSTS = "['127.0.0.1', hooks.example.com]"
TERMS = f"acme: {{callbackHosts: {HOSTS}, callbackSecretEnv: HOOK_SECRET}}"
Start = Callable[..., Any]


def a_spec(terms: str = TERMS) -> str:
    return SPEC.replace("TOTAL", "20").replace("CONNECT", "2").replace("acme: {}", terms)


@pytest.fixture(autouse=True)
def quick_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.setattr(callbacks, "LOOK_EVERY_S", 0.01)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    async with AsyncExitStack() as parts:

        async def begin(terms: str = TERMS) -> Stack:
            return await parts.enter_async_context(a_stack(tmp_path, platform=loads(a_spec(terms))))

        yield begin


async def submitted(stack: Stack, url: object, **more: Any) -> dict[str, Any]:
    sent = {"endpoint": "/v1/chat/completions", "body": {"model": "general", "messages": HELLO}, "callback_url": url}
    task: dict[str, Any] = await (await stack.http()).post_json("/v1/tasks", {**sent, **more})
    return task


def signed_by(got: Got, key: bytes) -> bool:
    """As a receiver checks it, by the specification alone."""
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{digest}" in got.headers["webhook-signature"].split(" ")


# --- what is sent -----------------------------------------------------------------------------------------------------


async def test_the_end_of_a_task_is_told_once_signed_and_with_its_result(start: Start) -> None:
    stack = await start()
    async with Receiver() as receiver, EchoEngine() as engine, running_worker(stack, engine, "w1"):
        task = await submitted(stack, f"{receiver.url}/done?by=stoker")
        assert task["callback"] == {
            "url": f"{receiver.url}/done?by=stoker",
            "state": "waiting",
            "tries": 0,
            "at": None,
            "status": None,
            "error": None,
        }
        queue = stack.queue
        await until(lambda: queue._kept[TaskId(task["id"])].task.delivery is not None)
    [got] = receiver.got
    assert (got.path, got.headers["content-type"]) == ("/done?by=stoker", "application/json")
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["webhook-id"] == f"msg_{task['id']}"
    assert signed_by(got, b"k" * 24)
    assert not signed_by(got, b"x" * 24)
    said = got.json
    assert (said["type"], said["data"]["id"], said["data"]["state"]) == ("task.done", task["id"], "done")
    assert said["data"]["result"]["choices"][0]["message"]["content"] == "one two three four"
    assert said["data"]["url"] == f"/v1/tasks/{task['id']}"
    shown = await (await stack.http()).get_json(f"/v1/tasks/{task['id']}")
    delivery = shown["callback"]
    assert (delivery["state"], delivery["tries"], delivery["status"], delivery["error"]) == ("delivered", 1, 204, None)


async def test_a_body_as_it_stands_may_name_a_callback_which_no_engine_sees(start: Start) -> None:
    stack = await start()
    async with Receiver() as receiver:
        body = {"model": "general", "messages": HELLO, "callback_url": receiver.url}
        task = await (await stack.http()).post_json("/v1/tasks", body)
        kept = await stack.queue.get(TaskId(task["id"]))
        assert (kept.callback, "callback_url" in kept.body) == (receiver.url, False)


def ended(state: State = State.DONE, result: dict[str, Any] | None = None, **changes: Any) -> Task:
    given: dict[str, Any] = {
        "id": TaskId("task_1"),
        "model": GENERAL,
        "tenant": TenantName("acme"),
        "key_id": KeyId("key_1"),
        "endpoint": "/v1/chat/completions",
        "state": state,
        "submitted_at": 1.0,
        "ended_at": 1_700_000_000.25,
        "result": result,
    }
    return Task(**{**given, **changes})


async def test_a_result_that_is_too_large_is_left_to_be_fetched(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "MOST_RESULT_BYTES", 100)
    stack = await start()
    async with Receiver() as receiver:
        for text in ("x" * 50, "y" * 100):
            task_id = TaskId((await submitted(stack, receiver.url))["id"])
            [claim] = await stack.queue.claim(GENERAL, "w1", wait_s=20)
            await stack.queue.complete(claim, {"text": text})
            told = stack.queue._kept[task_id]
            await until(lambda told=told: told.task.delivery is not None)
    first, second = (got.json["data"] for got in receiver.got)
    assert first["result"] == {"text": "x" * 50}
    assert (second["result"], second["url"]) == (None, f"/v1/tasks/{task_id}")


def test_the_time_of_a_message_is_that_of_the_end() -> None:
    assert b'"timestamp":"2023-11-14T22:13:20.250+00:00"' in message_of(ended())


@pytest.mark.parametrize("state", [State.DEAD, State.FORWARDED, State.DROPPED])
def test_what_died_is_dead_wherever_its_letter_went(state: State) -> None:
    assert b'"type":"task.dead"' in message_of(ended(state, error={"message": "boom"}))


# --- who may be called ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("https://evil.example/x", 403, "callback_not_allowed"),
        ("http://169.254.169.254/latest/meta-data", 403, "callback_not_allowed"),
        ("http://localhost/x", 403, "callback_not_allowed"),
        ("https://hooks.example.com@127.0.0.2/", 400, "invalid_value"),
        ("gopher://hooks.example.com/", 400, "invalid_value"),
        ("", 400, "invalid_value"),
        (7, 400, "invalid_value"),
        (["https://hooks.example.com"], 400, "invalid_value"),
    ],
)
async def test_a_host_that_is_not_listed_is_refused_and_nothing_is_queued(
    start: Start, url: object, status: int, code: str
) -> None:
    stack = await start()
    sent = {"body": {"model": "general", "messages": HELLO}, "callback_url": url}
    answer = await (await stack.http()).request("POST", "/v1/tasks", body=sent)
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)
    assert await stack.queue.list() == []


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ("acme: {}", "callback_not_allowed"),
        (f"acme: {{callbackHosts: {HOSTS}}}", "callback_without_secret"),
        (f"acme: {{callbackHosts: {HOSTS}, callbackSecretEnv: NOT_SET}}", "callback_without_secret"),
        (f"acme: {{callbackHosts: {HOSTS}, callbackSecretEnv: PATH}}", "callback_without_secret"),
    ],
)
async def test_a_tenant_without_hosts_or_a_secret_is_called_back_by_nobody(start: Start, terms: str, code: str) -> None:
    stack = await start(terms)
    sent = {"body": {"model": "general", "messages": HELLO}, "callback_url": "https://hooks.example.com"}
    answer = await (await stack.http()).request("POST", "/v1/tasks", body=sent)
    assert (answer.status, answer.json()["error"]["code"]) == (403, code)


async def test_a_name_that_resolves_to_a_private_address_is_not_called(start: Start) -> None:
    """`localhost` is the name that every machine resolves to such an address."""
    async with Receiver() as receiver:
        stack = await start("acme: {callbackHosts: [localhost], callbackSecretEnv: HOOK_SECRET}")
        task = await submitted(stack, f"http://localhost:{receiver.port}/")
        await stack.queue.cancel(TaskId(task["id"]))
        queue = stack.queue
        await until(lambda: queue._kept[TaskId(task["id"])].task.delivery is not None)
        delivery = (await queue.get(TaskId(task["id"]))).delivery
        assert delivery is not None
        assert (delivery.state, delivery.status) == ("waiting", None)
        assert delivery.error == (
            "the host localhost has no address that may be called: they are private, or it is not https"
        )
    assert receiver.got == []


async def test_a_listed_network_makes_a_name_callable() -> None:
    address = await resolved(target_of("http://localhost:9/"), ["localhost", "127.0.0.0/8", "::1"])
    assert address in ("127.0.0.1", "::1")


async def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to() -> None:
    """The name in the URL is looked up by nobody any more: it exists nowhere."""
    async with Receiver() as receiver:
        target = target_of(f"http://nowhere.invalid:{receiver.port}/x")
        assert await post(target, "127.0.0.1", {"webhook-id": "m"}, b"{}") == 204
    assert receiver.got[0].headers["host"] == f"nowhere.invalid:{receiver.port}"


def certified(directory: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """A server that says it is `name`, and the file of the authority that says so, too: itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / "certificate.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "key.pem").write_bytes(key.private_bytes(*plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, directory / "key.pem")
    return context, file


@pytest.mark.parametrize(
    ("named", "is_trusted", "told"),
    [("hooks.example.com", True, 1), ("other.example", True, 0), ("hooks.example.com", False, 0)],
)
async def test_only_the_host_that_was_named_is_told_and_proves_to_be_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, is_trusted: bool, told: int
) -> None:
    context, file = certified(tmp_path, named)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with Receiver(tls=context) as receiver:
        target = target_of(f"https://hooks.example.com:{receiver.port}/x")
        if told:
            assert await post(target, "127.0.0.1", {}, b"secret") == 204
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                await post(target, "127.0.0.1", {}, b"secret")
    assert [got.body for got in receiver.got] == [b"secret"] * told


# --- again and again --------------------------------------------------------------------------------------------------


class Alone:
    """The caller alone, on a queue in memory and a clock of the test's own."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = ManualClock()
        self.queue = MemoryQueue(clock=self.clock)
        self.store = Store(f"sqlite:///{tmp_path / 'l.sqlite'}")
        tenants = TenantStore(self.store, SystemClock())
        tenants.ensure(loads(a_spec()).tenants)
        self.calls = Callbacks(self.queue, tenants, self.clock, Random(1))

    async def ended(self, url: str) -> TaskId:
        new = NewTask(
            model=GENERAL, tenant=TenantName("acme"), key_id=KeyId("k"), endpoint="/v1/x", body={}, callback=url
        )
        task = await self.queue.submit(new)
        await self.queue.cancel(task.id)
        return task.id

    async def next_try(self, task_id: TaskId) -> Any:
        """Time goes on until it is due, and the call is made."""
        for _ in range(10_000):
            if due := await self.queue.callbacks_due(count=1, lease_s=60, most_result_bytes=1000):
                await self.calls.deliver(due[0])
                return (await self.queue.get(task_id)).delivery
            await self.clock.advance(1)
        raise AssertionError("it is never due")


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Alone]:
    made = Alone(tmp_path)
    yield made
    made.store.close()


async def test_who_fails_twice_and_is_slow_is_told_at_last_in_one_message(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Receiver(500, 503, None) as receiver:
        task_id = await alone.ended(receiver.url)
        seen = []
        for number in range(4):
            monkeypatch.setattr(callbacks, "TIMEOUT_S", 0.2 if number == 2 else 15.0)
            delivery = await alone.next_try(task_id)
            seen.append((delivery.state, delivery.tries, delivery.status, delivery.error))
        assert await alone.queue.callbacks_due(count=1, lease_s=60, most_result_bytes=1000) == []
    assert seen == [
        ("waiting", 1, 500, "the receiver answered 500"),
        ("waiting", 2, 503, "the receiver answered 503"),
        ("waiting", 3, None, "no answer within 0.2 s"),
        ("delivered", 4, 204, None),
    ]
    assert [got.headers["webhook-id"] for got in receiver.got] == [f"msg_{task_id}"] * 4
    assert len({got.body for got in receiver.got}) == 1
    assert all(signed_by(got, b"k" * 24) for got in receiver.got)


async def test_it_stops_after_twelve_tries_and_says_why(alone: Alone) -> None:
    async with Receiver(*[500] * 20) as receiver:
        task_id = await alone.ended(receiver.url)
        began = alone.clock.now()
        states = [(await alone.next_try(task_id)).state for _ in range(12)]
        assert states == ["waiting"] * 11 + ["failed"]
        await alone.clock.advance(100_000)
        assert await alone.queue.callbacks_due(count=1, lease_s=60, most_result_bytes=1000) == []
    assert len(receiver.got) == 12
    # Capped and jittered: at most 5, 10, 20, ... 3600 s apart, so within three hours.
    assert alone.clock.now() - began - 100_000 < 3 * 3600


async def test_who_says_gone_is_not_called_again(alone: Alone) -> None:
    async with Receiver(410) as receiver:
        delivery = await alone.next_try(await alone.ended(receiver.url))
    assert (delivery.state, delivery.tries, delivery.status) == ("failed", 1, 410)
    assert len(receiver.got) == 1


async def test_no_redirect_is_followed(alone: Alone) -> None:
    async with Receiver(302) as receiver:
        delivery = await alone.next_try(await alone.ended(receiver.url))
    assert (delivery.state, delivery.error) == ("waiting", "the receiver answered 302, a redirect")
    assert [got.path for got in receiver.got] == ["/"]


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n", b"x" * 40_000, b"HTTP/1.1 099 x\r\n\r\n", b""])
async def test_what_answers_no_http_is_tried_again(alone: Alone, answer: bytes) -> None:
    async with Receiver(answer) as receiver:
        delivery = await alone.next_try(await alone.ended(receiver.url))
    assert (delivery.state, delivery.status) == ("waiting", None)
    assert delivery.error in ("what was answered is no HTTP", "no connection, or it was lost: IncompleteReadError")


async def test_a_server_that_is_not_there_is_tried_again_and_its_address_is_not_told(alone: Alone) -> None:
    async with Receiver() as receiver:
        url = receiver.url
    delivery = await alone.next_try(await alone.ended(url))
    assert (delivery.state, delivery.error) == ("waiting", "no connection, or it was lost: ConnectionRefusedError")


async def test_a_host_that_was_taken_off_the_list_is_not_called_any_more(alone: Alone) -> None:
    async with Receiver(500) as receiver:
        task_id = await alone.ended(receiver.url)
        await alone.next_try(task_id)
        TenantStore(alone.store).ensure(loads(a_spec("acme: {callbackSecretEnv: HOOK_SECRET}")).tenants)
        delivery = await alone.next_try(task_id)
    assert delivery.error == "callback_url leads to 127.0.0.1, which this tenant may not have called"
    assert len(receiver.got) == 1


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.mark.flow
@pytest.mark.redis
async def test_a_gateway_killed_while_it_calls_and_a_redis_restarted_lose_no_callback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "platform.yaml"
    spec.write_text(a_spec())
    ledger = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    store = Store(ledger)
    KeyStore(store).ensure(KEY, tenant="acme", name="n", role="user")
    KeyStore(store).ensure(ADMIN_KEY, tenant="acme", name="a", role="admin")
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        queue = RedisQueue(redis.url)
        common = ("--spec", str(spec), "--redis", redis.url, "--ledger", ledger, "--port", "0")

        def gateway(name: str) -> Any:
            journals = ("--journals", str(tmp_path / "journals"))
            return stack.enter_context(a_process(tmp_path / f"{name}.log", "stoker.gateway", *common, *journals))

        async with Receiver(None) as receiver:
            first = gateway("first")
            async with HttpClient((await ready(first))["url"], key=KEY) as http:
                sent = {"body": {"model": "general", "messages": HELLO}, "callback_url": receiver.url}
                task_id = TaskId((await http.post_json("/v1/tasks", sent))["id"])
            [claim] = await queue.claim(GENERAL, "w1", wait_s=20)
            await queue.complete(claim, {"text": "hi"})
            await until(lambda: len(receiver.got) == 1)
            first.send_signal(signal.SIGKILL)
            await asyncio.to_thread(first.wait, 20)
            await until(lambda: receiver.left == 1)
            assert (await queue.get(task_id)).delivery is None
            await asyncio.to_thread(redis.stop)
            await asyncio.to_thread(redis.start)
            # As if the lease of the one that was killed had run out, which takes a minute.
            await queue._redis.call("make it due", "ZADD", "stoker:callbacks", 0, f"0:{task_id}")

            await ready(gateway("second"))
            async with asyncio.timeout(30):
                while (await queue.get(task_id)).delivery is None:  # noqa: ASYNC110 - another process notes it
                    await asyncio.sleep(0.02)
        first_got, second_got = receiver.got
        assert first_got.headers["webhook-id"] == second_got.headers["webhook-id"] == f"msg_{task_id}"
        assert first_got.body == second_got.body
        assert second_got.json["data"]["result"] == {"text": "hi"}
        delivery = (await queue.get(task_id)).delivery
        assert delivery is not None
        assert (delivery.state, delivery.status) == ("delivered", 204)
        await queue.aclose()
    store.close()
