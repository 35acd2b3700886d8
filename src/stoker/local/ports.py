"""Ports of this machine: is one free, and which one is."""

import errno
import socket
from typing import Any

from stoker.base.errors import InvalidInput, PortTaken


def claim(host: str, port: int) -> int:
    """The port that a server may listen on: `port`, or any free one for 0. Nothing is held: somebody else may be
    quicker. Raises PortTaken, and InvalidInput for a host or port that can never work."""
    if not 0 <= port <= 65535:
        raise InvalidInput(
            f"port {port} is not between 0 and 65535",
            param="port",
            hint="choose another with --port N; 0 takes any free one",
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: a port whose connections are only waiting out their time (TIME_WAIT) is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            found = int(probe.getsockname()[1])
    except OSError as error:
        raise _explain(error, host, port) from error
    # macOS lets one bind 127.0.0.1 beside a server on all addresses, and then takes that server's callers away.
    if port and _answers(family, address):
        raise _taken(host, port)
    return found


def is_free(host: str, port: int) -> bool:
    try:
        claim(host, port)
    except PortTaken:
        return False
    return True


def _answers(family: int, address: Any) -> bool:
    """Whether somebody accepts connections there. An address that stands for all is asked on this machine."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])  # noqa: S104 - named, not listened on
    with socket.socket(family, socket.SOCK_STREAM) as caller:
        caller.settimeout(1.0)
        return caller.connect_ex((reached, *address[1:])) == 0


def _taken(host: str, port: int) -> PortTaken:
    return PortTaken(f"port {port} on {host} is taken", hint="choose another with --port N; --port 0 takes any")


def _explain(error: OSError, host: str, port: int) -> PortTaken | InvalidInput:
    if error.errno == errno.EADDRINUSE:
        return _taken(host, port)
    if error.errno == errno.EACCES:
        return InvalidInput(
            f"port {port} needs rights that you do not have", param="port", hint="choose one above 1023 with --port N"
        )
    return InvalidInput(
        f"this machine cannot listen on host {host!r}: {error.strerror}",
        param="host",
        hint="--host 127.0.0.1 for this machine only, --host 0.0.0.0 for all its networks",
    )
