"""From a prompt to the engine's outputs: what completions and chat completions share."""
from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response

from .._binding import no_tokenizer
from ..async_engine import AsyncEngine, Stream
from ..request import CompletionOutput, Logprob, RequestOutput, SamplingParams
from ..text import Text
from .errors import ApiError, api_error, bad
from .metrics import Metrics
from .protocol import Common
from .structured import Grammars
from .tools import format_of

SMALL_TEXT = 1 << 12  # characters that are tokenized at once, on the loop's own thread

Result = TypeVar("Result")


class Service:
    """What the endpoints work with."""

    def __init__(self, engine: AsyncEngine, text: Text | None, names: list[str], metrics: Metrics,
                 tool_format: str | None = None):
        """tool_format: one of tools.FORMATS; None: that of the chat template."""
        self.engine, self.text, self.names, self.metrics = engine, text, names, metrics
        self.info = engine.model_info
        self.created = int(time.time())
        self.grammars = Grammars(text, self.info)
        self.tool_format = tool_format or format_of(text.chat_template(True) if text is not None else None)

    def check_model(self, name: str | None) -> None:
        if name is not None and name not in self.names:
            raise ApiError(404, f"The model {name[:200]!r} does not exist; there is {self.names[0]!r}.", param="model",
                           code="model_not_found")

    def need_text(self, field: str) -> Text:
        if self.text is None:
            raise no_tokenizer(field)
        return self.text

    def room(self, max_tokens: int | None) -> int:
        """Tokens that a prompt may have."""
        if self.info.encoder_layers == 0:
            return self.info.max_model_len - max(1, max_tokens or 1)
        limits = self.info.max_encoder_positions, self.engine.setting("scheduler.max_num_encoder_input_tokens")
        return min((limit for limit in limits if limit > 0), default=self.info.max_model_len)

    async def encode(self, text: str, field: str, add_special_tokens: bool, size: int) -> list[int]:
        """`size`: characters of all texts of the request."""
        encode = self.need_text(field).encode
        try:
            return await off_loop(size, encode, text, add_special_tokens)
        except UnicodeEncodeError:
            raise bad(f"{field}: has half of a surrogate pair, which is no character", field) from None


async def off_loop(size: int, function: Callable[..., Result], *arguments: Any) -> Result:
    """Work on a large input does not hold up other clients."""
    return function(*arguments) if size <= SMALL_TEXT else await asyncio.to_thread(function, *arguments)


def new_id(kind: str, given: str | None) -> str:
    return f"{kind}-{given or uuid.uuid4().hex}"


def short_salt(salt: str) -> str:
    """A cache salt of any length, as short as the engine wants them."""
    digest = hashlib.blake2b(salt.encode("utf-8", "surrogatepass"), digest_size=12).digest()
    return base64.b64encode(digest).decode()


def truncated(ids: list[int], limit: int | None, room: int) -> list[int]:
    """The last `limit` tokens; -1: as many as fit before the answer, in `room`."""
    if limit is None:
        return ids
    if limit < 1 and limit != -1:
        raise bad(f"truncate_prompt_tokens: {limit} is neither -1 nor at least 1", "truncate_prompt_tokens")
    return ids[-(max(1, room) if limit == -1 else limit):]


class Run:
    """The engine's requests that belong to one HTTP request. `async with` ends them all, whatever happens."""

    def __init__(self, service: Service):
        self._service = service
        self._outputs: asyncio.Queue[tuple[int, RequestOutput] | Exception] = asyncio.Queue(1)
        self._streams: list[Stream] = []
        self._tasks: list[asyncio.Task[None]] = []

    def submit(self, prompt_ids: list[int], params: SamplingParams, request: Common, tenant: str) -> None:
        """Raises what the engine has against the request."""
        is_encoder = self._service.info.encoder_layers > 0
        prompt: Any = {"encoder_input" if is_encoder else "prompt_token_ids": prompt_ids}
        if request.cache_salt:
            prompt["cache_salt"] = short_salt(request.cache_salt)
        stream = self._service.engine.generate(prompt, params, priority=request.priority or 0, tenant=tenant)
        self._tasks.append(asyncio.ensure_future(self._pump(len(self._streams), stream)))
        self._streams.append(stream)

    async def _pump(self, place: int, stream: Stream) -> None:
        """While nobody takes what is there, the stream gathers what comes; its engine ends it if that lasts."""
        last = None
        try:
            async for output in stream:
                last = self._service.metrics.observe(output, last)
                await self._outputs.put((place, output))
        except Exception as error:
            await self._outputs.put(error)

    async def outputs(self) -> AsyncIterator[tuple[int, RequestOutput]]:
        """(place of the prompt, what is new of it)"""
        left = len(self._tasks)
        while left > 0:
            item = await self._outputs.get()
            if isinstance(item, Exception):
                raise item
            left -= item[1].finished
            yield item

    async def close(self) -> None:
        for task, stream in zip(self._tasks, self._streams):
            task.cancel()
            await stream.aclose()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Run:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def begin(service: Service, prompts: list[list[int]], params: SamplingParams, request: Common,
                tenant: str, call_schema: dict[str, Any] | None = None) -> Run:
    """All prompts are in the engine, or none. call_schema: of a tool call that the answer has to be."""
    grammar = await service.grammars.grammar(request, call_schema)
    run = Run(service)
    try:
        for ids in prompts:
            mask = grammar.mask() if grammar is not None else None
            run.submit(ids, dataclasses.replace(params, mask=mask), request, tenant)
    except BaseException:
        await run.close()
        raise
    return run


def finish_reason(output: CompletionOutput) -> str | None:
    """As OpenAI has it. What ended otherwise has no answer."""
    if output.finish_reason in (None, "stop", "length"):
        return output.finish_reason
    if output.error is not None:
        raise output.error
    raise ApiError(503, "The request was ended by the server.", code=output.finish_reason)


class Usage:
    """Tokens that were read and written."""

    def __init__(self, prompts: list[list[int]]):
        self.prompt = sum(map(len, prompts))
        self.completion = 0
        self.cached = 0

    def add(self, output: CompletionOutput) -> None:
        self.completion += len(output.token_ids)
        if output.metrics is not None and output.index == 0:
            self.cached += output.metrics.cached_tokens

    def body(self) -> dict[str, Any]:
        return {"prompt_tokens": self.prompt, "completion_tokens": self.completion,
                "total_tokens": self.prompt + self.completion, "prompt_tokens_details": {"cached_tokens": self.cached}}


# ---- log probabilities ----

LEAST_LOGPROB = -9999.0  # JSON has no infinity


def finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)


def best(entry: dict[int, Logprob], count: int) -> list[tuple[int, float]]:
    """The `count` best tokens and their log probabilities."""
    return [(token, finite(value.logprob)) for token, value in entry.items()
            if value.rank is not None and value.rank <= count]


def token_name(service: Service, token: int, as_id: bool) -> str:
    """Its text; its id where that is asked for, or the tokenizer does not know it."""
    if as_id or service.text is None or token >= service.text.vocab_size:
        return f"token_id:{token}"
    return service.text.token_text(token)


def prompt_logprobs_body(service: Service, entries: list[dict[int, Logprob] | None]) -> list[Any]:
    """As vLLM writes them."""
    return [None if entry is None else
            {str(token): {"logprob": finite(value.logprob), "rank": value.rank,
                          "decoded_token": token_name(service, token, False)} for token, value in entry.items()}
            for entry in entries]


# ---- answers ----

class Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


class EventStream(Response):
    """Server-sent events, one for each of `bodies`, then [DONE]. An error on the way is the last event but that."""

    media_type = "text/event-stream"

    def __init__(self, run: Run, bodies: AsyncIterator[dict[str, Any]]):
        super().__init__()
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-cache"
        self._run, self._bodies = run, bodies

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self._run:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                async for body in self._bodies:
                    await self._event(send, msgspec.json.encode(body))
            except Exception as error:
                answer = api_error(error)
                if answer.code == "internal_error":
                    raise
                await self._event(send, answer.content())
            await self._event(send, b"[DONE]")
            await send({"type": "http.response.body", "body": b""})

    @staticmethod
    async def _event(send: Any, data: bytes) -> None:
        await send({"type": "http.response.body", "body": b"data: " + data + b"\n\n", "more_body": True})
