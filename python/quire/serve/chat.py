"""/v1/chat/completions: a conversation becomes a prompt by the model's chat template."""
from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request

from .._quire import lib
from ..request import CompletionOutput, Logprob, SamplingParams
from .errors import bad
from .generation import (EventStream, Json, Run, Service, Usage, begin, best, finish_reason, finite, new_id,
                         off_loop, prompt_logprobs_body, token_name, truncated)
from .protocol import ChatRequest, limit_answer, parse, sampling_params
from .tools import Reader, Tools


async def chat_completions(http: Request) -> Any:
    service: Service = http.app.state.service
    request = parse(await http.body(), ChatRequest)
    service.check_model(request.model)
    _refuse(request)
    tools = Tools(request, service.tool_format)
    text = await conversation_text(service, request.messages, len(await http.body()), _variables(request),
                                   request.add_generation_prompt is not False and not request.continue_final_message,
                                   bool(request.continue_final_message))
    prompt = truncated(await service.encode(text, "messages", bool(request.add_special_tokens), len(text)),
                       request.truncate_prompt_tokens, service.room(_max_tokens(request)))
    params = _params(service, request, len(prompt))
    run = await begin(service, [prompt], params, request, http.state.tenant, tools.schema())
    answer = Answer(service, request, prompt, params.n, tools)
    return EventStream(run, answer.stream(run)) if request.stream else Json(await answer.whole(run))


def _refuse(request: ChatRequest) -> None:
    if request.chat_template is not None:
        raise bad("chat_template: only the model's own is used", "chat_template")
    if request.top_logprobs and not request.logprobs:
        raise bad("top_logprobs: needs logprobs = true", "top_logprobs")
    if not 0 <= (request.top_logprobs or 0) <= lib.QUIRE_MAX_LOGPROBS:
        raise bad(f"top_logprobs: {request.top_logprobs} is not in 0..{lib.QUIRE_MAX_LOGPROBS}", "top_logprobs")
    if request.modalities not in (None, ["text"]):
        raise bad("modalities: only text", "modalities")


def _variables(request: ChatRequest) -> dict[str, Any]:
    """What the template gets besides the messages."""
    variables = dict(request.chat_template_kwargs or {})
    if request.tools and request.tool_choice != "none":
        variables["tools"] = request.tools
    if request.documents:
        variables["documents"] = request.documents
    if request.reasoning_effort:
        variables["reasoning_effort"] = request.reasoning_effort
    return variables


async def conversation_text(service: Service, messages: list[dict[str, Any]], size: int, variables: dict[str, Any],
                            add_generation_prompt: bool, continues: bool = False) -> str:
    """The prompt. `size` says how much work it is."""
    if not messages:
        raise bad("messages: empty", "messages")
    messages = [_message(i, message) for i, message in enumerate(messages)]
    template = service.need_text("messages").apply_chat_template
    for name in ("messages", "add_generation_prompt"):
        if name in variables:
            raise bad(f"chat_template_kwargs: {name} is a field of its own", "chat_template_kwargs")

    def render() -> str:
        return template(messages, add_generation_prompt=add_generation_prompt, **variables)

    text: str = await off_loop(size, render)
    if not continues:
        return text
    last = (messages[-1]["content"] or "").strip()  # the prompt ends with it, whatever the template puts behind a message
    end = text.rfind(last)
    if not last or end < 0:
        raise bad("continue_final_message: the chat template does not show the last message as it is",
                  "continue_final_message")
    return text[:end + len(last)]


def _message(place: int, message: dict[str, Any]) -> dict[str, Any]:
    """As templates expect it: content is text, arguments of tool calls are objects."""
    where = f"messages[{place}]"
    if not isinstance(message.get("role"), str):
        raise bad(f"{where}.role: expected a string", "messages")
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(_part(f"{where}.content[{i}]", part) for i, part in enumerate(content))
    elif content is not None and not isinstance(content, str):
        raise bad(f"{where}.content: expected a text or a list of parts", "messages")
    message = {**message, "content": content}
    if isinstance(message.get("tool_calls"), list):
        message["tool_calls"] = [_tool_call(f"{where}.tool_calls[{i}]", call) for i, call in enumerate(message["tool_calls"])]
    return message


def _part(where: str, part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    if isinstance(text, str):
        return text
    raise bad(f'{where}: only {{"type": "text", "text": ...}} is supported', "messages")


def _tool_call(where: str, call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise bad(f"{where}.function: expected an object", "messages")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise bad(f"{where}.function.arguments: not JSON", "messages") from None
    return {**call, "function": {**function, "arguments": arguments}}


def _max_tokens(request: ChatRequest) -> int | None:
    return request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens


def _params(service: Service, request: ChatRequest, prompt_tokens: int) -> SamplingParams:
    params = sampling_params(request, service.info.generation)
    params.max_tokens = _max_tokens(request)
    params.logprobs = (request.top_logprobs or 0) if request.logprobs else None
    params.prompt_logprobs = request.prompt_logprobs
    limit_answer(params, 1, prompt_tokens, max(1, service.info.max_model_len - prompt_tokens))
    return params


class Answer:
    """The answer to one HTTP request, whole or as a stream."""

    def __init__(self, service: Service, request: ChatRequest, prompt: list[int], n: int, tools: Tools):
        self._service, self._request, self._prompt, self._n = service, request, prompt, n
        self._readers = [tools.reader() for _ in range(n)]
        self._usage = Usage([prompt])
        self._prompt_logprobs: list[dict[int, Logprob] | None] = []
        self._id, self._created = new_id("chatcmpl", request.request_id), int(time.time())

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created,
                "model": self._request.model or self._service.names[0], "choices": choices}

    def _prompt_part(self) -> dict[str, Any]:
        """What vLLM's fields ask for about the prompt; beside the choices."""
        part: dict[str, Any] = {}
        if self._request.prompt_logprobs is not None:
            part["prompt_logprobs"] = prompt_logprobs_body(self._service, self._prompt_logprobs)
        if self._request.return_token_ids:
            part["prompt_token_ids"] = self._prompt
        return part

    async def whole(self, run: Run) -> dict[str, Any]:
        sequences = [Sequence(self._service, self._request, reader) for reader in self._readers]
        async with run:
            async for _, output in run.outputs():
                self._prompt_logprobs += output.prompt_logprobs or []
                for each in output.outputs:
                    self._usage.add(each)
                    sequences[each.index].add(each)
        choices = [{"index": i, "message": {"role": "assistant", **sequence.message()}, **sequence.rest()}
                   for i, sequence in enumerate(sequences)]
        return {**self._body("chat.completion", choices), "usage": self._usage.body(), **self._prompt_part()}

    async def stream(self, run: Run) -> AsyncIterator[dict[str, Any]]:
        options = self._request.stream_options
        usage, always = (False, False) if options is None else (options.include_usage, options.continuous_usage_stats)
        has_begun = False
        async for _, output in run.outputs():
            self._prompt_logprobs += output.prompt_logprobs or []
            bodies = []
            if output.outputs and not has_begun:
                has_begun = True
                roles = [{"index": i, "delta": {"role": "assistant", "content": ""}, "logprobs": None,
                          "finish_reason": None} for i in range(self._n)]
                bodies = [{**self._body("chat.completion.chunk", roles), **self._prompt_part()}]
            for each in output.outputs:
                self._usage.add(each)
                sequence = Sequence(self._service, self._request, self._readers[each.index])
                sequence.add(each)
                bodies.append(self._body("chat.completion.chunk", [
                    {"index": each.index, "delta": sequence.delta(), **sequence.rest()}]))
            for body in bodies:
                yield {**body, "usage": self._usage.body() if always else None} if usage else body
        if usage:
            yield {**self._body("chat.completion.chunk", []), "usage": self._usage.body()}


class Sequence:
    """What came of one sequence: all, or what is new."""

    def __init__(self, service: Service, request: ChatRequest, reader: Reader | None):
        self._service, self._request, self._reader = service, request, reader
        self._told = 0 if reader is None else len(reader.calls)  # calls before what is new
        self._text: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[dict[str, Any]] = []
        self._finish_reason: str | None = None
        self._stop_reason: int | str | None = None

    def add(self, output: CompletionOutput) -> None:
        self._text.append(self._without_calls(output))
        self._token_ids += output.token_ids
        self._logprobs += [self._entry(token, entry) for token, entry in zip(output.token_ids, output.logprobs or [])]
        self._finish_reason, self._stop_reason = finish_reason(output), output.stop_reason
        if self._finish_reason == "stop" and self._reader is not None and self._reader.calls:
            self._finish_reason = "tool_calls"

    def _without_calls(self, output: CompletionOutput) -> str:
        text = output.text or ""
        if self._reader is None:
            return text
        return self._reader.push(text) + (self._reader.finish() if output.finish_reason is not None else "")

    def message(self) -> dict[str, Any]:
        """Text, and calls."""
        text, calls = "".join(self._text), self._calls()
        return {"content": text or None, "tool_calls": calls} if calls else {"content": text}

    def delta(self) -> dict[str, Any]:
        """As message(), of a stream."""
        calls = [{"index": self._told + i, **call} for i, call in enumerate(self._calls())]
        return {"content": "".join(self._text), **({"tool_calls": calls} if calls else {})}

    def _calls(self) -> list[dict[str, Any]]:
        return [] if self._reader is None else self._reader.calls[self._told:]

    def _entry(self, token: int, entry: dict[int, Logprob]) -> dict[str, Any]:
        tops = [self._one(*pair) for pair in best(entry, self._request.top_logprobs or 0)]
        return {**self._one(token, finite(entry[token].logprob)), "top_logprobs": tops}

    def _one(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._service.text
        return {"token": token_name(self._service, token, bool(self._request.return_tokens_as_token_ids)),
                "logprob": logprob, "bytes": list(text.token_bytes(token)) if text is not None else None}

    def rest(self) -> dict[str, Any]:
        """Everything but the text."""
        rest: dict[str, Any] = {"logprobs": {"content": self._logprobs} if self._request.logprobs else None,
                                "finish_reason": self._finish_reason, "stop_reason": self._stop_reason}
        return {**rest, "token_ids": self._token_ids} if self._request.return_token_ids else rest
