"""Where a tenant may be called back, how a call is signed, and when it is made again. Pure.

A tenant names an address that our machines then connect to, from inside our network. So three things are checked, each
at its time: the URL when it is given, the host against the tenant's list at each try, and the address to which the host
resolves at that try, which is the one that is connected to.
"""

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from stoker.base.errors import InvalidInput, NotPermitted

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_URL_CHARS = 2048
SECRET_PREFIX = "whsec_"  # noqa: S105 - how every secret of this kind begins, not one
LEAST_SECRET_BYTES, MOST_SECRET_BYTES = 24, 64
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart. `path` is with its query."""

    host: str
    port: int
    path: str
    is_tls: bool

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


def target_of(url: object) -> Target:
    """Raises InvalidInput for what is no URL that could be called."""
    if not isinstance(url, str) or not 0 < len(url) <= MOST_URL_CHARS or not all("!" <= c <= "~" for c in url):
        raise _wrong(url, f"a URL of at most {MOST_URL_CHARS} characters of ASCII without spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise _wrong(url, "a URL with a host and a port that exist") from exc
    if parts.scheme not in ("https", "http") or not parts.hostname or "\\" in url:
        raise _wrong(url, "a URL such as https://hooks.example.com/done")
    if "@" in parts.netloc or parts.fragment:
        raise _wrong(url, "a URL without a user, a password or a fragment")
    if port == 0:
        raise _wrong(url, "a URL with a port that exists")
    is_tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.hostname.rstrip("."), port or (443 if is_tls else 80), path, is_tls)


def check_host(target: Target, allowed: Sequence[str]) -> None:
    """`allowed`: names, `*.` and a domain for all names below it, addresses, and networks as 10.0.0.0/8. Raises
    NotPermitted (`callback_not_allowed`)."""
    own = address_of(target.host)
    for entry in allowed:
        if own is not None:
            network = network_of(entry)
            if network is not None and own in network:
                return
        elif entry.startswith("*."):
            if target.host.endswith(entry[1:].lower()) and len(target.host) >= len(entry):
                return
        elif target.host == entry.lower():
            return
    raise NotPermitted(
        f"callback_url leads to {target.host}, which this tenant may not have called",
        hint="tenants.<name>.callbackHosts in platform.yaml lists those that it may",
        code="callback_not_allowed",
    )


def may_connect(address: Address, allowed: Sequence[str], *, is_tls: bool) -> bool:
    """Public addresses; others only where they are listed, by themselves or with their network. Without TLS only this
    machine's own."""
    networks = [network for entry in allowed if (network := network_of(entry)) is not None]
    inner = innermost(address)
    if not (is_tls or inner.is_loopback):
        return False
    if any(address in network or inner in network for network in networks):
        return True
    return inner.is_global and not inner.is_multicast


def innermost(address: Address) -> Address:
    """An IPv4 address that is wrapped in one of IPv6, or the address itself: a gateway of the network unwraps it."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        for wrapped in (address.ipv4_mapped, address.sixtofour):
            if wrapped is not None:
                return wrapped
    return address


def address_of(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def network_of(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network of an entry that is an address or a network; None for a name."""
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None


def secrets_in(text: str) -> list[bytes]:
    """The secrets in what a variable holds: one, or several with spaces between them while the receiver changes from
    one to the next. Raises InvalidInput, which never repeats them."""
    found = []
    for word in text.split():
        try:
            secret = base64.b64decode(word.removeprefix(SECRET_PREFIX), validate=True)
        except ValueError:
            secret = b""
        if not word.startswith(SECRET_PREFIX) or not LEAST_SECRET_BYTES <= len(secret) <= MOST_SECRET_BYTES:
            raise InvalidInput(
                f"a secret for callbacks is {SECRET_PREFIX} and {LEAST_SECRET_BYTES} to {MOST_SECRET_BYTES} bytes in "
                "base64; this is something else",
                param="callbackSecretEnv",
            )
        found.append(secret)
    if not found:
        raise InvalidInput("there is no secret for callbacks", param="callbackSecretEnv")
    return found


def signature(secrets: Sequence[bytes], *, message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of Standard Webhooks: a v1 for each secret, the receiver looks for one that it knows."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = [hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets]
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)


def _wrong(url: object, right: str) -> InvalidInput:
    return InvalidInput(f"callback_url is {str(url)[:200]!r}; it has to be {right}", param="callback_url")
