"""python -m quire.dynamo --model MODEL: a worker of NVIDIA Dynamo, whose frontend splits text and whose router sends a
request where its prompt is cached. Needs ai-dynamo 1.6. docs/SERVING.md."""
from __future__ import annotations

import argparse
import asyncio
import hashlib
import logging
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
from dynamo.common.backend import EngineConfig, LLMEngine, LlmRegistration, WorkerConfig
from dynamo.common.backend.logprobs import (extract_from_completion_output, extract_prompt_logprobs_from_completion_output,
                                            parse_logprob_options)
from dynamo.common.backend.metrics import register_engine_registry
from dynamo.common.backend.publisher import ComponentSnapshot, KvEventSource, ZmqSource
from dynamo.common.backend.run import run
from dynamo.common.utils.token_ids import token_ids_to_list
from dynamo.llm.exceptions import DynamoException, EngineShutdown, InvalidArgument, Unknown, WorkerUnavailable

from . import gguf
from ._config import read_assignments
from .async_engine import AsyncEngine, Stream
from .kv_events import KvEventPublisher, KvEventsConfig
from .request import CompletionOutput, EngineClosed, QuireError, RequestOutput, SamplingParams
from .serve.errors import ApiError, bad
from .serve.generation import short_salt
from .serve.metrics import Metrics
from .serve.protocol import Common, limit_answer, sampling_params
from .serve.structured import Grammars
from .text import Text, load_text

log = logging.getLogger("quire.dynamo")
LOAD_PERIOD_S = 0.25  # between what the router is told of the worker's load
FINISHES = {"timeout": "cancelled"}  # others have the same name

# Fields of a request that are the server's by the same name, and those that are the frontend's.
SAME = {"n", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed",
        "use_beam_search", "length_penalty", "min_tokens", "ignore_eos", "guided_json", "guided_regex", "guided_choice",
        "guided_grammar"}
OTHERS = {"max_tokens", "stop", "include_stop_str_in_output", "best_of", "guided_backend"}
STOP_IDS = {"stop_token_ids", "stop_token_ids_hidden", "stop_token_ids_visible"}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m quire.dynamo", description=__doc__)
    add = parser.add_argument
    add("--model", required=True, help="a folder as Hugging Face publishes it, or a GGUF file")
    add("--served-model-name", metavar="NAME", help="default: the model's")
    add("--tokenizer", metavar="FOLDER", help="with tokenizer.json, config.json and the chat template; default: the model's")
    add("--config", metavar="FILE", help="quire.toml")
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="a key of the configuration")
    add("--namespace", default=os.environ.get("DYN_NAMESPACE", "dynamo"))
    add("--component", default="backend")
    add("--endpoint", default="generate")
    add("--endpoint-types", default="chat,completions")
    add("--discovery-backend", default=os.environ.get("DYN_DISCOVERY_BACKEND", "etcd"), help="default %(default)s")
    add("--request-plane", default=os.environ.get("DYN_REQUEST_PLANE", "tcp"), help="default %(default)s")
    add("--event-plane", default=os.environ.get("DYN_EVENT_PLANE"))
    add("--disable-kv-routing", action="store_true", help="tell the router neither of cached prompts nor of load")
    add("--drain-timeout", type=float, default=60.0, metavar="S",
        help="at the end, how long running requests may take; default %(default)g")
    return parser


class QuireEngine(LLMEngine):  # type: ignore[misc,unused-ignore]
    """Dynamo's interface to an engine."""

    def __init__(self, args: argparse.Namespace, folder: str, scratch: tempfile.TemporaryDirectory[str]):
        self._args, self._folder, self._scratch = args, folder, scratch
        self._engine: AsyncEngine | None = None
        self._publisher: KvEventPublisher | None = None
        self._snapshots: Any = None
        self._telling: asyncio.Task[None] | None = None
        self._running: defaultdict[str, set[str]] = defaultdict(set)  # Dynamo's id -> the engine's

    # ---- begin and end ----

    @classmethod
    async def from_args(cls, argv: list[str] | None = None) -> tuple[QuireEngine, WorkerConfig]:
        args = arguments().parse_args(argv)
        scratch = tempfile.TemporaryDirectory(prefix="quire-dynamo-")
        folder = _folder(args)
        args.served_model_name = args.served_model_name or Path(args.model).name
        return cls(args, folder, scratch), WorkerConfig(
            namespace=args.namespace, component=args.component, endpoint=args.endpoint, model_name=folder,
            served_model_name=args.served_model_name, endpoint_types=args.endpoint_types,
            discovery_backend=args.discovery_backend, request_plane=args.request_plane, event_plane=args.event_plane,
            enable_kv_routing=not args.disable_kv_routing)

    async def start(self, worker_id: int) -> EngineConfig:
        args = self._args
        self._engine = await asyncio.to_thread(
            AsyncEngine, args.model, config=args.config, tokenizer=load_text(self._folder),
            cache_events=not args.disable_kv_routing, options=read_assignments(args.set))
        self._info, stats = self._engine.model_info, self._engine.stats()
        if self._info.encoder_layers > 0:
            raise QuireError("ERR_UNSUPPORTED", f"{args.model}: Dynamo serves models without an encoder")
        text = self._engine.tokenizer
        self._grammars = Grammars(text if isinstance(text, Text) else None, self._info)
        self._metrics = Metrics(args.served_model_name, self._engine.stats)
        return EngineConfig(model=self._folder, served_model_name=args.served_model_name, llm=LlmRegistration(
            context_length=self._info.max_model_len, kv_cache_block_size=stats["block_size"],
            total_kv_blocks=stats["blocks"], max_num_seqs=self._engine.setting("scheduler.max_num_seqs"),
            max_num_batched_tokens=stats["max_num_batched_tokens"]))

    async def is_quiescent(self) -> bool:
        stats = self._need_engine().stats()
        return not (stats["running"] or stats["waiting"] or stats["paused"])

    async def cleanup(self) -> None:
        """Also of an engine that did not start."""
        if self._telling is not None:
            self._telling.cancel()
        if self._publisher is not None:
            self._publisher.close()
        if self._engine is not None:
            if not await self._engine.drain(self._args.drain_timeout):
                log.warning("requests that still ran after %g s were cancelled", self._args.drain_timeout)
            if (broken := self._engine.check()) is not None:
                log.error("the engine's check at the end: %s", broken)
            await self._engine.aclose()
            self._engine = None
        self._scratch.cleanup()

    def _need_engine(self) -> AsyncEngine:
        if self._engine is None:
            raise EngineShutdown("the worker is shutting down")
        return self._engine

    # ---- requests ----

    async def generate(self, request: dict[str, Any], context: Any) -> AsyncGenerator[dict[str, Any], None]:
        engine = self._need_engine()
        prompt = token_ids_to_list(request["token_ids"])
        logprobs, prompt_logprobs = parse_logprob_options(request.get("output_options") or {})
        routing = request.get("routing") or {}
        parts: Any = {"prompt_token_ids": prompt}
        if salt := routing.get("cache_salt"):
            parts["cache_salt"] = short_salt(salt)
        try:
            stream = engine.generate(parts, await self._params(request, len(prompt), logprobs, prompt_logprobs),
                                     priority=-int(routing.get("priority") or 0))
        except (ApiError, QuireError, EngineClosed, msgspec.ValidationError) as error:
            raise _as_dynamo(error) from None
        self._running[context.id()].add(stream.request_id)
        try:
            async for chunk in self._chunks(stream, len(prompt)):
                yield chunk
        except (QuireError, EngineClosed) as error:
            raise _as_dynamo(error) from None
        finally:
            await stream.aclose()
            self._running[context.id()].discard(stream.request_id)
            if not self._running[context.id()]:
                del self._running[context.id()]

    async def _chunks(self, stream: Stream, prompt_tokens: int) -> AsyncGenerator[dict[str, Any], None]:
        usage = _Usage(prompt_tokens)
        prompt_logprobs: list[Any] = []
        last = None
        async for output in stream:
            last = self._metrics.observe(output, last)
            prompt_logprobs += output.prompt_logprobs or []
            for part in output.outputs:
                chunk = {"token_ids": part.token_ids, "index": part.index, **self._logprobs(part)}
                usage.add(part)
                if part.finish_reason is not None:
                    chunk["finish_reason"] = FINISHES.get(part.finish_reason, part.finish_reason)
                    chunk["completion_usage"] = usage.body()
                    if output.finished and part is output.outputs[-1] and prompt_logprobs:
                        output.prompt_logprobs = prompt_logprobs
                        chunk["engine_data"] = {"prompt_logprobs": self._prompt_logprobs(output)}
                yield chunk

    def _logprobs(self, part: CompletionOutput) -> dict[str, Any]:
        if not part.logprobs:
            return {}
        each, best = extract_from_completion_output(part, 0, self._need_engine().tokenizer, include_bytes=True)
        return {"log_probs": each, "top_logprobs": best}

    def _prompt_logprobs(self, output: RequestOutput) -> Any:
        return extract_prompt_logprobs_from_completion_output(output, self._need_engine().tokenizer)

    async def _params(self, request: dict[str, Any], prompt_tokens: int, logprobs: int | None,
                      prompt_logprobs: int | None) -> SamplingParams:
        """Stop strings are the frontend's, which makes the text."""
        given = dict(request.get("stop_conditions") or {}) | dict(request.get("sampling_options") or {})
        guided = given.pop("guided_decoding", None) or {}
        given |= {f"guided_{key}": value for key, value in guided.items()}
        given = {key: value for key, value in given.items() if value is not None}
        if unknown := given.keys() - SAME - OTHERS - STOP_IDS:
            raise bad(f"{sorted(unknown)[0]}: is not supported")
        for field in ("n", "best_of"):
            if given.get(field, 1) != 1:  # Dynamo ends a request with its first sequence
                raise bad(f"{field}: {given[field]}; a request to Dynamo's workers has one sequence")
        wishes = msgspec.convert({key: given[key] for key in given.keys() & SAME}, Common)
        wishes.stop_token_ids = sum((given.get(key, []) for key in STOP_IDS), [])
        grammar = await self._grammars.grammar(wishes)
        params = sampling_params(wishes, self._info.generation, max_tokens=given.get("max_tokens"), logprobs=logprobs,
                                 prompt_logprobs=prompt_logprobs, detokenize=False,
                                 mask=grammar.mask() if grammar is not None else None)
        limit_answer(params, 1, prompt_tokens, self._info.max_model_len - prompt_tokens)
        return params

    async def abort(self, context: Any) -> None:
        for request_id in self._running.get(context.id(), ()):
            self._need_engine().abort(request_id)

    # ---- what the router and Prometheus are told ----

    async def kv_event_sources(self) -> list[KvEventSource]:
        endpoint = f"ipc://{self._scratch.name}/kv-events"
        self._publisher = KvEventPublisher(self._need_engine(), KvEventsConfig(endpoint=endpoint))
        return [ZmqSource(endpoint=endpoint)]

    def component_metrics_dp_ranks(self) -> list[int]:
        return [0]

    def attach_snapshot_publisher(self, publisher: Any) -> None:
        self._snapshots = publisher

    async def on_endpoint_ready(self, endpoint: Any) -> None:
        self._telling = asyncio.get_running_loop().create_task(self._tell_load())

    async def _tell_load(self) -> None:
        while self._engine is not None:
            if self._snapshots is not None:
                stats = self._engine.stats()
                queries = stats["prefix_queries"]
                self._snapshots.publish(0, ComponentSnapshot(
                    kv_used_blocks=stats["blocks_used"], kv_total_blocks=stats["blocks"], dp_rank=0,
                    gpu_cache_usage=stats["blocks_used"] / max(1, stats["blocks"]),
                    kv_cache_hit_rate=stats["prefix_hits"] / queries if queries else None))
            await asyncio.sleep(LOAD_PERIOD_S)

    async def register_prometheus(self, metrics: Any) -> None:
        register_engine_registry(metrics, self._metrics.registry)


class _Usage:
    def __init__(self, prompt: int):
        self.prompt, self.completion, self.cached = prompt, 0, 0

    def add(self, part: CompletionOutput) -> None:
        self.completion += len(part.token_ids)
        if part.metrics is not None and part.index == 0:
            self.cached = part.metrics.cached_tokens

    def body(self) -> dict[str, Any]:
        return {"prompt_tokens": self.prompt, "completion_tokens": self.completion,
                "total_tokens": self.prompt + self.completion, "prompt_tokens_details": {"cached_tokens": self.cached}}


def _folder(args: argparse.Namespace) -> str:
    """With the tokenizer, for the frontend: the model's own, or made of its GGUF file."""
    folder = args.tokenizer or args.model
    if os.path.isfile(folder):
        try:
            return _folder_of(Path(folder))
        except ValueError as error:
            raise QuireError("ERR_FORMAT", str(error)) from None
    for name in ("tokenizer.json", "config.json"):
        if not os.path.exists(os.path.join(folder, name)):
            raise QuireError("ERR_IO", f"{folder}: has no {name}, which Dynamo's frontend reads; see --tokenizer")
    return str(folder)


def _folder_of(file: Path) -> str:
    """Named by what is in it, and kept: a frontend takes workers of one model only if their folders have one path."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "quire"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as new:
        gguf.save_folder(file, new)
        content = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(new).iterdir())))
        folder = cache / f"{file.stem}-{content.hexdigest()[:16]}"
        os.chmod(new, 0o755)
        try:
            os.rename(new, folder)
        except OSError:
            if not folder.is_dir():  # it is another worker's
                raise
    return str(folder)


def _as_dynamo(error: Exception) -> DynamoException:
    """By what the frontend makes of it: an answer to the client, or another worker."""
    if isinstance(error, EngineClosed):
        return EngineShutdown(str(error))
    if isinstance(error, QuireError) and error.status == "ERR_FULL":
        return WorkerUnavailable(error.message)
    if isinstance(error, QuireError) and error.status not in ("ERR_INVALID", "ERR_UNSUPPORTED", "ERR_TOO_LONG"):
        return Unknown(str(error))
    return InvalidArgument(str(error))


def main() -> None:
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        run(QuireEngine)
    except (QuireError, OSError) as error:
        sys.exit(f"quire.dynamo: error: {error}")


if __name__ == "__main__":
    main()
