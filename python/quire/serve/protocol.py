"""What requests look like: OpenAI's fields, and those that vLLM adds, by the same names.

Types are checked here; ranges by the engine, by the same table as for every other way in. A field that is not listed
is refused by name, as OpenAI does; null means the default."""
from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from ..request import SamplingParams
from .errors import ApiError, bad

MAX_STOP_STRINGS, MAX_STOP_LENGTH = 64, 1024
MAX_PROMPTS = MAX_SEQUENCES = 1024
MAX_ANSWER_ENTRIES = 1 << 20  # tokens, and alternatives to them, that one request may have in its answer


class StreamOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None  # of no effect


class StructuredOutputs(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    json: str | dict[str, Any] | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None  # llguidance's dialect of Lark
    json_object: bool | None = None
    disable_any_whitespace: bool | None = None


class Common(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Fields of completions and chat completions."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    n: int | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    response_format: dict[str, Any] | None = None

    # vLLM's
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    allowed_token_ids: list[int] | None = None
    prompt_logprobs: int | None = None
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    use_beam_search: bool | None = None
    length_penalty: float | None = None
    priority: int | None = None
    cache_salt: str | None = None
    request_id: str | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    # of no effect: who asks and what for, hints to other servers, and how others split text
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    spaces_between_special_tokens: bool | None = None
    guided_decoding_backend: str | None = None


class CompletionRequest(Common, kw_only=True, forbid_unknown_fields=True):
    prompt: Any
    echo: bool | None = None
    logprobs: int | None = None
    best_of: int | None = None
    suffix: str | None = None


class ChatRequest(Common, kw_only=True, forbid_unknown_fields=True):
    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    modalities: list[str] | None = None

    # vLLM's
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    documents: list[dict[str, Any]] | None = None


class TokenizeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    tokens: list[int]
    model: str | None = None


Type = TypeVar("Type")


def parse(body: bytes, type_: type[Type]) -> Type:
    """A body as one of the types above; the error names the field."""
    try:
        return msgspec.json.decode(body, type=type_)
    except RecursionError:
        raise bad("The body's JSON is nested too deeply.") from None
    except msgspec.ValidationError as error:
        raise _field_error(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad(f"The body is not JSON: {error}") from None


def convert(value: Any, type_: Any, field: str) -> Any:
    """A part of a body that may have one of several types."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise _field_error(str(error), field) from None


def _field_error(message: str, field: str | None = None) -> ApiError:
    """`Expected `int`, got `str` - at `$.max_tokens`` names the field in OpenAI's way too."""
    named = re.search(r"(?:unknown|missing required) field `([^`]*)`", message) or re.search(r"at `\$\.?([^`]*)`", message)
    param = field or (named[1] if named else None)
    if "unknown field" in message and named:
        message = f"Unrecognized request argument supplied: {param}"
    return bad(f"{param}: {message}" if param and param not in message else message, param)


def sampling_params(request: Common, generation: dict[str, Any], **more: Any) -> SamplingParams:
    """The engine's parameters. Where neither request nor model says a temperature it is OpenAI's, 1."""
    if request.stream_options is not None and not request.stream:
        raise bad("stream_options: only with stream = true", "stream_options")
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if len(stop) > MAX_STOP_STRINGS:
        raise bad(f"stop: {len(stop)} strings, at most {MAX_STOP_STRINGS} are allowed", "stop")
    for i, string in enumerate(stop):
        if not 0 < len(string) <= MAX_STOP_LENGTH:
            raise bad(f"stop[{i}]: has {len(string)} characters, 1 to {MAX_STOP_LENGTH} are allowed", "stop")
    params = SamplingParams(stop=stop, logit_bias=_bias(request.logit_bias), **more)
    for name in ("n", "min_tokens", "ignore_eos", "stop_token_ids", "include_stop_str_in_output", "temperature", "top_k",
                 "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "allowed_token_ids",
                 "skip_special_tokens"):
        if (value := getattr(request, name)) is not None:
            setattr(params, name, value)
    if not 1 <= params.n <= MAX_SEQUENCES:
        raise bad(f"n: {params.n} is not in 1..{MAX_SEQUENCES}", "n")
    if request.seed is not None:
        if not -(1 << 63) <= request.seed < 1 << 64:
            raise bad(f"seed: {request.seed} is not an integer of 64 bits", "seed")
        params.seed = request.seed & (1 << 64) - 1
    if request.use_beam_search:
        params.beam_width = params.n
        params.length_penalty = 1.0 if request.length_penalty is None else request.length_penalty
        if request.temperature:
            raise bad("use_beam_search: excludes sampling, so temperature must be 0", "use_beam_search")
        params.temperature = 0
    elif params.temperature is None:
        params.temperature = generation.get("temperature", 1.0)
    return params


def _bias(bias: dict[str, float] | None) -> dict[int, float] | None:
    if bias is None:
        return None
    for token in bias:
        if not re.fullmatch(r"[0-9]{1,9}", token):
            raise bad(f"logit_bias: {token[:40]!r} is no token id", "logit_bias")
    return {int(token): value for token, value in bias.items()}


def limit_answer(params: SamplingParams, prompts: int, prompt_tokens: int, room: int) -> None:
    """What waits in memory for its reader is bounded. max_tokens that is left open becomes what fits, within that."""
    if params.max_tokens is not None and params.max_tokens < 1:
        raise bad(f"max_tokens: {params.max_tokens} is below the minimum 1", "max_tokens")
    each = prompts * params.n * (1 + max(0, params.logprobs or 0))
    most = MAX_ANSWER_ENTRIES // each
    if params.max_tokens is None:
        params.max_tokens = -1 if room <= most else max(1, most)
    entries = each * (room if params.max_tokens == -1 else min(params.max_tokens, room))
    if params.prompt_logprobs is not None:
        entries += prompt_tokens * (1 + params.prompt_logprobs)
    if entries > MAX_ANSWER_ENTRIES:
        raise bad(f"The answer could have {entries} tokens and alternatives to them, and at most {MAX_ANSWER_ENTRIES} are "
                  "allowed: ask for fewer prompts, sequences, tokens or log probabilities.", "max_tokens")
