"""WebSockets to a server of ours: dialled, read and closed. What the `websockets` library raises becomes ours here."""

from collections.abc import Mapping

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from stoker.base.errors import InvalidInput, Unavailable
from stoker.web.client import Answer

OPEN_S = 10.0
CLOSE_S = 0.5
MOST_MESSAGE_BYTES = 16 * 1024 * 1024
# Codes that an end may say (RFC 6455, section 7.4); the others say what was seen of it.
_MAY_BE_SAID = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))
INTERNAL_ERROR = 1011


class Denied(Exception):
    """The server did not want a WebSocket; `answer` is what it said instead."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"status {answer.status}")
        self.answer = answer


class Closed(Exception):
    """It is over, with this code, which can be said to somebody else."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"code {code}")
        self.code = code if code is not None and code in _MAY_BE_SAID else INTERNAL_ERROR


class Socket:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def receive(self) -> str | bytes:
        """The next message. Raises Closed."""
        try:
            return await self._connection.recv()
        except ConnectionClosed as error:
            raise Closed(self._connection.close_code) from error

    async def send(self, message: str | bytes) -> None:
        """Waits while the server is slow to read. Raises Closed."""
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise Closed(self._connection.close_code) from error

    async def close(self, code: int) -> None:
        await self._connection.close(code if code in _MAY_BE_SAID else INTERNAL_ERROR)


async def dial(url: str, headers: Mapping[str, str]) -> Socket:
    """`url` begins with http or https. Raises Denied, Unavailable."""
    try:
        made = await connect(
            "ws" + url.removeprefix("http"),
            additional_headers=dict(headers),
            user_agent_header=None,
            proxy=None,
            compression=None,
            open_timeout=OPEN_S,
            close_timeout=CLOSE_S,
            max_size=MOST_MESSAGE_BYTES,
        )
    except InvalidURI as error:
        raise InvalidInput(f"{url} is not a URL of a WebSocket") from error
    except InvalidStatus as error:
        said = error.response
        raise Denied(
            Answer(said.status_code, {k.lower(): v for k, v in said.headers.raw_items()}, bytes(said.body))
        ) from error
    except (OSError, TimeoutError, InvalidHandshake) as error:
        raise Unavailable(f"no WebSocket could be opened: {type(error).__name__}") from error
    return Socket(made)
