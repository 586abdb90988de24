"""What goes wrong, as HTTP status and OpenAI's JSON."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..request import EngineClosed, QuireError

RETRY_AFTER_S = "1"
MAX_MESSAGE = 1000  # characters: some messages repeat what a request has
CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None,
                 headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.code = status, code
        self.param = param if param is None or len(param) <= MAX_MESSAGE else None
        self.message = message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + " ..."
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        kind = ("rate_limit_error" if self.status == 429 else
                "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def content(self) -> bytes:
        return msgspec.json.encode(self.body())


def bad(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, code=code)


def draining() -> ApiError:
    return ApiError(503, "The server is shutting down and takes no more requests.", code="shutting_down",
                    headers={"retry-after": RETRY_AFTER_S})


def api_error(error: BaseException) -> ApiError:
    """For a client: says what it can act on, and of anything unforeseen only that it happened."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, EngineClosed):
        return draining()
    if isinstance(error, QuireError):
        if isinstance(error.__cause__, ApiError):  # of a mask
            return error.__cause__
        if error.status in ("ERR_INVALID", "ERR_UNSUPPORTED"):
            return bad(error.message, error.field)
        if error.status == "ERR_TOO_LONG":
            return bad(error.message, "prompt", CONTEXT_LENGTH_EXCEEDED)
        if error.status == "ERR_FULL":
            return ApiError(429, error.message, code="queue_full", headers={"retry-after": RETRY_AFTER_S})
        if error.status == "ERR_EXECUTION":
            return ApiError(500, error.message, code="execution_failed")
    return ApiError(500, "The server met an error of its own; its log says more.", code="internal_error")
