"""Offline: prompts in, all answers out."""
from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ._core import WAIT_NS, Core, Owner, pause_after
from ._output import Request
from .request import Prompt, QuireError, RequestOutput, SamplingParams, Text

REQUEST_OPTIONS = ("priority", "tenant", "timeout", "queue_timeout", "skip_reading_prefix_cache", "skip_writing_prefix_cache")


class LLM(Owner):
    """A model and an engine that decodes lists of prompts.

    `model` is a folder as Hugging Face publishes it, a GGUF file, or the name of a preset (random weights). `config` is
    a quire.toml; the variables QUIRE__SECTION__KEY go before it, and before both go the keys given here: by their last
    word where no other key has it (max_num_seqs=8), with underscores (kv_cache_dtype="int8"), or in full in `options`
    ({"scheduler.max_num_seqs": 8}). `dtype` is model.weight_dtype. docs/CONFIGURATION.md has all of them.

    `tokenizer`: instead of the model's. skip_tokenizer_init: token ids only. `seed`: of requests without one, which get
    seed + their number, from 1. max_logits_in_flight: tokens whose raw logits may wait, for SamplingParams.logits.
    cache_events: cache_events() tells which blocks the prefix cache has.

    Raises QuireError. Log lines go to the logger "quire", whose level counts when this is called."""

    def __init__(self, model: str | os.PathLike[str] | None = None, *, config: str | os.PathLike[str] | None = None,
                 tokenizer: Text | None = None, skip_tokenizer_init: bool = False, seed: int = 0,
                 max_logits_in_flight: int = 0, cache_events: bool = False, options: Mapping[str, Any] | None = None,
                 **keys: Any):
        self._core = Core(model, config, tokenizer, skip_tokenizer_init, seed, max_logits_in_flight, cache_events,
                          options or {}, keys)

    def generate(self, prompts: Prompt | Sequence[Prompt],
                 sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
                 **request_options: Any) -> list[RequestOutput]:
        """Answers in the order of the prompts. `prompts` may be one; `sampling_params` one for all, or one for each.
        `request_options`: priority, tenant, timeout, queue_timeout (seconds), skip_reading_prefix_cache,
        skip_writing_prefix_cache. A prompt that is refused raises QuireError, which names its place, and nothing runs on;
        a sequence that fails has finish_reason "error". One call at a time; others wait."""
        prompts = _prompt_list(prompts)
        for name in request_options:
            if name not in REQUEST_OPTIONS:
                raise TypeError(f"{name}: no such request option; there are {', '.join(REQUEST_OPTIONS)}")
        if not isinstance(sampling_params, (list, tuple)):
            sampling_params = [sampling_params] * len(prompts)  # type: ignore[list-item]
        if len(sampling_params) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts, but {len(sampling_params)} sampling_params")
        _ = self._core.engine  # closed, or a forked child, whose copy of the lock may stay locked
        with self._core.in_use:
            requests: list[Request] = []
            self._core.cancel_all()  # of a call whose own was interrupted
            try:
                for i, (prompt, params) in enumerate(zip(prompts, sampling_params)):
                    requests.append(self._submit(i, prompt, params, request_options))
                while self._core.requests:
                    time.sleep(pause_after(self._core.take_events(WAIT_NS)))
            except BaseException:
                self._core.cancel_all()
                raise
        for request in requests:
            if request.failure is not None:
                raise request.failure
        return [request.take(True) for request in requests]  # type: ignore[misc]

    def chat(self, messages: Sequence[Any], sampling_params: SamplingParams | Sequence[SamplingParams] | None = None, *,
             add_generation_prompt: bool = True, chat_template_kwargs: Mapping[str, Any] | None = None,
             **request_options: Any) -> list[RequestOutput]:
        """Answers one conversation, [{"role": "user", "content": "..."}, ...], or a list of them, by the model's chat
        template. Otherwise as generate()."""
        text = self.need_tokenizer("messages")
        conversations = [messages] if messages and isinstance(messages[0], Mapping) else messages
        prompts = [text.encode(text.apply_chat_template(
            conversation, add_generation_prompt=add_generation_prompt, **chat_template_kwargs or {}),
            add_special_tokens=False) for conversation in conversations]
        return self.generate(prompts, sampling_params, **request_options)

    def _submit(self, place: int, prompt: Prompt, params: SamplingParams | None, options: Mapping[str, Any]) -> Request:
        """Waits for room in a full queue."""
        while True:
            try:
                return self._core.submit(prompt, params, **options)
            except QuireError as error:
                if error.status != "ERR_FULL" or not self._core.requests:
                    error.message = f"prompts[{place}]: {error.message}"
                    error.args = (error.message,)
                    raise
                self._core.take_events(WAIT_NS)

    def close(self) -> None:
        """Frees everything; also `with`. What is left open is freed when it is collected, or at exit."""
        self._core.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _prompt_list(prompts: Any) -> list[Any]:
    """One prompt is a text, a dict, or a list of ids."""
    if isinstance(prompts, (str, Mapping)):
        return [prompts]
    several = list(prompts)
    return [several] if several and all(hasattr(prompt, "__index__") for prompt in several) else several
