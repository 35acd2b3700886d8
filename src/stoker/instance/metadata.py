"""The metadata service of an EC2 instance (IMDSv2): what kind of instance it is, and what notice it was given.

Asked by `notices`, and by training, which writes down what it runs on. It is on a link-local address, or where AWS' own
environment variable says. It is asked directly, never through a proxy, and briefly: whoever waits for it here does not
see a notice meanwhile.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args
from urllib.parse import urlsplit

from stoker.base.clock import Clock
from stoker.base.errors import InvalidInput, StokerError, TimedOut, Unavailable, Unreachable, UpstreamError
from stoker.policy.leaving import Notice, SpotAction
from stoker.web.connections import Connection, Connections, Lost, Silent

# For each question, its connection included; what AWS' node-termination-handler gives it.
TIMEOUT_S = 2.0
# An answer is a line.
MOST_BYTES = 16 * 1024
# As long as AWS gives one. A new one is fetched before its end, so that no look fails for that.
TOKEN_TTL_S = 21600
RENEW_S = 300

_WHO = "the instance metadata service"
_IPV4 = "http://169.254.169.254"
_IPV6 = "http://[fd00:ec2::254]"
_TOKEN = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name
_HOP_LIMIT = (
    "in a container its answers go only as far as the instance's hop limit: set httpPutResponseHopLimit to 2 (in "
    "Karpenter, metadataOptions of the EC2NodeClass), or give the pod hostNetwork, or write spot.watch: off"
)
_WORD = re.compile(r"[A-Za-z0-9._-]{1,100}")
_SPOT_ACTIONS: tuple[SpotAction, ...] = get_args(SpotAction)


def endpoint(environ: Mapping[str, str]) -> str | None:
    """Where it is, by the variables that AWS' own tools know; None: it is not to be asked."""
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return None
    is_v6 = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").lower() == "ipv6"
    return environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or (_IPV6 if is_v6 else _IPV4)


@dataclass(frozen=True)
class Facts:
    """What an instance says that it is; None for what it does not say."""

    id: str | None
    type: str | None
    zone: str | None
    region: str | None
    life_cycle: str | None


class Metadata:
    """One service. Every question raises Unreachable (nobody is there), TimedOut, Unavailable, or UpstreamError when
    the answer is none."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        """Raises InvalidInput when that is no URL of such a service."""
        self.url = url
        self._clock = clock
        try:
            parts = urlsplit(url)
            port = parts.port or 80
        except ValueError as exc:
            raise InvalidInput(f"{url[:200]!r} is no URL of {_WHO}: {exc}") from exc
        if parts.scheme != "http" or not parts.hostname or not url.isascii() or not url.isprintable() or " " in url:
            raise InvalidInput(f"{url[:200]!r} is no URL of {_WHO}; it begins with http:// and the host")
        self._host = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._connections = Connections(parts.hostname, port, None)
        self._token: str | None = None
        self._renew_at = self._expires_at = 0.0

    def close(self) -> None:
        self._connections.close()

    # --- questions --------------------------------------------------------------------------------------------------

    async def life_cycle(self) -> str | None:
        """`spot`, `on-demand`, or another kind."""
        said = await self._get("instance-life-cycle")
        return None if said is None else said.decode(errors="replace").strip()

    async def facts(self) -> Facts:
        return Facts(
            id=await self._word("instance-id"),
            type=await self._word("instance-type"),
            zone=await self._word("placement/availability-zone"),
            region=await self._word("placement/region"),
            life_cycle=await self._word("instance-life-cycle"),
        )

    async def _word(self, path: str) -> str | None:
        said = await self._get(path)
        text = "" if said is None else said.decode("latin-1").strip()
        return text if _WORD.fullmatch(text) else None

    async def notice(self) -> Notice | None:
        """That the instance is taken away; None: it is not marked."""
        said = await self._get("spot/instance-action")
        if said is None:
            return None
        found = _object(said, "spot/instance-action")
        for action in _SPOT_ACTIONS:
            if found.get("action") == action:
                return Notice(action, _epoch(found.get("time")))
        raise UpstreamError(f"{_WHO} gives notice of an action that is none: {str(found.get('action'))[:100]!r}")

    async def rebalance(self) -> str | None:
        """Since when AWS recommends to be somewhere else, as it says it; None: it does not."""
        said = await self._get("events/recommendations/rebalance")
        if said is None:
            return None
        return str(_object(said, "events/recommendations/rebalance").get("noticeTime"))[:100]

    # --- tokens -----------------------------------------------------------------------------------------------------

    async def _get(self, path: str) -> bytes | None:
        """None: nothing stands there. A token that is refused is replaced at once, once."""
        status, body = await self._ask_with_token(path)
        if status == 401:
            self._token = None
            status, body = await self._ask_with_token(path)
        if status == 404:
            return None
        if status != 200:
            raise UpstreamError(f"{_WHO} answered with status {status}", upstream_status=status)
        return body

    async def _ask_with_token(self, path: str) -> tuple[int, bytes]:
        token = await self._valid_token()
        return await self._ask("GET", f"/latest/meta-data/{path}", f"{_TOKEN}: {token}")

    async def _valid_token(self) -> str:
        now = self._clock.monotonic()
        if self._token is not None and now < self._renew_at:
            return self._token
        try:
            fetched = await self._fetch_token()
        except StokerError:
            if self._token is None or now >= self._expires_at:
                raise
            return self._token  # it is good for a few minutes more, and the next question tries again
        self._token, self._expires_at, self._renew_at = fetched, now + TOKEN_TTL_S, now + TOKEN_TTL_S - RENEW_S
        return fetched

    async def _fetch_token(self) -> str:
        asking = f"{_TOKEN}-ttl-seconds: {TOKEN_TTL_S}\r\nContent-Length: 0"
        try:
            status, body = await self._ask("PUT", "/latest/api/token", asking)
        except TimedOut as error:
            raise TimedOut(f"{_WHO} took the connection and gave no token", hint=_HOP_LIMIT) from error
        if status != 200:
            raise UpstreamError(f"{_WHO} gave no token (status {status})", upstream_status=status)
        token = body.decode("latin-1").strip()
        if not token or len(token) > 1024 or not (token.isascii() and token.isprintable()):
            raise UpstreamError(f"{_WHO} gave a token that is none")
        return token

    # --- HTTP -------------------------------------------------------------------------------------------------------

    async def _ask(self, method: str, path: str, headers: str) -> tuple[int, bytes]:
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: */*\r\n{headers}\r\n\r\n"
        ends_at = asyncio.get_running_loop().time() + TIMEOUT_S
        try:
            connection = await self._connections.take(TIMEOUT_S)
            try:
                connection.exchange(head.encode("ascii"), TIMEOUT_S, ends_at)
                await connection.head()
                return connection.status, await _bounded(connection)
            finally:
                self._connections.give_back(connection)
        except Silent as error:
            raise TimedOut(f"{_WHO} did not answer within {TIMEOUT_S:g} s") from error
        except Lost as error:
            kind, what = (Unavailable, _WHO) if error.was_sent else (Unreachable, f"cannot reach {_WHO}:")
            raise kind(f"{what} {error}") from error


async def _bounded(connection: Connection) -> bytes:
    body = b""
    while data := await connection.read():
        body += data
        if len(body) > MOST_BYTES:
            raise UpstreamError(f"{_WHO} says more than {MOST_BYTES} bytes")
    return body


def _object(said: bytes, path: str) -> dict[str, Any]:
    try:
        found = json.loads(said)
    except (ValueError, RecursionError) as exc:
        raise UpstreamError(f"{_WHO} says something at {path} that is not JSON") from exc
    if not isinstance(found, dict):
        raise UpstreamError(f"{_WHO} says something at {path} that is no object")
    return found


def _epoch(written: object) -> float | None:
    """None: it cannot be read."""
    try:
        at = datetime.fromisoformat(str(written))
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None
