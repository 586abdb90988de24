"""An engine in asyncio's loop."""
from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from .request import Prompt, RequestOutput, SamplingParams, Text


class AsyncEngine:
    def __init__(self, model: str | None = None, *, config: str | None = None, tokenizer: Text | None = None,
                 skip_tokenizer_init: bool = False, seed: int | None = None, max_logits_in_flight: int = 0,
                 options: Mapping[str, Any] | None = None, **keys: Any):
        """See LLM. seed: of requests without one; None draws it. Blocks while the weights are read."""
        raise NotImplementedError

    model_info: Any  # .name, .architecture, .vocab_size, .eos_token_ids, .max_model_len, .encoder_layers, ...
    tokenizer: Text | None

    def generate(self, prompt: Prompt, sampling_params: SamplingParams | None = None, request_id: str | None = None, *,
                 priority: int = 0, tenant: str = "", timeout: float | None = None, queue_timeout: float | None = None,
                 skip_reading_prefix_cache: bool = False, skip_writing_prefix_cache: bool = False,
                 ) -> AsyncGenerator[RequestOutput, None]:
        """Submits at the first `anext`, then gives what is new as often as there is something. Raises QuireError when
        the request is refused (ERR_FULL: retry) or fails. Closing the generator, or cancelling the task in it, cancels
        the request. Times in seconds, from submission."""
        raise NotImplementedError

    def abort(self, request_id: str) -> None:
        """Ends a request early: its generator gives finish_reason "cancelled"."""

    def stats(self) -> dict[str, Any]:
        """Every counter of quire_stats (include/quire/stats.h) by its name; wait_ns and finished_by by their names."""
        raise NotImplementedError

    def check(self) -> str | None:
        """Recounts scheduler and cache: None, or the first rule that does not hold."""

    def explain(self, request_id: str) -> dict[str, Any]:
        """Why its first unfinished sequence is not running: reason, missing_blocks, wait_ns by reason."""
        raise NotImplementedError

    async def drain(self, timeout: float | None = None) -> bool:
        """Takes no more requests (EngineClosed) and returns when all have ended; after `timeout` seconds the open ones
        are cancelled. Whether none had to be."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """drain(0), then frees everything. Also `async with`."""
