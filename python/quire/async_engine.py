"""An engine in asyncio's loop: a thread computes, the loop reads what it says."""
from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from ._binding import invalid
from ._core import Core, Owner, pause_after
from ._output import Request
from .request import EngineClosed, Prompt, QuireError, RequestOutput, SamplingParams, Text


class Stream(AsyncIterator[RequestOutput]):
    """What a request gives, as it comes. Ending the iteration early ends the request: by aclose(), by cancelling the
    task that waits for it, or by letting go of this object."""

    __slots__ = ("request_id", "_core", "_request", "_is_over")

    def __init__(self, core: Core, request: Request):
        self.request_id = request.request_id
        self._core, self._request, self._is_over = core, request, False

    async def __anext__(self) -> RequestOutput:
        request = self._request
        while not self._is_over:
            output = self._take(request)
            if output is not None:
                return output
            if request.waiter is not None:
                raise RuntimeError(f"request {self.request_id}: another task reads this stream")
            request.waiter = asyncio.get_running_loop().create_future()
            try:
                await request.waiter
            except BaseException:
                request.waiter = None
                self._end()
                raise
        raise StopAsyncIteration

    def _take(self, request: Request) -> RequestOutput | None:
        output, failure = None, request.failure
        if failure is None:
            try:
                output = request.take(False)
            except Exception as error:  # of the tokenizer
                request.failure = failure = error
        for part in output.outputs if output is not None else ():
            failure = failure or part.error
        if failure is not None:
            self._end()
            raise failure
        request.unread_since = None
        self._is_over = output is not None and output.finished
        return output

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            with suppress(EngineClosed):
                self._core.cancel(self._request)

    async def aclose(self) -> None:
        """Ends the request, if it has not ended. Nothing more comes."""
        self._end()

    def __del__(self) -> None:
        self._end()


class AsyncEngine(Owner):
    """A model and an engine that serves requests as they come. Belongs to the event loop that uses it first.

    Arguments as of LLM, but `seed` None draws one. Blocks while the weights are read."""

    def __init__(self, model: str | os.PathLike[str] | None = None, *, config: str | os.PathLike[str] | None = None,
                 tokenizer: Text | None = None, skip_tokenizer_init: bool = False, seed: int | None = None,
                 max_logits_in_flight: int = 0, cache_events: bool = False, options: Mapping[str, Any] | None = None,
                 **keys: Any):
        seed = random.SystemRandom().getrandbits(63) if seed is None else seed
        self._core = Core(model, config, tokenizer, skip_tokenizer_init, seed, max_logits_in_flight, cache_events,
                          options or {}, keys)
        self._consumer_timeout = self.setting("scheduler.consumer_timeout") / 1e9
        self._by_id: dict[str, Request] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle = asyncio.Event()  # no request is in the engine
        self._is_closing = self._is_closed = False

    # ---- requests ----

    def generate(self, prompt: Prompt, sampling_params: SamplingParams | None = None, request_id: str | None = None, *,
                 priority: int = 0, tenant: str = "", timeout: float | None = None, queue_timeout: float | None = None,
                 skip_reading_prefix_cache: bool = False, skip_writing_prefix_cache: bool = False) -> Stream:
        """`async for output in engine.generate(...)`: what is new, as often as there is something: several tokens where
        the reader is slower than the engine. Submits at once, without waiting: raises QuireError when the request is
        refused (ERR_FULL: retry later). The iteration raises QuireError when it fails, or (ERR_FULL) when its reader
        has taken nothing for scheduler.consumer_timeout. Times in seconds from now."""
        if self._is_closing:
            raise EngineClosed("the engine takes no requests any more")
        self._attach()
        if request_id in self._by_id:
            raise invalid("request_id", f"{request_id!r} is that of an unfinished request")
        request = self._core.submit(prompt, sampling_params, request_id, priority=priority, tenant=tenant,
                                    timeout=timeout, queue_timeout=queue_timeout,
                                    skip_reading_prefix_cache=skip_reading_prefix_cache,
                                    skip_writing_prefix_cache=skip_writing_prefix_cache)
        self._by_id[request.request_id] = request
        self._idle.clear()
        return Stream(self._core, request)

    def abort(self, request_id: str) -> None:
        """Ends a request early: its stream ends with finish_reason "cancelled". An unknown one is ignored."""
        if request_id in self._by_id:
            self._core.cancel(self._by_id[request_id])

    def explain(self, request_id: str) -> dict[str, Any]:
        """Why its first unfinished sequence is not running: reason, missing_blocks, wait_ns by reason."""
        if request_id not in self._by_id:
            raise QuireError("ERR_NOT_FOUND", f"request {request_id}: not found, or finished")
        return self._core.explain(self._by_id[request_id])

    # ---- events ----

    def _attach(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("this engine belongs to another event loop")
        for request in self._core.requests.values():  # of a loop that is gone
            request.waiter = None
            self._core.cancel(request)
        self._idle = asyncio.Event()
        if not self._core.requests:
            self._idle.set()
        self._loop = loop
        self._listen(loop)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_closed:
            loop.add_reader(self._core.event_fd, self._read, loop)

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        touched, now = self._core.take_events(0), loop.time()
        for request in touched:
            self._tell(request, now)
            if request.is_finished:
                self._by_id.pop(request.request_id, None)
        if not self._core.requests:
            self._idle.set()
        if pause := pause_after(touched):
            loop.remove_reader(self._core.event_fd)
            loop.call_later(pause, self._listen, loop)

    def _tell(self, request: Request, now: float) -> None:
        """Wakes its reader, or watches one that does not come."""
        waiter, request.waiter = request.waiter, None
        if waiter is not None:
            if not waiter.done():
                waiter.set_result(None)
        elif request.unread_since is None:
            request.unread_since = now
        elif now - request.unread_since > self._consumer_timeout and request.failure is None:
            request.failure = QuireError("ERR_FULL", f"request {request.request_id}: its reader took nothing for "
                                                     f"{self._consumer_timeout:g} s (scheduler.consumer_timeout)")
            self._core.cancel(request)

    # ---- the end ----

    async def drain(self, timeout: float | None = None) -> bool:
        """Takes no more requests (EngineClosed) and returns when all have ended; after `timeout` seconds the open ones
        are cancelled. Whether none had to be."""
        self._is_closing = True
        self._attach()
        if self._idle.is_set():
            return True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
            return True
        except TimeoutError:
            for request in self._core.requests.values():
                self._core.cancel(request)
            await self._idle.wait()
            return False

    async def aclose(self) -> None:
        """drain(0), then frees everything; also `async with`. What is left open is freed at exit."""
        if self._is_closed:
            return
        await self.drain(0)
        self._is_closed = True
        assert self._loop is not None
        self._loop.remove_reader(self._core.event_fd)
        await asyncio.to_thread(self._core.close)

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
