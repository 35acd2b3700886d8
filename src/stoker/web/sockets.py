"""WebSockets below the application: uvicorn's protocol on the `websockets` library, with a way to end well.

uvicorn's own closes every connection at once when the server is told to stop. Here the application is told instead, by
the event in its scope (`stopping_in`), lets what runs have the grace that other requests have, and closes by itself.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

# A peer that says nothing for so long is asked whether it is there, and given up after as long again.
PING_S = 20.0
_STOPPING = "stoker.stopping"


class SocketProtocol(WebSocketsSansIOProtocol):
    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:  # it was no handshake, and has been told so
            self._stopping = asyncio.Event()
            self.scope["extensions"][_STOPPING] = {"event": self._stopping}

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            # Too much of a head for the library, which has an answer that nobody sends.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def send_receive_event_to_app(self) -> None:
        """As uvicorn's, which logs a traceback of what is no UTF-8, and fails when a close has come behind it."""
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_text(b"".join(self.frames)):
            self.frames = []
            self.conn.fail(1007, "not UTF-8")
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is None:  # something behind the frame that ended it: there is nothing to say to that
            self.transport.close()
        else:
            super().handle_parser_exception()

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent:
            self._stopping.set()
        else:
            super().shutdown()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def stopping_in(scope: Mapping[str, Any]) -> asyncio.Event:
    """Set when the server is told to stop: the application ends the connection, with the code 1012."""
    event: asyncio.Event = scope["extensions"][_STOPPING]["event"]
    return event
