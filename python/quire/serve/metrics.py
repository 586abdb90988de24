"""/metrics: Prometheus text. Names are vLLM's where they mean the same, quire's own for the rest: docs/SERVING.md."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..request import RequestOutput, SequenceMetrics

LABELS = ["model_name", "engine"]
SHORT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
REQUEST_S = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0)
TOKENS = tuple(digit * 10 ** power for power in range(6) for digit in (1, 2, 5))
COUNTS = (1, 2, 5, 10, 20)
REASONS = {"stop": "stop", "length": "length", "cancelled": "abort", "timeout": "abort", "error": "error"}

# Values of quire_stats: (name, member or how it is made, help). Names in the first two lists are vLLM's.
Value = str | Callable[[dict[str, Any]], float]
GAUGES: list[tuple[str, Value, str]] = [
    ("vllm:num_requests_running", "running", "Sequences in the batch."),
    ("vllm:num_requests_waiting", "waiting", "Sequences that wait for their first step, or after a preemption."),
    ("vllm:kv_cache_usage_perc", lambda s: s["blocks_used"] / max(1, s["blocks"]),
     "Share of the KV blocks that sequences hold, 0 to 1; blocks that are only cached are free."),
    ("quire_requests_paused", "paused", "Sequences that wait for the reader of their tokens."),
    ("quire_queued_tokens", "queued_tokens", "Prompt and encoder tokens of waiting requests."),
    ("quire_kv_blocks", "blocks", "KV blocks."),
    ("quire_kv_blocks_used", "blocks_used", "KV blocks that sequences hold."),
    ("quire_kv_blocks_cached", "blocks_cached", "KV blocks that no sequence holds, kept for equal prefixes."),
    ("quire_numa_pages_misplaced", "numa_pages_misplaced",
     "Pages of memory on another NUMA node than planned, when they were last checked."),
    ("quire_batch_invariant", "batch_invariant", "1: a request's tokens do not depend on what else is in the batch."),
]
COUNTERS: list[tuple[str, Value, str]] = [
    ("vllm:prefix_cache_queries", "prefix_queries", "Prompt tokens looked up in the prefix cache."),
    ("vllm:prefix_cache_hits", "prefix_hits", "Prompt tokens found in the prefix cache."),
    ("vllm:num_preemptions", "preemptions", "Sequences put back into the queue to free blocks."),
    ("vllm:prompt_tokens", lambda s: s["tokens_prompt"] - s["tokens_recomputed"] + s["tokens_cached"],
     "Prompt tokens, computed or found in the prefix cache."),
    ("vllm:generation_tokens", "tokens_output", "Tokens generated."),
    ("vllm:spec_decode_num_draft_tokens", "drafts", "Tokens guessed by prompt lookup."),
    ("vllm:spec_decode_num_accepted_tokens", "drafts_accepted", "Guessed tokens that were right."),
    ("quire_steps", "steps", "Steps."),
    ("quire_failed_steps", "failed_steps", "Steps that could not be run."),
    ("quire_requests_refused", "requests_refused", "Requests that the engine did not take."),
    ("quire_prompt_tokens_computed", "tokens_prompt", "Prompt tokens computed, again after a preemption too."),
    ("quire_tokens_recomputed", "tokens_recomputed", "Prompt tokens computed again after a preemption."),
    ("quire_encoder_tokens", "tokens_encoder", "Encoder tokens computed."),
    ("quire_encoder_runs", "encoder_runs", "Encoder inputs computed."),
    ("quire_encoder_runs_saved", "encoder_runs_saved", "Encoder inputs whose keys and values were there already."),
    ("quire_kv_remote_bytes", "kv_remote_bytes", "Bytes of keys and values read from another NUMA node's memory."),
    ("quire_blocks_spilled", "blocks_spilled", "KV blocks taken on another NUMA node than their sequence's home."),
]


class Metrics:
    """Histograms are filled as requests go on; counters and gauges are the engine's, read when somebody asks."""

    def __init__(self, model_name: str, stats: Callable[[], dict[str, Any]]):
        self._registry = CollectorRegistry()
        self._labels = [model_name, "0"]
        self._stats = stats
        self._registry.register(self)

        def histogram(name: str, about: str, buckets: tuple[float, ...]) -> Any:
            return Histogram(name, about, LABELS, registry=self._registry, buckets=buckets).labels(*self._labels)

        self._ttft = histogram("vllm:time_to_first_token_seconds", "From submission to the first token.", SHORT_S)
        self._itl = histogram("vllm:inter_token_latency_seconds", "Between tokens of a request, as the server gets them.",
                              TOKEN_S)
        self._tpot = histogram("vllm:request_time_per_output_token_seconds", "Mean of a sequence after its first token.",
                               TOKEN_S)
        self._e2e = histogram("vllm:e2e_request_latency_seconds", "From submission to the end.", REQUEST_S)
        self._queue = histogram("vllm:request_queue_time_seconds", "From submission to the first step.", REQUEST_S)
        self._prefill = histogram("vllm:request_prefill_time_seconds", "From the first step to the first token.", REQUEST_S)
        self._decode = histogram("vllm:request_decode_time_seconds", "From the first token to the end.", REQUEST_S)
        self._prompt = histogram("vllm:request_prompt_tokens", "Prompt tokens, or encoder tokens.", TOKENS)
        self._generation = histogram("vllm:request_generation_tokens", "Tokens generated for a sequence.", TOKENS)
        self._success = Counter("vllm:request_success", "Sequences by how they ended.", [*LABELS, "finished_reason"],
                                registry=self._registry)
        self._refused = Counter("quire_http_errors", "Answers that are errors, by status.", ["status"],
                                registry=self._registry)

    def observe(self, output: RequestOutput, last: float | None) -> float | None:
        """What came of a request, and when tokens came before, if any did. Returns when tokens came last."""
        now = time.monotonic()
        for each in output.outputs:
            if each.token_ids and last is not None:
                self._itl.observe(now - last)
            if each.metrics is not None:
                self._observe_end(each.metrics, REASONS[each.finish_reason or "error"])
        return now if any(each.token_ids for each in output.outputs) else last

    def _observe_end(self, metrics: SequenceMetrics, reason: str) -> None:
        self._success.labels(*self._labels, reason).inc()
        self._prompt.observe(metrics.encoder_tokens or metrics.prompt_tokens)
        self._generation.observe(metrics.output_tokens)
        self._e2e.observe((metrics.finish_ns - metrics.submit_ns) / 1e9)
        if metrics.first_planned_ns > 0:
            self._queue.observe((metrics.first_planned_ns - metrics.submit_ns) / 1e9)
        if metrics.first_token_ns > 0:
            self._ttft.observe((metrics.first_token_ns - metrics.submit_ns) / 1e9)
            self._prefill.observe((metrics.first_token_ns - metrics.first_planned_ns) / 1e9)
            self._decode.observe((metrics.finish_ns - metrics.first_token_ns) / 1e9)
            if metrics.output_tokens > 1:
                self._tpot.observe((metrics.finish_ns - metrics.first_token_ns) / 1e9 / (metrics.output_tokens - 1))

    @property
    def registry(self) -> CollectorRegistry:
        return self._registry

    def count_error(self, status: int) -> None:
        self._refused.labels(str(status)).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For the registry: what the engine counts."""
        stats = self._stats()
        for family, rows in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
            for name, value, about in rows:
                metric = family(name, about, labels=LABELS)
                metric.add_metric(self._labels, float(value(stats) if callable(value) else stats[value]))
                yield metric
        config = GaugeMetricFamily("vllm:cache_config_info", "1; its labels are the cache's size.",
                                   labels=["block_size", "num_gpu_blocks", "num_cpu_blocks", "engine"])
        config.add_metric([str(stats["block_size"]), str(stats["blocks"]), "0", "0"], 1.0)
        yield config
