"""/v1/completions: OpenAI's older interface, which evaluation tools use for the log probabilities of prompts."""
from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request

from ..request import CompletionOutput, Logprob, RequestOutput, SamplingParams
from .errors import bad
from .generation import (EventStream, Json, Run, Service, Usage, begin, best, finish_reason, finite, new_id,
                         prompt_logprobs_body, token_name, truncated)
from .protocol import MAX_PROMPTS, CompletionRequest, convert, limit_answer, parse, sampling_params

DEFAULT_MAX_TOKENS = 16  # OpenAI's
Prompt = tuple[list[int], str]


async def completions(http: Request) -> Any:
    service: Service = http.app.state.service
    request = parse(await http.body(), CompletionRequest)
    service.check_model(request.model)
    _refuse(request, service)
    prompts = await _prompts(service, request)
    params = _params(service, request)
    limit_answer(params, len(prompts), sum(len(ids) for ids, _ in prompts), service.info.max_model_len)
    run = await begin(service, [ids for ids, _ in prompts], params, request, http.state.tenant)
    answer = Answer(service, request, prompts, params.n)
    return EventStream(run, answer.stream(run)) if request.stream else Json(await answer.whole(run))


def _refuse(request: CompletionRequest, service: Service) -> None:
    if request.suffix:
        raise bad("suffix: text before a suffix is not supported", "suffix")
    if request.best_of is not None and request.best_of != (request.n or 1):
        raise bad("best_of: only as many as n are generated", "best_of")
    if request.echo and request.logprobs is not None and service.info.encoder_layers > 0:
        raise bad("echo: the prompt of an encoder-decoder model has no log probabilities", "echo")
    if request.max_tokens == 0 and not request.echo:
        raise bad("max_tokens: 0 tokens need echo", "max_tokens")


async def _prompts(service: Service, request: CompletionRequest) -> list[Prompt]:
    """One prompt or several, each text or ids, with the text that `echo` shows."""
    prompt = request.prompt
    if isinstance(prompt, str) or (isinstance(prompt, list) and prompt and isinstance(prompt[0], int)):
        prompt = [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise bad("prompt: expected a text, a list of token ids, or a list of those", "prompt")
    if len(prompt) > MAX_PROMPTS:
        raise bad(f"prompt: {len(prompt)} prompts, at most {MAX_PROMPTS} are allowed", "prompt")
    size = sum(len(each) for each in prompt if isinstance(each, str))
    return [await _prompt(service, request, each, size) for each in prompt]


async def _prompt(service: Service, request: CompletionRequest, prompt: Any, size: int) -> Prompt:
    is_text = isinstance(prompt, str)
    ids = (await service.encode(prompt, "prompt", request.add_special_tokens is not False, size) if is_text
           else convert(prompt, list[int], "prompt"))
    kept = truncated(ids, request.truncate_prompt_tokens, service.room(_max_tokens(request)))
    if is_text and len(kept) == len(ids):
        return kept, prompt
    return kept, service.text.decode(kept, False) if request.echo and service.text else ""


def _max_tokens(request: CompletionRequest) -> int:
    return DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens or 1


def _params(service: Service, request: CompletionRequest) -> SamplingParams:
    params = sampling_params(request, service.info.generation)
    params.max_tokens = _max_tokens(request)
    params.logprobs = request.logprobs
    params.prompt_logprobs = request.prompt_logprobs
    if request.echo and request.logprobs is not None:
        params.prompt_logprobs = max(request.logprobs, request.prompt_logprobs or 0)
    return params


class Logprobs:
    """OpenAI's four lists, and where in the text each token begins."""

    def __init__(self, service: Service, request: CompletionRequest, prompt: list[int]):
        self._service, self._as_ids = service, bool(request.return_tokens_as_token_ids)
        self._count = request.logprobs or 0
        self._text = service.text.stream(() if request.echo else prompt, skip_special_tokens=False) if service.text else None
        self._length = 0
        self._clear()

    def _clear(self) -> None:
        self._body: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}

    def _name(self, token: int) -> str:
        return token_name(self._service, token, self._as_ids)

    def add(self, token: int, entry: dict[int, Logprob] | None) -> None:
        """None: the first token of a prompt has no log probability."""
        body, logprob = self._body, None if entry is None else finite(entry[token].logprob)
        body["tokens"].append(self._name(token))
        body["token_logprobs"].append(logprob)
        body["top_logprobs"].append(None if entry is None else {
            self._name(i): value for i, value in [(token, logprob), *best(entry, self._count)]})
        body["text_offset"].append(self._place(token))

    def _place(self, token: int) -> int:
        """Where it begins. Before a whole character, half of one may turn out to be none, and is text then."""
        if self._text is None:
            return 0
        before, text = self._length, self._service.need_text("prompt").token_text(token)
        self._length += len(self._text.push(token))
        return before if text.startswith("bytes:") else max(before, self._length - len(text))

    def take(self) -> dict[str, Any]:
        """What came since the last call."""
        body = self._body
        self._clear()
        return body


class Choice:
    """One sequence of one prompt, as it grows."""

    def __init__(self, service: Service, request: CompletionRequest, index: int, prompt: Prompt):
        self._service, self._request, self.index = service, request, index
        self._prompt, self._shown = prompt
        self._logprobs = Logprobs(service, request, self._prompt) if request.logprobs is not None else None
        self._has_begun = False

    def body(self, output: CompletionOutput, prompt_logprobs: list[dict[int, Logprob] | None]) -> dict[str, Any]:
        """What is new. The first time, the prompt stands before it where that was asked for."""
        request, service = self._request, self._service
        text, ids, logprobs = output.text or "", output.token_ids, output.logprobs or []
        if request.max_tokens == 0:
            text, ids, logprobs = "", [], []
        body: dict[str, Any] = {"index": self.index, "text": text, "logprobs": None,
                                "finish_reason": self._reason(output), "stop_reason": output.stop_reason}
        if not self._has_begun:
            self._has_begun = True
            if request.echo:
                body["text"] = self._shown + text
                for token, entry in zip(self._prompt, prompt_logprobs):
                    if self._logprobs is not None:
                        self._logprobs.add(token, entry)
            if request.prompt_logprobs is not None:
                body["prompt_logprobs"] = prompt_logprobs_body(service, prompt_logprobs)
            if request.return_token_ids:
                body["prompt_token_ids"] = self._prompt
        if request.return_token_ids:
            body["token_ids"] = ids
        if self._logprobs is not None:
            for token, entry in zip(ids, logprobs):
                self._logprobs.add(token, entry)
            body["logprobs"] = self._logprobs.take()
        return body

    def _reason(self, output: CompletionOutput) -> str | None:
        reason = finish_reason(output)
        return "length" if reason is not None and self._request.max_tokens == 0 else reason


class Answer:
    """The answer to one HTTP request, whole or as a stream."""

    def __init__(self, service: Service, request: CompletionRequest, prompts: list[Prompt], n: int):
        self._service, self._request, self._n = service, request, n
        self._usage = Usage([ids for ids, _ in prompts])
        self._choices = [Choice(service, request, i, prompts[i // n]) for i in range(len(prompts) * n)]
        self._prompt_logprobs: list[list[dict[int, Logprob] | None]] = [[] for _ in prompts]
        self._head = {"id": new_id("cmpl", request.request_id), "object": "text_completion", "created": int(time.time()),
                      "model": request.model or service.names[0]}

    def _new(self, place: int, output: RequestOutput) -> list[dict[str, Any]]:
        known = self._prompt_logprobs[place]
        known += output.prompt_logprobs or []
        bodies = []
        for each in output.outputs:
            if self._request.max_tokens != 0:
                self._usage.add(each)
            bodies.append(self._choices[place * self._n + each.index].body(each, known))
        return bodies

    async def whole(self, run: Run) -> dict[str, Any]:
        choices: list[dict[str, Any]] = [{} for _ in self._choices]
        async with run:
            async for place, output in run.outputs():
                for new in self._new(place, output):
                    _append(choices[new["index"]], new)
        for choice in choices:
            choice["text"] = "".join(choice["text"])
        return {**self._head, "choices": choices, "usage": self._usage.body()}

    async def stream(self, run: Run) -> AsyncIterator[dict[str, Any]]:
        options = self._request.stream_options
        usage, always = (False, False) if options is None else (options.include_usage, options.continuous_usage_stats)
        async for place, output in run.outputs():
            for new in self._new(place, output):
                body = {**self._head, "choices": [new]}
                if usage:
                    body["usage"] = self._usage.body() if always else None
                yield body
        if usage:
            yield {**self._head, "choices": [], "usage": self._usage.body()}


def _append(choice: dict[str, Any], new: dict[str, Any]) -> None:
    """Puts what is new behind what is there; the text stays in parts."""
    new["text"] = [new["text"]]
    for name, value in new.items():
        if name in ("text", "token_ids") and name in choice:
            choice[name] += value
        elif name == "logprobs" and choice.get(name):
            for part, values in value.items():
                choice[name][part] += values
        else:
            choice[name] = value
