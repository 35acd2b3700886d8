"""What the gateway and the agents' service tell each other about whose money is spent, signed with a secret that both
know.

Two statements, each `prefix.payload.signature`, base64url of JSON and of its HMAC-SHA-256:

- `Grant`, from a worker of agents to the gateway, as a bearer token: this request is of that run, at the cost of that
  key, within
  those limits. So nobody keeps the caller's key, and one that was revoked ends its runs.
- `CallerClaim`, from the gateway to the agents' service, as a header: this key has just been checked.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from stoker.base import json_text
from stoker.base.errors import InvalidInput, Unauthenticated

SECRET = "STOKER_AGENTS_KEY"  # noqa: S105 - the variable's name
SHORTEST_SECRET = 32
GRANT_PREFIX = "sk-stoker-run"
CLAIM_PREFIX = "caller"
CALLER_HEADER = "x-stoker-caller"
# A worker makes a new one for each step, and the gateway one for each request.
GRANT_S = 3600.0
CLAIM_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimit:
    """Of one run, or of one above it: at most so many nano-dollars and tokens ever (None: no limit of its own)."""

    run: str
    nano_usd: int | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """`run` is its path: `run_x.1.2` is the second child of the first child of `run_x`, and what it spends counts for
    all three. `limits` are those of the run and of the ones above it. `expires_at`: seconds since the epoch."""

    key_id: str
    run: str
    agent: str
    expires_at: float
    limits: tuple[RunLimit, ...] = ()
    session: str | None = None

    def signed(self, secret: str) -> str:
        return _signed(GRANT_PREFIX, {**asdict(self), "limits": [asdict(limit) for limit in self.limits]}, secret)

    @classmethod
    def read(cls, text: str, secret: str, *, now: float) -> "Grant":
        """Raises Unauthenticated for one that is not ours, or is over."""
        said = _read(GRANT_PREFIX, text, secret, now=now)
        limits = tuple(RunLimit(**_only(RunLimit, limit)) for limit in said["limits"])
        return cls(**{**_only(cls, said), "limits": limits})


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerClaim:
    """Whose key called. `run` and `agent`: the run whose grant it was, if it was one, so that what it begins is a part
    of that run and not outside of its limits."""

    key_id: str
    tenant: str
    team: str | None
    role: str
    expires_at: float
    request_id: str
    run: str | None = None
    agent: str | None = None

    def signed(self, secret: str) -> str:
        return _signed(CLAIM_PREFIX, asdict(self), secret)

    @classmethod
    def read(cls, text: str, secret: str, *, now: float) -> "CallerClaim":
        """Raises Unauthenticated for one that is not the gateway's, or is over."""
        return cls(**_only(cls, _read(CLAIM_PREFIX, text, secret, now=now)))


def is_grant(bearer: str) -> bool:
    return bearer.startswith(GRANT_PREFIX + ".")


def secret_of(environ: Mapping[str, str]) -> str | None:
    """Raises InvalidInput for one that could be guessed."""
    secret = environ.get(SECRET) or None
    if secret is not None and len(secret) < SHORTEST_SECRET:
        raise InvalidInput(
            f"{SECRET} has {len(secret)} characters; it must have at least {SHORTEST_SECRET}, by chance",
            param=SECRET,
            hint="make one: openssl rand -hex 32",
        )
    return secret


T = TypeVar("T")


def _only(kind: type[T], said: Mapping[str, Any]) -> dict[str, Any]:
    """What this version knows: while a platform is upgraded, two versions run."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return {name: value for name, value in said.items() if name in known}


def _signed(prefix: str, said: Mapping[str, Any], secret: str) -> str:
    payload = _text(json_text.dumps(said))
    return f"{prefix}.{payload}.{_mac(prefix, payload, secret)}"


def _read(prefix: str, text: str, secret: str, *, now: float) -> dict[str, Any]:
    head, _, rest = text.partition(".")
    payload, _, mac = rest.partition(".")
    if head != prefix or not hmac.compare_digest(mac.encode(), _mac(prefix, payload, secret).encode()):
        raise Unauthenticated("this statement was not signed by this platform", code="invalid_grant")
    said: dict[str, Any] = json_text.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    if now >= said["expires_at"]:
        raise Unauthenticated("this statement is over", code="expired_grant")
    return said


def _mac(prefix: str, payload: str, secret: str) -> str:
    return _text(hmac.digest(secret.encode(), f"{prefix}.{payload}".encode(), hashlib.sha256))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
