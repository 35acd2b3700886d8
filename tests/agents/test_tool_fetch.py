import asyncio
import gzip
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tool_boxes import said, the_tool, toolbox

from stoker.agents.tools.fetch import Fetcher, Refusal, may_be_reached, target_of
from stoker.agents.tools.interface import Place, Result
from stoker.spec.agents import Fetch

HTML = b"""<!doctype html><html><head><title>A  page</title><style>b{}</style></head>
<body><h1>Heading</h1><p>One <b>bold</b> word, and a <a href="/more">link</a>.</p><script>alert(1)</script>
<ul><li>first</li><li>second &amp; last</li></ul><table><tr><th>a</th><th>b</th></tr></table></body></html>"""


class Pages:
    """Answers of a server by path; `asked` are the heads of the requests that came."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        try:
            writer.write(self.answers[head.split()[1]].replace(b"PORT", str(self.port).encode()))
            await writer.drain()
        except ConnectionError:
            pass  # the client has enough
        finally:
            writer.close()


@asynccontextmanager
async def pages(answers: Mapping[str, bytes], tls: ssl.SSLContext | None = None) -> AsyncIterator[Pages]:
    made = Pages(answers)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()


def answer(body: bytes, kind: str = "text/plain", status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    if kind:
        lines.append(f"Content-Type: {kind}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def redirect(to: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


def names(**addresses: Sequence[str]) -> Any:
    """A resolver; each look-up of a name gives its next address, and the last one for ever."""
    left = {name.replace("_", "."): list(each) for name, each in addresses.items()}

    async def resolve(host: str, port: int) -> Sequence[str]:
        found = left.get(host)
        if found is None:
            raise OSError("no such name")
        return found.pop(0).split() if len(found) > 1 else found[0].split()

    return resolve


LOOPBACK = names(a_example=["127.0.0.1"], b_example=["127.0.0.1"])


async def get(
    server: Pages,
    path: str = "/",
    *,
    resolve: Any = LOOPBACK,
    headers: Mapping[str, str] | None = None,
    host: str = "a.example",
    **more: Any,
) -> Result:
    """From that server, with both names of it in the list."""
    hosts = [f"a.example:{server.port}", f"b.example:{server.port}"]
    said = Fetch.model_validate({"hosts": hosts, "allowHttp": True, "allowPrivate": True, **more})
    fetcher = Fetcher(said, lambda: headers or {}, resolve=resolve)
    place = Place(run="run_1", folder=Path(), secrets=str)
    return await fetcher.call({"url": f"http://{host}:{server.port}{path}"}, place)


class TestPages:
    async def test_html_is_text_with_its_links(self) -> None:
        async with pages({"/": answer(HTML, "text/html; charset=utf-8")}) as server:
            done = await get(server)
            assert done.text == (
                f"A page\nhttp://a.example:{server.port}/\n\n"
                "# Heading\nOne bold word, and a link (/more).\n- first\n- second & last\na | b"
            )
            assert done.citations == [{"source": f"http://a.example:{server.port}/", "title": "A page"}]

    async def test_it_asks_for_the_host_by_its_name_and_for_nothing_compressed(self) -> None:
        async with pages({"/a%20b?q=%C3%A4": answer(b"{}", "application/json")}) as server:
            done = await get(server, "/a%20b?q=ä")
            assert done.text.endswith("\n\n{}")
            assert f"\r\nHost: a.example:{server.port}\r\n" in server.asked[0]
            assert "\r\nAccept-Encoding: identity\r\n" in server.asked[0]

    async def test_another_charset(self) -> None:
        async with pages({"/": answer("Größe".encode("latin-1"), "text/plain; charset=ISO-8859-1")}) as server:
            assert (await get(server)).text.endswith("Größe")

    @pytest.mark.parametrize("kind", ["application/pdf", "image/png", "application/octet-stream"])
    async def test_no_other_kind_is_read(self, kind: str) -> None:
        async with pages({"/": answer(b"%PDF", kind)}) as server:
            done = await get(server)
            assert done.is_error
            assert done.text.endswith(f"/ is {kind} (status 200); this tool reads HTML, JSON and text only")

    async def test_binary_that_is_called_text(self) -> None:
        async with pages({"/": answer(b"MZ\0\0")}) as server:
            done = await get(server)
            assert done.text.endswith("/ says that it is text/plain, but holds binary data")

    async def test_a_status_of_an_error_is_one(self) -> None:
        async with pages({"/": answer(b"gone away" + b"x" * 5000, status="404 Not Found")}) as server:
            done = await get(server)
            assert done.is_error
            assert done.text.startswith(f"http://a.example:{server.port}/ answered with status 404: gone awayxxx")
            assert len(done.text) < 2100


class TestBounds:
    async def test_a_giant_answer_is_cut(self) -> None:
        async with pages({"/": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"x" * 3_000_000}) as server:
            done = await get(server, maxBytes=2000)
            assert done.text.endswith("\n\n" + "x" * 2000 + "\n[cut after 2000 bytes]")

    async def test_a_bomb_is_cut(self) -> None:
        bomb = gzip.compress(b"x" * 50_000_000)
        async with pages({"/": answer(bomb, **{"Content-Encoding": "gzip"})}) as server:
            tracemalloc.start()
            done = await get(server, maxBytes=2000)
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert done.text.endswith("x" * 2000 + "\n[cut after 2000 bytes]")
            assert most < 5_000_000

    async def test_a_head_without_end(self) -> None:
        async with pages({"/": b"HTTP/1.1 200 OK\r\n" + b"X-Y: zzzzzzzzzzzz\r\n" * 50_000}) as server:
            done = await get(server)
            assert (done.is_error, done.text) == (True, f"http://a.example:{server.port}/ sent a head without end")

    async def test_the_end_of_the_connection_before_that_of_the_answer(self) -> None:
        async with pages({"/": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"}) as server:
            done = await get(server)
            assert done.text.endswith("/ closed the connection in the middle of the answer")


class TestHosts:
    said = Fetch(hosts=("docs.example.com", "*.python.org", "api.example.com:8443"))

    @pytest.mark.parametrize(
        "url",
        [
            "https://docs.example.com",
            "https://DOCS.example.com./x",
            "https://docs.example.com:443/x#fragment",
            "https://peps.python.org/pep-0008/",
            "https://a.b.python.org/",
            "https://api.example.com:8443/v1?x=1",
        ],
    )
    def test_those_that_are_listed(self, url: str) -> None:
        assert target_of(url, self.said).scheme == "https"

    @pytest.mark.parametrize(
        "url",
        [
            "https://example.com/",
            "https://python.org/",
            "https://evilpython.org/",
            "https://docs.example.com.evil.com/",
            "https://docs.example.com:8443/",
            "https://api.example.com/",
            "https://docs.example.com@evil.com/",
            "https://evil.com\\@docs.example.com/",
            "https://evil.com#@docs.example.com/",
            "https://evil.com/?https://docs.example.com/",
            "https://docs.example.com\n.evil.com/",
            "https://docs。example.com.evil.com/",
            "https://169.254.169.254/",
            "https://[::1]/",
            "http://docs.example.com/",
            "file:///etc/passwd",
            "ftp://docs.example.com/",
            "//docs.example.com/",
            "docs.example.com",
            "https://docs.example.com:99999/",
            "https://user:password@docs.example.com/",
            "https://" + "a" * 70 + ".python.org/",
            "https://docs.example.com/" + "x" * 3000,
            "",
        ],
    )
    def test_no_others(self, url: str) -> None:
        with pytest.raises(Refusal):
            target_of(url, self.said)

    def test_the_model_is_told_which_may_be_asked(self) -> None:
        with pytest.raises(Refusal) as caught:
            target_of("https://evil.com/", self.said)
        assert str(caught.value) == (
            'the host "evil.com" is not in the list; these may be asked: docs.example.com, *.python.org, '
            "api.example.com:8443"
        )


class TestAddresses:
    @pytest.mark.parametrize(
        "address", ["93.184.216.34", "2606:4700::6810:84e5", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
    )
    def test_those_of_the_public_internet(self, address: str) -> None:
        assert may_be_reached(address, allow_private=False)

    PRIVATE = ("10.1.2.3", "172.16.0.1", "192.168.1.1", "127.0.0.1", "127.8.8.8", "::1", "fd12::1", "::ffff:10.0.0.1")
    NEVER = (
        *("169.254.169.254", "169.254.1.1", "fe80::1", "fe80::1%eth0", "224.0.0.1", "ff02::1", "0.0.0.0", "::"),
        *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254", "fd00:ec2::254"),
        *("255.255.255.255", "100.100.100.200", "168.63.129.16", "240.0.0.1", "not an address", ""),
    )

    @pytest.mark.parametrize("address", PRIVATE)
    def test_private_ones_only_where_they_are_allowed(self, address: str) -> None:
        assert not may_be_reached(address, allow_private=False)
        assert may_be_reached(address, allow_private=True)

    @pytest.mark.parametrize("address", ["64:ff9b::a00:1", "2002:a00:1::1", "100.64.0.1"])
    def test_nor_what_leads_to_a_private_one(self, address: str) -> None:
        assert not may_be_reached(address, allow_private=False)

    @pytest.mark.parametrize("address", NEVER)
    def test_never(self, address: str) -> None:
        assert not may_be_reached(address, allow_private=False)
        assert not may_be_reached(address, allow_private=True)

    async def test_one_bad_address_of_a_name_is_enough(self) -> None:
        async with pages({"/": answer(b"secret")}) as server:
            done = await get(server, resolve=names(a_example=["127.0.0.1 169.254.169.254"]))
            assert done.is_error
            assert done.text == "the host a.example has an address that may not be reached, such as a private one"
            assert server.asked == []

    async def test_a_private_address_is_not_reached(self) -> None:
        async with pages({"/": answer(b"secret")}) as server:
            done = await get(server, allowPrivate=False)
            assert done.text == "the host a.example has an address that may not be reached, such as a private one"
            assert server.asked == []

    async def test_a_name_is_resolved_once_so_its_second_answer_leads_nowhere(self) -> None:
        """DNS rebinding: the first answer is harmless, the next is the metadata service."""
        asked: list[str] = []
        resolve = names(a_example=["127.0.0.1", "169.254.169.254"])

        async def counted(host: str, port: int) -> Sequence[str]:
            asked.append(host)
            return await resolve(host, port)  # type: ignore[no-any-return]

        async with pages({"/": answer(b"harmless")}) as server:
            assert (await get(server, resolve=counted)).text.endswith("harmless")
            assert asked == ["a.example"]
            assert (await get(server, resolve=counted)).is_error
            assert len(server.asked) == 1

    async def test_a_name_without_address(self) -> None:
        async with pages({}) as server:
            assert (await get(server, resolve=names())).text == "the host a.example has no address"


class TestRedirects:
    async def test_within_the_list(self) -> None:
        answers = {"/": redirect("/next"), "/next": redirect("http://b.example:PORT/last"), "/last": answer(b"there")}
        async with pages(answers) as server:
            done = await get(server)
            assert done.text == f"http://b.example:{server.port}/last\n\nthere"

    @pytest.mark.parametrize(
        "to", ["http://169.254.169.254/latest/meta-data/", "https://evil.com/", "file:///etc/passwd", "//evil.com/x"]
    )
    async def test_elsewhere_are_reported_and_not_followed(self, to: str) -> None:
        async with pages({"/": redirect(to)}) as server:
            done = await get(server)
            assert done.is_error
            assert f"/ redirects to {to}, which was not followed: " in done.text

    async def test_to_a_host_of_the_list_that_has_become_a_bad_address(self) -> None:
        resolve = names(a_example=["127.0.0.1"], b_example=["169.254.169.254"])
        async with pages({"/": redirect("http://b.example:PORT/")}) as server:
            done = await get(server, resolve=resolve)
            assert done.text == "the host b.example has an address that may not be reached, such as a private one"

    async def test_without_end(self) -> None:
        async with pages({"/": redirect("/")}) as server:
            assert (await get(server)).text.startswith("more than 5 redirects; the last one led to http://a.example")
            assert len(server.asked) == 6

    async def test_a_secret_header_goes_to_the_first_host_only(self) -> None:
        """Not even when a redirect leads back to it: who sends there chooses what is asked."""
        answers = {"/": redirect("http://b.example:PORT/b"), "/b": redirect("http://a.example:PORT/c")}
        async with pages({**answers, "/c": answer(b"end")}) as server:
            await get(server, headers={"Authorization": "Bearer s3cret"})
            assert ["Bearer s3cret" in head for head in server.asked] == [True, False, False]

    async def test_a_secret_header_stays_on_its_host(self) -> None:
        async with pages({"/": redirect("/b"), "/b": answer(b"end")}) as server:
            await get(server, headers={"Authorization": "Bearer s3cret"})
            assert ["Bearer s3cret" in head for head in server.asked] == [True, True]


class TestTls:
    async def test_the_name_is_what_the_certificate_is_checked_against(self, tmp_path: Path) -> None:
        serving, trusting = certificates("a.example", tmp_path)
        async with pages({"/": answer(b"safe")}, serving) as server:
            said = Fetch.model_validate({"hosts": ["a.example:" + str(server.port), "b.example:" + str(server.port)]})
            said = said.model_copy(update={"allow_private": True})
            fetcher = Fetcher(said, dict, resolve=LOOPBACK, tls=trusting)
            place = Place(run="run_1", folder=tmp_path, secrets=str)
            good = await fetcher.call({"url": f"https://a.example:{server.port}/"}, place)
            bad = await fetcher.call({"url": f"https://b.example:{server.port}/"}, place)
            assert good.text == f"https://a.example:{server.port}/\n\nsafe"
            assert bad.text.startswith("the certificate of b.example is not to be trusted: Hostname mismatch")


def certificates(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server of that name needs, and who trusts it."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form, encoding = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    both = folder / "both.pem"
    both.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()) + made.public_bytes(encoding))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(both)
    return serving, ssl.create_default_context(cadata=made.public_bytes(encoding).decode())


class TestInAToolbox:
    async def test_it_is_read_and_nothing_that_it_returns_is_trusted(self, tmp_path: Path) -> None:
        async with toolbox(tmp_path, {"web": {"fetch": {"hosts": ["a.example"]}}}) as box:
            tool = await the_tool(box, "web")
            assert (tool.effect, tool.repeatable, tool.approval, tool.trusted) == ("read", True, "never", False)
            assert "Hosts: a.example." in tool.description

    async def test_a_page_that_repeats_the_secret_of_its_header(self, tmp_path: Path) -> None:
        async with pages({"/": answer(b"you sent token-4711, dG9rZW4tNDcxMQ==")}) as server:
            hosts = {"hosts": [f"a.example:{server.port}"], "allowHttp": True, "allowPrivate": True}
            tools = {"web": {"fetch": {**hosts, "headers": {"X-Token": "TOKEN"}}}}
            async with toolbox(tmp_path, tools, {"TOKEN": "token-4711"}, resolve=LOOPBACK) as box:
                done = await said(box, await the_tool(box, "web"), url=f"http://a.example:{server.port}/")
                assert "\r\nX-Token: token-4711\r\n" in server.asked[0]
                assert done.text.endswith("you sent [secret TOKEN], [secret TOKEN]==")
