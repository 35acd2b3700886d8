"""HTTP GET of pages whose hosts are listed.

What a model writes as a URL may have been told to it by a page, so nothing but the list decides where a request goes:
the name is resolved once, all its addresses are looked at, and the connection is made to one that was looked at, so no
second answer of a name server can lead elsewhere. A redirect is a new request, with all of this again.
"""

import asyncio
import ipaddress
import re
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote, urljoin, urlsplit

from stoker.agents.tools import pages
from stoker.agents.tools.interface import Json, Place, Result
from stoker.agents.tools.threads import in_thread
from stoker.spec import agents as spec
from stoker.web.connections import Connection, Headers, Lost, Silent

MOST_REDIRECTS = 5
MOST_URL = 2048
_MOST_HEAD = 64 * 1024
_MOST_OF_AN_ERROR = 2000
_CONNECT_S = 5.0
_SILENCE_S = 15.0

DESCRIPTION = "Get a page of the web as text, by HTTP GET. Hosts: {hosts}. HTML is turned into text with its links."
PARAMETERS: Json = {
    "type": "object",
    "properties": {"url": {"type": "string", "maxLength": MOST_URL, "description": "The whole URL, with https://"}},
    "required": ["url"],
    "additionalProperties": False,
}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, as text. Raises OSError."""


class Refusal(Exception):
    """Why a page is not there, for the model to read."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be asked. `host` is in lower case and in ASCII."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


_PORTS = {"https": 443, "http": 80}


def target_of(url: str, said: spec.Fetch) -> Target:
    """Raises Refusal for a URL that may not be asked."""
    if len(url) > MOST_URL or not url.isprintable() or " " in url.strip():
        raise Refusal(f"that is not a URL: it has to be printable, without spaces, of at most {MOST_URL} characters")
    try:
        parts = urlsplit(url.strip())
        port = parts.port
        host = (parts.hostname or "").rstrip(".").encode("idna").decode().lower()
    except ValueError as exc:
        raise Refusal(f"{url[:200]} is not a URL: {exc}") from exc
    schemes = ("https", "http") if said.allow_http else ("https",)
    if parts.scheme not in schemes:
        raise Refusal(f"only {' and '.join(schemes)} may be asked, and {url[:200]} is neither; send the whole URL")
    if parts.username is not None or parts.password is not None:
        raise Refusal("a URL with a user or a password in it is not asked; leave out what stands before the @")
    port = port or _PORTS[parts.scheme]
    if not any(_matches(entry, host, port, parts.scheme) for entry in said.hosts):
        shown = host if port == _PORTS[parts.scheme] else f"{host}:{port}"
        raise Refusal(f'the host "{shown}" is not in the list; these may be asked: {", ".join(said.hosts)}')
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = f"?{quote(parts.query, safe='/%?:@!$&()*+,;=~-._')}" if parts.query else ""
    return Target(parts.scheme, host, port, path + query)


def _matches(entry: str, host: str, port: int, scheme: str) -> bool:
    name, _, listed_port = entry.lower().rstrip(".").partition(":")
    if port != (int(listed_port) if listed_port else _PORTS[scheme]):
        return False
    if name.startswith("*."):
        return host.endswith(name[1:]) and len(host) > len(name) - 1
    return host == name


# --- addresses ----------------------------------------------------------------------------------------------------

# Metadata services and the like that stand on an address which no rule about kinds of addresses covers.
_METADATA = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"))
)
# Where a network has no IPv4, this is how its name server writes the addresses that have no other.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def may_be_reached(text: str, *, allow_private: bool) -> bool:
    """Whether an address is one of the public internet; with `allow_private`, also of a private network or of this
    machine. Never one of a metadata service, of a link, of a group, or of nobody."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False  # with a zone, for instance
    return all(_is_fit(each, allow_private=allow_private) for each in (address, *_within(address)))


def _within(address: Address) -> list[Address]:
    """The IPv4 addresses that an IPv6 address leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address] = [each for each in (address.ipv4_mapped, address.sixtofour) if each is not None]
    if address.teredo is not None:
        found += address.teredo
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def _is_fit(address: Address, *, allow_private: bool) -> bool:
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        if address.is_reserved:
            return False
    elif address.ipv4_mapped is not None or address in _NAT64:
        return True  # what counts is the IPv4 address in it
    if address.is_loopback or address.is_private:
        return allow_private
    return address.is_global and not address.is_reserved


async def resolved(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


# --- one request --------------------------------------------------------------------------------------------------


class _Bounded(Connection):
    """Gives up on an answer whose head never ends."""

    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._has_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD:
                self._fail(Lost("sent a head without end", was_sent=True))


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Headers
    body: bytes
    is_cut: bool


class Fetcher:
    """One `fetch` tool. `headers` are already values; `resolve` and `tls` are handed in by tests only."""

    def __init__(
        self,
        said: spec.Fetch,
        headers: Callable[[], Mapping[str, str]],
        *,
        resolve: Resolve = resolved,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._said = said
        self._headers = headers
        self._resolve = resolve
        self._tls = tls

    async def call(self, arguments: Json, place: Place) -> Result:
        headers = self._headers()
        try:
            return await self._fetched(target_of(arguments["url"], self._said), headers)
        except Refusal as refusal:
            return Result(text=str(refusal), is_error=True)

    async def _fetched(self, target: Target, secret: Mapping[str, str]) -> Result:
        for _ in range(MOST_REDIRECTS + 1):
            answer = await self._ask(target, secret)
            location = answer.headers.get("location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return await in_thread(partial(_result, target, answer))
            following = self._redirected(target, location)
            if following.origin != target.origin:
                secret = {}  # and never again, even if a later redirect leads back
            target = following
        raise Refusal(f"more than {MOST_REDIRECTS} redirects; the last one led to {target.url}")

    def _redirected(self, target: Target, location: str) -> Target:
        try:
            return target_of(urljoin(target.url, location.encode("latin-1").decode("utf-8", "replace")), self._said)
        except (Refusal, ValueError) as exc:
            raise Refusal(f"{target.url} redirects to {location[:300]}, which was not followed: {exc}") from exc

    async def _ask(self, target: Target, secret: Mapping[str, str]) -> _Answer:
        connection = await self._connected(target)
        try:
            connection.exchange(_request(target, secret), _SILENCE_S)
            await connection.head()
            body, is_cut = await _body(connection, self._said.max_bytes)
            return _Answer(connection.status, connection.headers, body, is_cut)
        except Silent as exc:
            raise Refusal(f"{target.url} did not answer in time") from exc
        except Lost as exc:
            raise Refusal(f"{target.url} {exc.what}") from exc
        except zlib.error as exc:
            raise Refusal(f"{target.url} sent bytes that cannot be decompressed") from exc
        finally:
            connection.close()

    async def _connected(self, target: Target) -> _Bounded:
        """To an address that was looked at, and to no other."""
        try:
            addresses = await self._resolve(target.host, target.port)
        except OSError as exc:
            raise Refusal(f"the host {target.host} has no address") from exc
        allow_private = self._said.allow_private
        if not addresses or not all(may_be_reached(each, allow_private=allow_private) for each in addresses):
            raise Refusal(f"the host {target.host} has an address that may not be reached, such as a private one")
        tls = (self._tls or ssl.create_default_context()) if target.scheme == "https" else None
        loop = asyncio.get_running_loop()
        for address in addresses[:4]:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    _, made = await loop.create_connection(
                        lambda: _Bounded(loop, lambda _: None),
                        address,
                        target.port,
                        ssl=tls,
                        server_hostname=target.host if tls else None,
                    )
                    return made
            except ssl.SSLCertVerificationError as exc:
                raise Refusal(f"the certificate of {target.host} is not to be trusted: {exc.verify_message}") from exc
            except OSError:  # a timeout, too
                continue
        raise Refusal(f"cannot reach {target.authority}: no connection could be made")


def _request(target: Target, secret: Mapping[str, str]) -> bytes:
    fixed = {
        "Host": target.authority,
        "User-Agent": "stoker-agent",
        "Accept": "text/html, application/json, text/*;q=0.9",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    taken = {name.lower() for name in secret}
    lines = [f"{name}: {value}" for name, value in fixed.items() if name.lower() not in taken or name == "Host"]
    lines += [f"{name}: {value}" for name, value in secret.items() if name.lower() != "host"]
    return "\r\n".join([f"GET {target.path} HTTP/1.1", *lines, "", ""]).encode("ascii")


async def _body(connection: Connection, most: int) -> tuple[bytes, bool]:
    """At most so many bytes, decompressed; whether there were more."""
    encoding = connection.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise Refusal(f"the answer is compressed with {encoding[:40]}, which this tool cannot read")
    inflate = zlib.decompressobj(47) if encoding not in ("identity", "") else None
    body = bytearray()
    while data := await connection.read():
        body += data if inflate is None else inflate.decompress(data, most + 1 - len(body))
        if len(body) > most:
            return bytes(body[:most]), True
    return bytes(body), False


# --- what came ----------------------------------------------------------------------------------------------------

_CHARSETS = re.compile(
    r"utf-?8|utf-?16(le|be)?|(us-)?ascii|iso-?8859-\d+|latin-?1|windows-125\d|cp125\d|shift_jis|euc-(jp|kr)|gb2312|gbk|"
    r"gb18030|big5|koi8-[ru]"
)
_TEXTS = ("json", "xml", "yaml", "javascript", "markdown", "csv", "toml")


def _result(target: Target, answer: _Answer) -> Result:
    kind, _, rest = answer.headers.get("content-type", "text/plain").lower().partition(";")
    kind = kind.strip()
    is_html = kind in ("text/html", "application/xhtml+xml")
    if not (is_html or kind.startswith("text/") or kind.endswith(_TEXTS)):
        raise Refusal(
            f"{target.url} is {kind[:100]} (status {answer.status}); this tool reads HTML, JSON and text only"
        )
    if b"\0" in answer.body and "utf-16" not in rest:
        raise Refusal(f"{target.url} says that it is {kind[:100]}, but holds binary data")
    charset = re.search(r'charset="?([a-z0-9_-]+)', rest)
    known = charset[1] if charset and _CHARSETS.fullmatch(charset[1]) else "utf-8"
    text = answer.body.decode(known, "replace")
    title = ""
    if is_html:
        page = pages.readable(text)
        title, text = page.title, page.text
    if answer.status >= 400:
        return Result(
            text=f"{target.url} answered with status {answer.status}: {text[:_MOST_OF_AN_ERROR]}", is_error=True
        )
    if answer.is_cut:
        text += f"\n[cut after {len(answer.body)} bytes]"
    head = f"{title}\n{target.url}" if title else target.url
    citation = {"source": target.url, **({"title": title} if title else {})}
    return Result(text=f"{head}\n\n{text}", citations=[citation])
