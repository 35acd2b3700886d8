"""Which calls a tenant may have made from inside our network, and how they are signed."""

import base64
import ipaddress

import pytest

from stoker.base.errors import InvalidInput, NotPermitted
from stoker.policy.callbacks import Target, check_host, may_connect, secrets_in, signature, target_of


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("https://hooks.example.com/done", Target("hooks.example.com", 443, "/done", True), "hooks.example.com"),
        ("https://Hooks.Example.com.", Target("hooks.example.com", 443, "/", True), "hooks.example.com"),
        ("https://h.example:8443/a?b=c", Target("h.example", 8443, "/a?b=c", True), "h.example:8443"),
        ("http://127.0.0.1:9/x", Target("127.0.0.1", 9, "/x", False), "127.0.0.1:9"),
        ("https://[2606:4700::1]/x", Target("2606:4700::1", 443, "/x", True), "[2606:4700::1]"),
    ],
)
def test_a_url_is_taken_apart(url: str, target: Target, authority: str) -> None:
    assert target_of(url) == target
    assert target_of(url).authority == authority


@pytest.mark.parametrize(
    "url",
    [
        "",
        7,
        "hooks.example.com",
        "ftp://hooks.example.com",
        "file:///etc/passwd",
        "https://",
        "https://user:secret@hooks.example.com",
        "https://hooks.example.com@evil.example",
        "https://hooks.example.com\\@evil.example",
        "https://hooks.example.com/#x",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/a\r\nx: y",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:0/",
        "https://[::1/",
        "https://hööks.example.com/",
        "https://hooks.example.com/" + "x" * 2048,
    ],
)
def test_what_is_no_url_to_call_is_refused(url: object) -> None:
    with pytest.raises(InvalidInput, match="callback_url is "):
        target_of(url)


@pytest.mark.parametrize(
    ("url", "allowed", "may"),
    [
        ("https://hooks.example.com", ["hooks.example.com"], True),
        ("https://hooks.example.com", ["HOOKS.example.com"], True),
        ("https://hooks.example.com", [], False),
        ("https://evil.example", ["hooks.example.com"], False),
        ("https://xhooks.example.com", ["hooks.example.com"], False),
        ("https://hooks.example.com.evil.example", ["hooks.example.com"], False),
        ("https://a.b.example.com", ["*.example.com"], True),
        ("https://example.com", ["*.example.com"], False),
        ("https://evilexample.com", ["*.example.com"], False),
        ("https://10.1.2.3", ["10.1.2.3"], True),
        ("https://10.1.2.3", ["10.0.0.0/8"], True),
        ("https://10.1.2.3", ["10.9.9.9/8"], True),
        ("https://11.1.2.3", ["10.0.0.0/8"], False),
        ("https://10.1.2.3", ["hooks.example.com"], False),
        ("https://hooks.example.com", ["0.0.0.0/0"], False),
        ("https://2130706433", ["127.0.0.1"], False),
    ],
)
def test_only_hosts_of_the_tenants_list_are_called(url: str, allowed: list[str], may: bool) -> None:
    if may:
        check_host(target_of(url), allowed)
        return
    with pytest.raises(NotPermitted) as error:
        check_host(target_of(url), allowed)
    assert error.value.code == "callback_not_allowed"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "2001::1",
    ],
)
def test_no_private_address_is_called_unless_it_is_listed(address: str) -> None:
    where = ipaddress.ip_address(address)
    assert not may_connect(where, ["hooks.example.com"], is_tls=True)
    assert may_connect(where, [address], is_tls=True)


def test_a_listed_network_covers_addresses_that_are_wrapped() -> None:
    assert may_connect(ipaddress.ip_address("::ffff:10.0.0.1"), ["10.0.0.0/8"], is_tls=True)
    assert not may_connect(ipaddress.ip_address("::ffff:10.0.0.1"), ["11.0.0.0/8"], is_tls=True)


def test_public_addresses_are_called_with_tls_and_this_machines_own_without() -> None:
    assert may_connect(ipaddress.ip_address("93.184.216.34"), [], is_tls=True)
    assert not may_connect(ipaddress.ip_address("93.184.216.34"), [], is_tls=False)
    assert not may_connect(ipaddress.ip_address("93.184.216.34"), ["93.184.216.34"], is_tls=False)
    assert not may_connect(ipaddress.ip_address("10.0.0.1"), ["10.0.0.1"], is_tls=False)
    assert not may_connect(ipaddress.ip_address("127.0.0.1"), [], is_tls=False)
    assert may_connect(ipaddress.ip_address("127.0.0.1"), ["127.0.0.0/8"], is_tls=False)
    assert may_connect(ipaddress.ip_address("2606:4700::1111"), [], is_tls=True)


def test_a_call_is_signed_as_standard_webhooks_says() -> None:
    """The example of its specification's libraries: known key, id, time and body give this signature."""
    [secret] = secrets_in("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(
        [secret], message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=b'{"test": 2432232314}'
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_secret_is_changed_both_sign() -> None:
    old, new = ("whsec_" + base64.b64encode(letter * 24).decode() for letter in (b"a", b"b"))
    secrets = secrets_in(f"{old} {new}")
    assert secrets == [b"a" * 24, b"b" * 24]
    both = signature(secrets, message_id="m", timestamp=1, body=b"")
    assert both.split() == [signature([secret], message_id="m", timestamp=1, body=b"") for secret in secrets]
    assert len(set(both.split())) == 2


@pytest.mark.parametrize(
    "text", ["", " ", "hunter2", "whsec_", "whsec_short", "whsec_" + "A" * 400, "whsec_ä", "AAAA" * 8]
)
def test_what_is_no_secret_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        secrets_in(text)
    assert not text.strip() or text not in error.value.message.replace("whsec_ and", "")
