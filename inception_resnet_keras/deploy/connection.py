"""Limits that uvicorn lacks: on slow headers, on clients that do not read their answer, and on connections."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..common.console import json_text
from .batching import Batcher

TICKS = 5  # connections are checked every 5 ticks, half a second


class Connection(H11Protocol):
    """A connection that knows how long its client has kept it waiting.

    The application limits the time for a request's body; this class limits the time for its header and for its answer.

    Args:
        most: The maximum number of connections, all together.
        patience: The maximum time for a header, and for a client to read from its answer, in seconds.
    """

    def __init__(self, *arguments: Any, most: int, patience: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._most, self._patience = most, patience

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since: float | None = time.monotonic()  # when the wait for a header began; None while answering
        self._started = False  # whether part of the header has arrived
        self._unsent, self._stuck_since = 0, 0.0
        if len(self.connections) > self._most:
            self._refuse(503, f"the server has {self._most} connections; try again later", b"1")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering():
            self._since = None
        else:
            self._since = time.monotonic() if self._since is None else self._since
            self._started = True

    def on_response_complete(self) -> None:
        self._since, self._started = None, False
        super().on_response_complete()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        error = sys.exception()  # of h11, which uvicorn handles by this call
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        what = "its header is too large" if status == 431 else str(error or msg)[:200]
        self._refuse(status, f"the request is not accepted as HTTP/1.1: {what}")

    def look(self, now: float) -> None:
        """End the connection if the client has kept it waiting for too long. now: `time.monotonic()`."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:  # the client has read something
            self._unsent, self._stuck_since = unsent, now
        if now - self._stuck_since > self._patience:
            self.transport.abort()
        elif self._since is not None and now - self._since > self._patience and not self.transport.is_closing():
            if self._started:
                self._refuse(408, f"the header did not arrive within {self._patience:g} seconds")
            else:
                self.transport.close()

    def _refuse(self, status: int, message: str, retry: bytes | None = None) -> None:
        """Answer without the application, and close the connection."""
        body = json_text({"error": message}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers += [(b"connection", b"close"), *([(b"retry-after", retry)] if retry else [])]
        with suppress(
            h11.LocalProtocolError
        ):  # an answer was given already, and what comes is the body it did not need
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server, which also checks its connections and waits for the model.

    It ends if the model of `batcher` cannot be opened, and calls `on_ready` once the model is warm.
    """

    def __init__(self, config: uvicorn.Config, batcher: Batcher) -> None:
        super().__init__(config)
        self.on_ready: Callable[[], Any] = lambda: None
        self._batcher, self._announced = batcher, False

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.look(now)
        if not self._announced and self._batcher.settled.is_set():
            self._announced = True
            if self._batcher.error is not None:
                return True
            self.on_ready()
        return await super().on_tick(counter)
