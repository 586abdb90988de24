"""What goes into an engine and what comes out, with the names that vLLM's users know.

A member that is None is left to the model (its generation_config.json), and what that leaves open has the default of
`quire generate`: greedy decoding, no penalty, 128 tokens. Ranges are checked by the library, by one table for every
way in; what it refuses is a QuireError that begins with the member's name."""
from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypedDict, Union


class QuireError(Exception):
    """A call that failed. `status` is the library's name of the reason: "ERR_INVALID" (a value out of its range),
    "ERR_FULL" (a limit of the queue, retry later), "ERR_TOO_LONG" (a prompt that the model or the cache cannot take),
    "ERR_EXECUTION", "ERR_UNSUPPORTED", "ERR_IO", "ERR_FORMAT", "ERR_NO_MEMORY", "ERR_THREADS", "ERR_FORKED",
    "ERR_NOT_FOUND", "ERR_INTERNAL". `field` is the member of the request or SamplingParams that is at fault, if one is."""

    def __init__(self, status: str, message: str, field: str | None = None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field

    def __reduce__(self) -> tuple[Any, ...]:
        return QuireError, (self.status, self.message, self.field)


class EngineClosed(RuntimeError):
    """The engine takes no requests any more: it drains, or is closed."""


class MaskRow(NamedTuple):
    """A token about to be chosen. `tokens` is only valid during the call."""

    sequence: int  # 0..n-1
    tokens: memoryview  # format "i": prompt, output, then drafts
    prompt_count: int  # of tokens
    drafts: int  # of tokens, the last so many are guesses that the engine may take back
    vocab_size: int


class TokenMask(Protocol):
    """Structured output: says which tokens may follow. One object for each request."""

    def fill(self, row: MaskRow, allowed: memoryview) -> None:
        """Clears the bits of tokens that may not follow: token t is bit t % 32 of allowed[t // 32] (format "I", all
        set at the call, valid during it). Called on the engine's threads with the GIL, one call at a time for a
        sequence, in ascending position; the engine waits for it. With drafts a position may come again with other
        tokens: go back to len(tokens) - drafts. An exception ends the request, and is the cause of its QuireError.
        No token left: the request ends with ERR_EXECUTION. It must not call the engine."""


@dataclass(slots=True, kw_only=True)
class SamplingParams:
    """How the tokens of a request are chosen and where it ends."""

    n: int = 1  # sequences from one prompt
    max_tokens: int | None = None  # at most; -1: what fits; None: the model's, else 128, as far as they fit
    min_tokens: int = 0  # neither an end-of-sequence token nor a stop id before so many
    ignore_eos: bool = False
    stop_token_ids: Sequence[int] | None = None  # end the sequence and stay in it
    stop: str | Sequence[str] | None = None  # strings that end the sequence; they need a tokenizer
    include_stop_str_in_output: bool = False

    temperature: float | None = None  # 0 is greedy
    top_k: int | None = None  # 0 or -1: off
    top_p: float | None = None  # 1: off
    min_p: float | None = None  # 0: off
    repetition_penalty: float | None = None  # 1: off; over prompt and output
    presence_penalty: float = 0.0  # over the output
    frequency_penalty: float = 0.0  # over the output
    seed: int | None = None  # None: the engine's seed and the request's number
    logit_bias: Mapping[int, float] | None = None
    allowed_token_ids: Sequence[int] | None = None
    banned_token_ids: Sequence[int] | None = None  # None: the model's; so are the next three
    first_banned_token_ids: Sequence[int] | None = None
    first_allowed_token_ids: Sequence[int] | None = None
    last_allowed_token_ids: Sequence[int] | None = None
    mask: TokenMask | None = None

    beam_width: int = 1  # more is beam search; n of its hypotheses come back, together at the end
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False

    logprobs: int | None = None  # of each token, and of the so many best at its place
    prompt_logprobs: int | None = None  # the same of each token of the prompt but the first
    logits: Literal["first", "last", "first,last", "all"] | None = None  # needs max_logits_in_flight of the engine

    detokenize: bool = True  # text beside the tokens, where there is a tokenizer
    skip_special_tokens: bool = True


class PromptDict(TypedDict, total=False):
    """A prompt in parts. `prompt` or `prompt_token_ids`; for an encoder-decoder model that is how the decoder starts
    and may be left out, and `encoder_input` (text or ids) or `encoder_features` (float32 frames of 10 ms, anything with
    the buffer protocol, [frames][num_mel_bins]) is required."""

    prompt: str
    prompt_token_ids: Sequence[int]
    encoder_input: Union[str, Sequence[int]]
    encoder_features: Any
    cache_salt: str  # prompts with different salts share no cached blocks


Prompt = Union[str, Sequence[int], PromptDict]  # for an encoder-decoder model text and ids are the encoder's input


class Logprob(NamedTuple):
    """Of the model, before temperature, penalties and masks."""

    logprob: float
    rank: int | None  # from 1; None: not among those that were asked for


FinishReason = Literal["stop", "length", "cancelled", "error", "timeout"]


@dataclass(slots=True)
class SequenceMetrics:
    """Of one sequence at its end. Times in ns on CLOCK_MONOTONIC (time.monotonic_ns()); 0: never."""

    prompt_tokens: int = 0
    encoder_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, found in the prefix cache
    recomputed_tokens: int = 0  # because of preemption
    drafts: int = 0
    drafts_accepted: int = 0
    preemptions: int = 0
    encoder_shared: bool = False
    score: float = 0.0  # beam search: of the hypothesis
    submit_ns: int = 0
    first_planned_ns: int = 0
    prompt_done_ns: int = 0
    first_token_ns: int = 0
    finish_ns: int = 0
    wait_ns: dict[str, int] = field(default_factory=dict)  # by reason, those that are not 0


@dataclass(slots=True)
class CompletionOutput:
    """One sequence: of LLM.generate() all of it, of AsyncEngine.generate() what is new."""

    index: int  # 0..n-1
    text: str | None  # None: no tokenizer, or not asked for
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None = None  # one for each of token_ids, if asked for
    logits: list[array[float]] | None = None  # raw, of the tokens asked for
    finish_reason: FinishReason | None = None  # None: it goes on
    stop_reason: int | str | None = None  # "stop": the id in stop_token_ids or the stop string; None: end of sequence
    error: QuireError | None = None  # finish_reason "error"
    metrics: SequenceMetrics | None = None  # at the end


@dataclass(slots=True)
class RequestOutput:
    """Of one request. From AsyncEngine.generate(): what is new since the last one, of the sequences that went on."""

    request_id: str
    prompt: str | None  # as text, if it was given so
    prompt_token_ids: list[int]
    encoder_token_ids: list[int]  # empty: decoder-only, or features
    outputs: list[CompletionOutput]
    finished: bool  # nothing follows
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None  # as far as known: in the first outputs of a stream


@dataclass(slots=True, frozen=True)
class CacheEvent:
    """A change of what the prefix cache can find, for a router that sends requests where their prefix is."""

    kind: Literal["stored", "removed", "cleared"]  # cleared: forget all, those that are there come anew
    block_hash: int = 0  # 64 bits; stored, removed: names the block of this engine
    parent_hash: int | None = None  # stored: of the block before it in its sequence; None: it is the first
    token_ids: list[int] = field(default_factory=list)  # stored: block_size of them


class TextStream(Protocol):
    """The tokens of one sequence become text, piece by piece, no character ever split."""

    @property
    def stopped(self) -> str | None:
        """The stop string that was found: what follows is dropped."""

    def push(self, token_id: int) -> str:
        """The text that is certain with this token and was not before. Held back: half a character, and what may
        become a stop string."""

    def finish(self) -> str:
        """What is still held back, at the end of the sequence."""


class Text(Protocol):
    """What quire.text.load_text(model) gives, and what `tokenizer=` of LLM and AsyncEngine takes."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]: ...

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...

    def stream(self, prompt_token_ids: Sequence[int], *, stop: Sequence[str] = (),
               include_stop_str_in_output: bool = False, skip_special_tokens: bool = True,
               min_tokens: int = 0) -> TextStream:
        """`prompt_token_ids`: what stands before, for tokenizers whose text depends on it. Stop strings do not count in
        the text of the first `min_tokens`."""

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], /, *, add_generation_prompt: bool = True,
                            **variables: Any) -> str:
        """The text of a conversation; encode it with add_special_tokens=False."""
