"""A model, its engine and the requests in it; what LLM and AsyncEngine share."""
from __future__ import annotations

import logging
import os
import struct
import sys
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from ._binding import CACHE_EVENTS, FINISHES, STATUSES, WAIT_REASONS, as_dict, attempt, invalid, no_tokenizer, text_of
from ._config import open_config
from ._fill import Filler, prompt_parts, time_ns
from ._model import ModelInfo, describe
from ._output import Request
from ._quire import ffi, lib
from .request import CacheEvent, EngineClosed, MaskRow, Prompt, QuireError, SamplingParams, Text

log = logging.getLogger("quire")


# ---- callbacks ----

@ffi.def_extern()  # type: ignore[untyped-decorator]
def quire_python_log(context: Any, level: int, line: Any) -> None:
    log.log({lib.QUIRE_LOG_ERROR: logging.ERROR, lib.QUIRE_LOG_WARN: logging.WARNING,
             lib.QUIRE_LOG_INFO: logging.INFO}.get(level, logging.DEBUG), "%s", text_of(line))


def _set_logger(options: Any) -> None:
    options.logger.write = lib.quire_python_log
    options.logger.level = next(quire for python, quire in (
        (logging.DEBUG, lib.QUIRE_LOG_DEBUG), (logging.INFO, lib.QUIRE_LOG_INFO),
        (logging.WARNING, lib.QUIRE_LOG_WARN), (sys.maxsize, lib.QUIRE_LOG_ERROR)) if log.getEffectiveLevel() <= python)


_cores: weakref.WeakValueDictionary[int, Core] = weakref.WeakValueDictionary()  # by the hook's context


@ffi.def_extern()  # type: ignore[untyped-decorator]
def quire_python_mask(context: Any, row: Any, allowed: Any) -> None:
    """An exception leaves no token allowed, which ends the request."""
    bits = ffi.buffer(allowed, (row.vocab_size + 31) // 32 * 4)
    core = _cores.get(int(ffi.cast("uintptr_t", context)))
    request = core and core.requests.get(int(ffi.cast("uintptr_t", row.user_data)))
    if not request or request.params.mask is None:  # collected; the engine is about to end
        return
    try:
        tokens = memoryview(ffi.buffer(row.tokens, row.token_count * 4)).cast("i")
        request.params.mask.fill(MaskRow(row.sequence, tokens, row.prompt_count, row.drafts, row.vocab_size),
                                 memoryview(bits).cast("I"))
    except BaseException as error:
        request.mask_error = error
        bits[:] = bytes(len(bits))


# ---- the engine ----

_TOKEN, _FINISHED = lib.QUIRE_EVENT_TOKEN, lib.QUIRE_EVENT_FINISHED
WAIT_NS = 50_000_000  # Python looks for signals after that
MANY, GATHER_S = 8, 0.002


def pause_after(touched: list[Request]) -> float:
    """Seconds until the events behind these are to be taken. Of many requests they are gathered: steps of a small model
    that each wake Python cost more than the model."""
    return GATHER_S if len(touched) >= MANY else 0.0


class _Handles:
    """What must be freed, apart from Core, which may be gone by then."""

    def __init__(self, config: Any):
        self.config, self.model, self.engine = config, ffi.NULL, ffi.NULL
        self.driver: threading.Thread | None = None
        self.in_use = threading.Lock()  # by a thread that waits for events
        self.in_poll = threading.Lock()  # by a thread that asks for the prefix cache's
        self.is_closing = False
        self.process = os.getpid()

    def free(self) -> None:
        """Ends the step in progress, then everything. In a forked child the parent's engine is left alone."""
        if os.getpid() != self.process:
            return
        self.is_closing = True
        if self.engine != ffi.NULL:
            lib.quire_engine_stop(self.engine)
            if self.driver is not None:
                self.driver.join()
        if not (self.in_use.acquire(timeout=10) and self.in_poll.acquire(timeout=10)):
            return  # at exit, while another thread is in the middle of it: the process takes it along
        lib.quire_engine_destroy(self.engine)
        lib.quire_model_destroy(self.model)
        self.engine = self.model = ffi.NULL
        self.in_use.release()
        self.in_poll.release()


class Core:
    """A model, its engine, and the requests in it. `requests` are those without their last event."""

    EVENT = struct.Struct("=QQQQiIiIfiiB3x")  # quire_event, which is frozen
    EVENTS = 1024

    def __init__(self, model: str | os.PathLike[str] | None, config: str | os.PathLike[str] | None,
                 tokenizer: Text | None, skip_tokenizer_init: bool, seed: int, max_logits_in_flight: int,
                 cache_events: bool, options: Mapping[str, Any], arguments: Mapping[str, Any]):
        self.config = open_config(model, config, options, arguments)
        self._handles = _Handles(self.config)
        self._finalizer = weakref.finalize(self, self._handles.free)
        self._open_model()
        self._open_engine(max_logits_in_flight, cache_events)
        stats = self._stats()
        self._cache_events: Any = ffi.new("quire_cache_event[]", self.EVENTS) if cache_events else None
        self._cache_tokens: Any = ffi.new("int32_t[]", self.EVENTS * stats.block_size) if cache_events else None
        self._block_size = stats.block_size
        self.info = describe(self._handles.model, self._path(), stats)
        self.tokenizer, self._why_none = tokenizer, "skip_tokenizer_init"
        if tokenizer is None and not skip_tokenizer_init:
            self._load_tokenizer()
        self.requests: dict[int, Request] = {}
        self._seed, self._number = seed, 0
        assert ffi.sizeof("quire_event") == self.EVENT.size
        self._events = ffi.new("quire_event[]", self.EVENTS)
        self._bytes = memoryview(ffi.buffer(self._events))

    def _path(self) -> str | None:
        path = lib.quire_config_model_path(self.config)
        return None if path == ffi.NULL else os.fsdecode(ffi.string(path))

    def _open_model(self) -> None:
        options, out = ffi.new("quire_model_options *", lib.quire_config_model(self.config)[0]), ffi.new("quire_model **")
        _set_logger(options)
        path = lib.quire_config_model_path(self.config)
        preset = lib.quire_config_model_preset(self.config)
        if path == ffi.NULL and preset == ffi.NULL:
            raise invalid("model", "none: give a folder, a GGUF file or the name of a preset")
        load, name = (lib.quire_model_load, path) if path != ffi.NULL else (lib.quire_model_synthetic, preset)
        attempt(load, name, options, out)
        self._handles.model = out[0]

    def _open_engine(self, max_logits_in_flight: int, cache_events: bool) -> None:
        options = ffi.new("quire_engine_options *", lib.quire_config_engine(self.config)[0])
        out = ffi.new("quire_engine **")
        _set_logger(options)
        options.max_logits_in_flight = max_logits_in_flight
        if cache_events and options.enable_prefix_caching == lib.QUIRE_TOGGLE_OFF:
            raise invalid("cache_events", "there are none: kv_cache.enable_prefix_caching is false")
        options.cache_events = lib.QUIRE_TOGGLE_ON if cache_events else lib.QUIRE_TOGGLE_OFF
        _cores[id(self)] = self
        options.mask.context = ffi.cast("void *", id(self))
        options.mask.fill = lib.quire_python_mask
        attempt(lib.quire_engine_create, options, self._handles.model, out)
        self._handles.engine = out[0]
        self._handles.driver = threading.Thread(target=lib.quire_engine_run, args=(out[0],), daemon=True,
                                                name="quire driver")
        self._handles.driver.start()

    def _load_tokenizer(self) -> None:
        """A model without one, or whose packages are not installed, takes token ids."""
        if self.info.path is None:
            self._why_none = "a preset has none"
            return
        try:
            from .text import load_text  # type: ignore[import-not-found,unused-ignore]
            self.tokenizer = load_text(self.info.path)
        except (ImportError, QuireError) as error:
            self._why_none = str(error)
            log.info("no tokenizer: %s", error)

    def need_tokenizer(self, field: str) -> Text:
        if self.tokenizer is None:
            raise no_tokenizer(field, f" ({self._why_none})")
        return self.tokenizer

    def _encode(self, text: str, field: str) -> list[int]:
        return self.need_tokenizer(field).encode(text)

    @property
    def engine(self) -> Any:
        handles = self._handles
        if handles.engine == ffi.NULL or handles.is_closing:
            raise EngineClosed("the engine is closed")
        if os.getpid() != handles.process:
            raise QuireError("ERR_FORKED", "this process is a child of the one that created the engine")
        return handles.engine

    @property
    def event_fd(self) -> int:
        return int(lib.quire_engine_event_fd(self.engine))

    @property
    def in_use(self) -> threading.Lock:
        return self._handles.in_use

    def close(self) -> None:
        self._finalizer()

    # ---- requests in ----

    def submit(self, prompt: Prompt, params: SamplingParams | None, request_id: str | None = None, *, priority: int = 0,
               tenant: str = "", timeout: float | None = None, queue_timeout: float | None = None,
               skip_reading_prefix_cache: bool = False, skip_writing_prefix_cache: bool = False) -> Request:
        params = SamplingParams() if params is None else params
        if not isinstance(params, SamplingParams):
            raise invalid("sampling_params", f"expected SamplingParams, found {type(params).__name__}")
        parts = prompt_parts(prompt, self.info, self._encode)
        number = self._number + 1
        filler = Filler(self.info)
        filler.prompt(parts)
        filler.limits(params, len(parts.token_ids))
        filler.sampling(params, self._seed + number & (1 << 64) - 1)
        filler.rules(params, len(parts.token_ids))
        filler.bias(params.logit_bias)
        filler.text("tenant", tenant)
        to = filler.request
        to.timeout_ns, to.queue_timeout_ns = time_ns("timeout", timeout), time_ns("queue_timeout", queue_timeout)
        to.skip_reading_prefix_cache = skip_reading_prefix_cache
        to.skip_writing_prefix_cache = skip_writing_prefix_cache
        try:
            to.priority = priority
        except (TypeError, OverflowError):
            raise invalid("priority", f"{priority!r} is not in -1000..1000") from None
        request = Request(number, str(number) if request_id is None else request_id, params, parts, self.tokenizer,
                          self.info.eos_token_ids)
        self._submit(to, request, params.max_tokens is None)
        return request

    def _submit(self, to: Any, request: Request, may_shorten: bool) -> None:
        """A default of max_tokens that the cache has no room for becomes what it has."""
        handle = ffi.new("quire_request_id *")
        to.user_data = ffi.cast("void *", request.key)
        self.requests[request.key] = request  # its first event may come before submit returns
        try:
            try:
                attempt(lib.quire_engine_submit, self.engine, to, handle)
            except QuireError as error:
                if error.status != "ERR_TOO_LONG" or not may_shorten:
                    raise
                to.max_tokens = 0
                attempt(lib.quire_engine_submit, self.engine, to, handle)
            request.begin(handle[0])
        except BaseException:
            del self.requests[request.key]
            if handle[0] != 0:  # accepted, when a signal came
                lib.quire_engine_cancel(self._handles.engine, handle[0])
                self._number = request.key
            raise
        self._number = request.key

    def cancel(self, request: Request) -> bool:
        """Whether its end is still to come."""
        return bool(lib.quire_engine_cancel(self.engine, request.handle) == lib.QUIRE_OK)

    def cancel_all(self) -> None:
        """Waits for their ends. Of one that the engine has ended the last event may be lost: a signal handler raised
        between the library and take_events."""
        while self.requests:
            ended = [key for key, request in self.requests.items() if not self.cancel(request)]
            if not self.take_events(WAIT_NS):
                for key in ended:
                    self.requests.pop(key, None)

    # ---- events out ----

    def take_events(self, timeout_ns: int) -> list[Request]:
        """Takes what is there, at most EVENTS; else waits. The requests that got something."""
        count = lib.quire_engine_wait(self.engine, self._events, self.EVENTS, timeout_ns)
        touched: list[Request] = []
        requests = self.requests
        for _, key, _, detail, kind, index, token, _, logprob, finish, status, last in self.EVENT.iter_unpack(
                self._bytes[:count * self.EVENT.size]):
            request = requests.get(key)
            if request is None:  # given up when a signal came
                continue
            if not request.is_touched:
                request.is_touched = True
                touched.append(request)
            output = request.outputs[index]
            if kind == _TOKEN:
                if not output.has_ended:
                    output.token_ids.append(token)
                    if request.has_details:
                        request.take_detail(output, token, logprob, detail)
            elif kind == _FINISHED:
                output.finish(request, finish, status, detail)
                if last:
                    request.is_finished = True
                    del requests[key]
            else:
                request.take_prompt_token(token, logprob, detail)
        for request in touched:
            request.is_touched = False
            if request.stop and request.find_stop() and not request.is_finished:
                self.cancel(request)
        return touched

    # ---- looking in ----

    def _stats(self) -> Any:
        stats = ffi.new("quire_stats *", {"size": ffi.sizeof("quire_stats")})
        lib.quire_engine_stats(self.engine, stats)
        return stats

    def stats(self) -> dict[str, Any]:
        stats = as_dict(self._stats())
        return stats | {"wait_ns": dict(zip(WAIT_REASONS, stats["wait_ns"])),
                        "finished_by": {name: stats["finished_by"][i] for i, name in FINISHES.items() if i > 0}}

    def check(self) -> str | None:
        broken = lib.quire_engine_check(self.engine)
        return None if broken == ffi.NULL else text_of(broken)

    def explain(self, request: Request) -> dict[str, Any]:
        explanation = ffi.new("quire_explanation *", {"size": ffi.sizeof("quire_explanation")})
        status = lib.quire_engine_explain(self.engine, request.handle, explanation)
        if status != lib.QUIRE_OK:
            raise QuireError(STATUSES[status], f"request {request.request_id}: {text_of(lib.quire_status_text(status))}")
        return {"reason": WAIT_REASONS[explanation.reason], "missing_blocks": explanation.missing_blocks,
                "wait_ns": dict(zip(WAIT_REASONS, explanation.wait_ns))}

    def cache_events(self, limit: int | None) -> list[CacheEvent]:
        if self._cache_events is None:
            raise invalid("cache_events", "is off: give cache_events=True when the engine is made")
        result: list[CacheEvent] = []
        with self._handles.in_poll:
            while True:
                most = self.EVENTS if limit is None else min(limit - len(result), self.EVENTS)
                count = lib.quire_engine_poll_cache_events(self.engine, self._cache_events, self._cache_tokens, most)
                result += map(self._cache_event, range(count))
                if count < most or len(result) == limit:
                    return result

    def _cache_event(self, i: int) -> CacheEvent:
        event = self._cache_events[i]
        kind = CACHE_EVENTS[event.kind]
        if kind != "stored":
            return CacheEvent(kind, event.block_hash)
        return CacheEvent(kind, event.block_hash, event.parent_hash or None,
                          ffi.unpack(self._cache_tokens + i * self._block_size, self._block_size))

    def restart_cache_events(self) -> None:
        with self._handles.in_poll:
            lib.quire_engine_restart_cache_events(self.engine)

    def flush_cache(self) -> None:
        lib.quire_engine_flush_cache(self.engine)


class Owner:
    """What LLM and AsyncEngine have in common."""

    _core: Core

    @property
    def model_info(self) -> ModelInfo:
        return self._core.info

    @property
    def tokenizer(self) -> Text | None:
        return self._core.tokenizer

    def stats(self) -> dict[str, Any]:
        """Every counter of quire_stats (include/quire/stats.h) by its name; wait_ns and finished_by by their names."""
        return self._core.stats()

    def need_tokenizer(self, field: str) -> Text:
        """The tokenizer; without one the QuireError that says so of `field`."""
        return self._core.need_tokenizer(field)

    def setting(self, key: str) -> int:
        """An option by its full name that is an integer, a switch (0, 1), or a time in nanoseconds: 0 if it is neither given
        nor has a default."""
        return int(lib.quire_config_integer(self._core.config, key.encode()))

    def check(self) -> str | None:
        """Recounts scheduler and cache: None, or the first rule that does not hold."""
        return self._core.check()

    def cache_events(self, limit: int | None = None) -> list[CacheEvent]:
        """What changed in the prefix cache since the last call, at most `limit`; needs the argument cache_events. Applied
        in order they give what the cache can find. Any thread; a late call misses nothing. docs/EMBEDDING.md has the
        rules."""
        return self._core.cache_events(limit)

    def restart_cache_events(self) -> None:
        """The next cache_events() begins anew: cleared, then all blocks. Any thread."""
        self._core.restart_cache_events()

    def flush_cache(self) -> None:
        """Forgets every cached block that no request uses."""
        self._core.flush_cache()
