"""HTTP below the application: limits on connections, headers and time that uvicorn leaves open, and an end by signal
that lets requests finish."""
from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .errors import ApiError

log = logging.getLogger("quire.serve")
MAX_HEADER_BYTES = 64 << 10
HEAD_PORTION = 4096
LINGER_S = 2.0  # after an early answer: the rest of what the client sends is read, so that it gets the answer


@dataclass(slots=True)
class HttpLimits:
    connections: int = 1024
    header_s: float = 10.0  # for the head of a request
    body_s: float = 30.0
    stall_s: float = 30.0  # a client that takes nothing for so long is cut off
    body_bytes: int = 16 << 20


class Protocol(H11Protocol):
    """One connection."""

    limits = HttpLimits()

    def connection_made(self, transport: Any) -> None:
        self._head: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._is_over = False
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(ApiError(503, f"There are {self.limits.connections} connections already.",
                                  headers={"retry-after": "1"}))
        self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self._time_head()
        self._end_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        while data and not self._is_over:  # h11 looks at the size of a head that is incomplete
            portion = HEAD_PORTION if self.conn.their_state is h11.IDLE else len(data)
            super().data_received(data[:portion])
            data = data[portion:]
        self._time_head()

    def _time_head(self) -> None:
        """The timer runs while the head of a request is expected or incomplete; uvicorn's own, between requests."""
        if self._is_over or self.conn.their_state is not h11.IDLE:
            if self._head is not None:
                self._head.cancel()
                self._head = None
        elif self._head is None:
            self._head = self.loop.call_later(self.limits.header_s, self._end_head)

    def _end_head(self) -> None:
        """No request, no answer: a client that opens connections beforehand would take it for that of its next one."""
        if self.conn.trailing_data[0]:
            self._refuse(ApiError(408, f"The head of the request was not complete after {self.limits.header_s:g} s."))
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """An answer before the end of the request's body: the rest is read and dropped, for a while."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self.loop.call_later(LINGER_S, self._end_body, self.cycle)

    def _end_body(self, cycle: Any) -> None:
        if self.cycle is cycle and self.conn.their_state is h11.SEND_BODY:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls within the handler of h11's error."""
        error = sys.exc_info()[1]
        status = getattr(error, "error_status_hint", 400)
        message = (f"The head of the request is above the limit of {MAX_HEADER_BYTES} bytes." if status == 431
                   else f"The request is not valid HTTP: {error}")
        self._refuse(ApiError(status, message))

    def _refuse(self, error: ApiError) -> None:
        """Answers before there is a request, and ends the connection."""
        self._is_over = True
        self._time_head()
        if self.transport.is_closing():
            return
        content = error.content()
        headers = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
        try:
            for event in (h11.Response(status_code=error.status, headers=list({**headers, **error.headers}.items())),
                          h11.Data(data=content), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
            self.transport.write_eof()
        except (h11.LocalProtocolError, OSError, NotImplementedError):  # in the middle of another answer, or TLS
            self.transport.close()
        self.loop.call_later(LINGER_S, self.transport.abort)

    # ---- clients that do not read ----

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_stall()

    def resume_writing(self) -> None:
        self._end_stall()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_stall()  # closing waits for what is unsent

    def _watch_stall(self) -> None:
        self._end_stall()
        self._unsent = self.transport.get_write_buffer_size()
        if self._unsent > 0:
            self._stall = self.loop.call_later(self.limits.stall_s, self._check_stall)

    def _check_stall(self) -> None:
        if self.transport.get_write_buffer_size() < self._unsent:
            self._watch_stall()
            return
        log.warning("a client took nothing for %g s: its connection is closed", self.limits.stall_s)
        self.transport.abort()

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


class Server(uvicorn.Server):
    """The first SIGTERM or SIGINT calls `drain`, and the server goes on until it returns; the second ends it at once.
    `announce` is called when clients can connect."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]], announce: Callable[[], None]):
        super().__init__(config)
        self._drain, self._announce = drain, announce
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: Any = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._announce()

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self._draining is None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin_to_drain)
        else:
            self.should_exit = self.force_exit = True

    def _begin_to_drain(self) -> None:
        self._draining = self._draining or asyncio.ensure_future(self._drain_then_exit())

    async def _drain_then_exit(self) -> None:
        try:
            await self._drain()
        finally:
            self.should_exit = True


def make_server(app: Any, drain: Callable[[], Awaitable[None]], announce: Callable[[], None], limits: HttpLimits,
                **config: Any) -> Server:
    protocol = type("LimitedProtocol", (Protocol,), {"limits": limits})
    return Server(uvicorn.Config(app, http=protocol, ws="none", lifespan="off", h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                                 proxy_headers=False, server_header=False, timeout_graceful_shutdown=5,
                                 log_config=None, backlog=1024, **config), drain, announce)
