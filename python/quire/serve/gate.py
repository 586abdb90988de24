"""What every request passes before its endpoint: key, headers, size and time of its body; and what watches over it: a
client that goes away, and errors that nobody foresaw."""
from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from .errors import ApiError, api_error, draining
from .http import HttpLimits
from .tenants import Tenants

log = logging.getLogger("quire.serve")


class Gone(Exception):
    """The client closed its connection."""


class Gate:
    """ASGI middleware. `active` requests are inside; while it `is_draining`, only GET requests are let in."""

    def __init__(self, app: Any, tenants: Tenants, limits: HttpLimits, count_error: Callable[[int], None]):
        """count_error: told the status of every answer that is an error."""
        self._app, self._tenants, self._limits, self._count_error = app, tenants, limits, count_error
        self.active = 0
        self.is_draining = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        has_started = False

        async def noting_send(message: Any) -> None:
            nonlocal has_started
            has_started = True
            if message.get("status", 0) >= 400:
                self._count_error(message["status"])
            await send(message)

        self.active += 1
        try:
            await self._serve(scope, receive, noting_send)
        except Gone:
            pass
        except Exception as error:
            answer = api_error(error)
            if answer.code == "internal_error":
                log.exception("%s %s", scope["method"], scope["path"])
            if not has_started:
                await send_error(noting_send, answer)
        finally:
            self.active -= 1

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"tenant": self._tenants.tenant(scope["headers"])}
        body = b""
        if scope["method"] == "POST":
            if self.is_draining:
                raise draining()
            self._check_headers(dict(scope["headers"]))
            body = await self._read(receive)
        await _while_connected(self._app, scope, body, receive, send)

    def _check_headers(self, headers: dict[bytes, bytes]) -> None:
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":  # browsers send no other without asking the server first
            raise ApiError(415, "Content-Type must be application/json.")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ApiError(415, "Content-Encoding is not supported.")
        if int(headers.get(b"content-length", b"0")) > self._limits.body_bytes:
            raise self._too_large()

    def _too_large(self) -> ApiError:
        return ApiError(413, f"The body is above the limit of {self._limits.body_bytes} bytes.")

    async def _read(self, receive: Any) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self._limits.body_bytes:
                        raise self._too_large()
        except TimeoutError:
            raise ApiError(408, f"The body was not complete after {self._limits.body_s:g} s.") from None
        return bytes(body)


async def _while_connected(app: Any, scope: Any, body: bytes, receive: Any, send: Any) -> None:
    """Runs the application, and cancels it when the client goes away."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Any:
        return messages.pop() if messages else await asyncio.Event().wait()

    async def disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    work = asyncio.ensure_future(app(scope, replay, send))
    watch = asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watch.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
    if not work.cancelled():
        work.result()


async def send_error(send: Any, error: ApiError) -> None:
    content = error.content()
    headers = {"content-type": "application/json", "content-length": str(len(content)), **error.headers}
    await send({"type": "http.response.start", "status": error.status,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()]})
    await send({"type": "http.response.body", "body": content})
