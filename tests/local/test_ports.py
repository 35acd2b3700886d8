"""Which ports may be listened on."""

import socket

import pytest

from stoker.base.errors import InvalidInput, PortTaken
from stoker.local.ports import claim, is_free


def test_a_free_port_is_found_and_is_free() -> None:
    port = claim("127.0.0.1", 0)

    assert 1024 <= port <= 65535
    assert claim("127.0.0.1", port) == port


def test_a_port_that_somebody_listens_on_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        assert not is_free("127.0.0.1", port)
        with pytest.raises(PortTaken, match=f"port {port} on 127.0.0.1 is taken") as caught:
            claim("127.0.0.1", port)
        assert "--port N" in str(caught.value.hint)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize(("listens", "asked"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")])
def test_a_port_that_somebody_listens_on_by_an_address_that_covers_ours_is_taken(listens: str, asked: str) -> None:
    """macOS would let both listen."""
    with socket.create_server((listens, 0)) as server:
        assert not is_free(asked, server.getsockname()[1])


def test_a_server_that_shares_its_port_keeps_it() -> None:
    """Where the system lets a second one bind, whoever answers there was first."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert is_free("127.0.0.1", port)  # bound, but nobody listens: the system lets us in
        server.listen()
        assert not is_free("127.0.0.1", port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(InvalidInput, match=f"port {port} is not between 0 and 65535") as caught:
        claim("127.0.0.1", port)
    assert "--port N" in str(caught.value.hint)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"cannot listen on host '192.0.2.1'"):
        claim("192.0.2.1", 0)
