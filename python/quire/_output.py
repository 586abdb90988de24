"""A request in the engine, and what came of it."""
from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ._binding import FINISHES, STATUSES, WAIT_REASONS, invalid, text_of
from ._fill import PromptParts
from ._quire import ffi, lib
from .request import CompletionOutput, Logprob, QuireError, RequestOutput, SamplingParams, SequenceMetrics, Text, TextStream


class Output:
    """What came of one sequence, not yet given to the caller."""

    __slots__ = ("index", "token_ids", "logprobs", "logits", "stream", "pushed", "text", "has_ended", "stop_reason",
                 "finish_reason", "status", "metrics", "last", "is_told")

    def __init__(self, index: int, stream: TextStream | None, has_logprobs: bool, has_logits: bool):
        self.index = index
        self.stream = stream
        self.token_ids: list[int] = []
        self.logprobs: list[dict[int, Logprob]] | None = [] if has_logprobs else None
        self.logits: list[array[float]] | None = [] if has_logits else None
        self.pushed = 0  # of token_ids, those that are in text
        self.text = ""
        self.last = -1  # token that was taken
        self.has_ended = False  # the text, by a stop string, which drops what the engine still gives, or for good
        self.stop_reason: int | str | None = None
        self.finish_reason: Any = None
        self.status = 0
        self.metrics: SequenceMetrics | None = None
        self.is_told = False  # that it is finished

    def push_text(self, request: Request) -> None:
        """Makes text of the tokens that are not text yet, up to a stop string."""
        stream, ids = self.stream, self.token_ids
        if stream is None or self.has_ended:
            return
        while self.pushed < len(ids):
            token = ids[self.pushed]
            self.pushed += 1
            if token not in request.silent_ids:
                self.text += stream.push(token)
            if stream.stopped is not None:
                self.has_ended, self.stop_reason = True, stream.stopped
                if self.finish_reason in ("length", "cancelled"):  # of tokens behind it
                    self.finish_reason = "stop"
                del ids[self.pushed:]
                if self.logprobs is not None:
                    del self.logprobs[self.pushed:]
                return
        if self.finish_reason is not None:
            self.text += stream.finish()
            self.has_ended = True

    def finish(self, request: Request, finish: int, status: int, detail: int) -> None:
        self.metrics = _metrics_of(ffi.cast("quire_finish_detail *", detail))
        self.status = status
        self.finish_reason = "stop" if self.has_ended else FINISHES[finish]
        last = self.token_ids[-1] if self.token_ids else self.last
        if self.stop_reason is None and self.finish_reason == "stop" and last in request.stop_ids:
            self.stop_reason = last

    def take(self, request: Request) -> CompletionOutput:
        """What came since the last call."""
        error = None
        if self.finish_reason == "error":
            error = QuireError(STATUSES[self.status], f"request {request.request_id}: " + (
                f"the mask raised {request.mask_error!r}" if request.mask_error is not None
                else text_of(lib.quire_status_text(self.status))))
            error.__cause__ = request.mask_error
        output = CompletionOutput(self.index, self.text if self.stream is not None else None, self.token_ids,
                                  self.logprobs, self.logits, self.finish_reason, self.stop_reason, error, self.metrics)
        self.last = self.token_ids[-1] if self.token_ids else self.last
        self.token_ids, self.text, self.pushed = [], "", 0
        self.logprobs = None if self.logprobs is None else []
        self.logits = None if self.logits is None else []
        self.is_told = self.finish_reason is not None
        return output


def _metrics_of(detail: Any) -> SequenceMetrics:
    return SequenceMetrics(**{name: getattr(detail, name) for name in _METRICS},
                           wait_ns={reason: ns for reason, ns in zip(WAIT_REASONS, detail.wait_ns) if ns > 0})


_METRICS = [field.name for field in fields(SequenceMetrics) if field.name != "wait_ns"]


def _logprobs_of(token: int, logprob: float, detail: Any) -> dict[int, Logprob]:
    """The best, and the token itself."""
    result = {}
    if detail != ffi.NULL and detail.top_count > 0:
        pairs = zip(ffi.unpack(detail.top_tokens, detail.top_count), ffi.unpack(detail.top_logprobs, detail.top_count))
        result = {top: Logprob(value, rank) for rank, (top, value) in enumerate(pairs, 1)}
    if token not in result:
        result[token] = Logprob(logprob, None)
    return result


class Request:
    """One in the engine."""

    def __init__(self, key: int, request_id: str, params: SamplingParams, prompt: PromptParts, text: Text | None,
                 eos_token_ids: Sequence[int]):
        self.key, self.request_id, self.params, self.prompt, self.text = key, request_id, params, prompt, text
        self.handle = 0  # quire_request_id
        self.outputs: list[Output] = []
        self.failure: BaseException | None = None  # on Python's side
        self.mask_error: BaseException | None = None
        self.is_touched = False
        self.is_finished = False
        self.waiter: Any = None  # the future of a reader that has taken all
        self.unread_since: float | None = None
        self.has_details = params.logprobs is not None or params.logits is not None
        self.stop_ids = frozenset(params.stop_token_ids or ())
        eos = frozenset() if params.ignore_eos else frozenset(eos_token_ids)
        self.silent_ids = frozenset() if params.include_stop_str_in_output else self.stop_ids | eos
        self.stop = [params.stop] if isinstance(params.stop, str) else list(params.stop or ())
        if self.stop and text is None:
            raise invalid("stop", "strings need a tokenizer, and this engine has none")
        self.prompt_logprobs: list[dict[int, Logprob] | None] | None = None

    def begin(self, handle: int) -> None:
        """It was accepted, n is within its range."""
        self.handle = handle
        self.outputs = [Output(i, self._stream(), self.params.logprobs is not None, self.params.logits is not None)
                        for i in range(self.params.n)]
        if self.params.prompt_logprobs is not None:
            self.prompt_logprobs = [None]  # of the first token there is none

    def _stream(self) -> TextStream | None:
        if self.text is None or not (self.params.detokenize or self.stop):
            return None
        return self.text.stream(self.prompt.token_ids, stop=self.stop,
                                include_stop_str_in_output=self.params.include_stop_str_in_output,
                                skip_special_tokens=self.params.skip_special_tokens,
                                min_tokens=self.params.min_tokens)

    def take_detail(self, output: Output, token: int, logprob: float, detail: int) -> None:
        pointer = ffi.cast("quire_token_detail *", detail)
        if output.logprobs is not None:
            output.logprobs.append(_logprobs_of(token, logprob, pointer))
        if output.logits is not None and pointer != ffi.NULL and pointer.logits != ffi.NULL:
            output.logits.append(array("f", bytes(ffi.buffer(pointer.logits, 4 * self.prompt.vocab_size))))

    def take_prompt_token(self, token: int, logprob: float, detail: int) -> None:
        assert self.prompt_logprobs is not None
        self.prompt_logprobs.append(_logprobs_of(token, logprob, ffi.cast("quire_token_detail *", detail)))

    def find_stop(self) -> bool:
        """Whether nothing more is wanted: every sequence has found a stop string or ended, or text cannot be made."""
        try:
            for output in self.outputs:
                output.push_text(self)
        except Exception as error:  # of the tokenizer: the others go on
            self.failure = error
        return self.failure is not None or all(o.has_ended or o.finish_reason is not None for o in self.outputs)

    def take(self, all_of_it: bool) -> RequestOutput | None:
        """What is new, or all if nothing was taken before. None: there is nothing."""
        outputs = []
        for output in self.outputs:
            if output.stream is not None:
                output.push_text(self)
            if output.token_ids or output.text or all_of_it or (output.finish_reason is not None and not output.is_told):
                outputs.append(output.take(self))
        prompt_logprobs = self.prompt_logprobs
        if not outputs and prompt_logprobs in (None, [], [None]):
            return None
        self.prompt_logprobs = None if prompt_logprobs is None else []
        return RequestOutput(self.request_id, self.prompt.text, self.prompt.token_ids, self.prompt.encoder_token_ids,
                             outputs, self.is_finished, prompt_logprobs or None)
