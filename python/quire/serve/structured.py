"""Answers that follow a JSON schema, a regular expression, a choice or a grammar: llguidance says which tokens may
follow, the engine's mask hook asks it."""
from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..request import MaskRow
from ..text import Text
from .errors import ApiError, bad
from .protocol import Common

SOME_SPACE = r"[ \n\r\t]{0,16}"  # between the parts of JSON: enough to indent, no end to an answer
MAX_GRAMMAR = 1 << 16  # characters: some seconds of work
STACK = 128 << 20  # bytes of address space: llguidance recurses along chains of rules, and the longest chain takes 32 MiB
Wish = tuple[str, str, Any]  # field of the request, kind, value


class Grammars:
    """Makes grammars for one model."""

    def __init__(self, text: Text | None, info: Any):
        self._text, self._info = text, info
        self._tokenizer: Any = None
        self._thread: ThreadPoolExecutor | None = None

    async def grammar(self, request: Common, call_schema: dict[str, Any] | None = None) -> Grammar | None:
        """What the request asks its answer to follow, if anything. A large schema takes a while, on a thread of its own,
        so that other requests wait for it only if they have a grammar."""
        wishes = _wishes(request)
        if call_schema is not None:
            wishes.append(("tool_choice", "json", call_schema))
        if not wishes:
            return None
        if len(wishes) > 1:
            raise bad(f"{wishes[0][0]} and {wishes[1][0]} exclude each other", wishes[1][0])
        if self._text is None:
            raise bad(f"{wishes[0][0]}: needs a tokenizer, and this model has none", wishes[0][0])
        if not self._info.eos_token_ids:
            raise bad(f"{wishes[0][0]}: needs an end-of-sequence token, and this model has none", wishes[0][0])
        if request.use_beam_search:
            raise bad("use_beam_search: excludes structured output", "use_beam_search")
        if self._thread is None:
            self._thread = _thread_with_large_stack()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._make, self._text, wishes[0])

    def _make(self, text: Text, wish: Wish) -> Grammar:
        size = len(wish[2] if isinstance(wish[2], str) else json.dumps(wish[2]))
        if size > MAX_GRAMMAR:
            raise bad(f"{wish[0]}: has {size} characters, at most {MAX_GRAMMAR} are allowed", wish[0])
        try:
            import llguidance
        except ImportError:
            raise bad(f"{wish[0]}: this server has no structured output; it needs the package llguidance", wish[0]) from None
        if self._tokenizer is None:
            vocabulary = llguidance.TokenizerWrapper(_Vocabulary(text, self._info))
            self._tokenizer = llguidance.LLTokenizer(vocabulary, self._info.vocab_size, list(self._info.eos_token_ids))
        try:
            matcher = llguidance.LLMatcher(self._tokenizer, _source(llguidance.LLMatcher, *wish),
                                           limits=llguidance.LLParserLimits(verbose_errors=False))
            matcher.compute_bitmask()  # some errors show themselves at the first token
        except (ValueError, TypeError, RecursionError) as error:
            raise bad(f"{wish[0]}: {error}", wish[0]) from None
        if matcher.is_error():
            raise bad(f"{wish[0]}: no answer can follow it: {matcher.get_error()}", wish[0])
        return Grammar(matcher)


def _thread_with_large_stack() -> ThreadPoolExecutor:
    thread, before = ThreadPoolExecutor(1, "quire-grammars"), threading.stack_size(STACK)
    try:
        thread.submit(int).result()  # starts it
    except RuntimeError:
        raise ApiError(503, "structured output: this server has no memory for the thread that reads grammars") from None
    finally:
        threading.stack_size(before)
    return thread


class _Vocabulary:
    """What llguidance asks of a tokenizer."""

    def __init__(self, text: Text, info: Any):
        self.eos_token_id, self.bos_token_id = info.eos_token_ids[0], None
        self.tokens = [text.token_bytes(i) for i in range(info.vocab_size)]
        self.special_token_ids = [i for i in range(info.vocab_size) if text.is_special(i)]
        self._text = text

    def __call__(self, text: str) -> list[int]:
        return self._text.encode(text, add_special_tokens=False)


class Grammar:
    """A grammar that is ready; each sequence of a request follows a copy."""

    def __init__(self, matcher: Any):
        self._matcher = matcher

    def mask(self) -> Mask:
        return Mask(self._matcher)


class Mask:
    """quire's TokenMask of one request."""

    def __init__(self, matcher: Any):
        self._fresh = matcher
        self._sequences: dict[int, _Follower] = {}

    def fill(self, row: MaskRow, allowed: memoryview) -> None:
        follower = self._sequences.get(row.sequence)
        if follower is None:
            follower = self._sequences[row.sequence] = _Follower(self._fresh.deep_copy())
        if not follower.follow(row.tokens[row.prompt_count:], row.drafts):
            return  # behind a draft that this step rejects
        bits = memoryview(follower.matcher.compute_bitmask()).cast("I")
        if follower.matcher.is_error():
            raise _refusal(follower.matcher)
        allowed[:] = bits[:len(allowed)]


class _Follower:
    """A matcher, and the tokens that it has taken. Those from `certain` on were drafts, which may have been rejected."""

    def __init__(self, matcher: Any):
        self.matcher = matcher
        self._taken: list[int] = []
        self._certain = 0

    def follow(self, tokens: memoryview, drafts: int) -> bool:
        """Whether the grammar has these tokens. The last `drafts` may be none of it; that the others are is sure."""
        same = self._certain
        while same < min(len(self._taken), len(tokens)) and self._taken[same] == tokens[same]:
            same += 1
        if same < len(self._taken):
            self.matcher.rollback(len(self._taken) - same)
            del self._taken[same:]
        new = list(tokens[same:])
        self._taken += new[:self.matcher.try_consume_tokens(new)]
        self._certain = len(tokens) - drafts
        if len(self._taken) < self._certain:
            if self.matcher.is_error():
                raise _refusal(self.matcher)
            raise RuntimeError(f"token {tokens[len(self._taken)]} is not in the grammar")
        return len(self._taken) == len(tokens)


def _refusal(matcher: Any) -> ApiError:
    """Of a grammar that turns out to be too large while an answer follows it."""
    return bad(f"structured output: the grammar cannot be followed: {matcher.get_error()}")


def _wishes(request: Common) -> list[Wish]:
    wishes: list[Wish] = [(f"guided_{kind}", kind, value) for kind in ("json", "regex", "choice", "grammar")
                          if (value := getattr(request, f"guided_{kind}")) is not None]
    outputs = request.structured_outputs
    if outputs is not None:
        wishes += [("structured_outputs", kind, value) for kind in ("json", "regex", "choice", "grammar")
                   if (value := getattr(outputs, kind)) is not None]
        if outputs.json_object:
            wishes.append(("structured_outputs", "json", {"type": "object"}))
        if outputs.disable_any_whitespace:
            wishes = [(field, "compact json" if kind == "json" else kind, value) for field, kind, value in wishes]
    return wishes + _format(request.response_format)


def _format(wanted: dict[str, Any] | None) -> list[Wish]:
    """OpenAI's response_format."""
    field, kind = "response_format", None if wanted is None else wanted.get("type")
    if wanted is None or kind == "text":
        return []
    if kind == "json_object":
        return [(field, "json", {"type": "object"})]
    schema = wanted.get("json_schema")
    if kind == "json_schema" and isinstance(schema, dict) and isinstance(schema.get("schema", {}), dict):
        return [(field, "json", schema.get("schema", {}))]
    raise bad('response_format: expected {"type": "text"}, {"type": "json_object"} or {"type": "json_schema", '
              '"json_schema": {"name": ..., "schema": {...}}}', field)


def _source(matcher: Any, field: str, kind: str, value: Any) -> Any:
    """The grammar as llguidance reads it."""
    if kind in ("json", "compact json"):
        schema = value if isinstance(value, str) else json.dumps(value)
        json.loads(schema)
        space = {"whitespace_pattern": SOME_SPACE} if kind == "json" else {"whitespace_flexible": False}
        return matcher.grammar_from_json_schema(schema, overrides=space)
    if kind == "regex":
        return matcher.grammar_from_regex(value)
    if kind == "choice":
        if not value or not all(value):
            raise ValueError("expected a list of texts that are not empty")
        choices = " | ".join(map(json.dumps, value))  # of a terminal: a rule may have 2000 alternatives
        return matcher.grammar_from_lark(f"start: CHOICE\nCHOICE: {choices}")
    return matcher.grammar_from_lark(value)
