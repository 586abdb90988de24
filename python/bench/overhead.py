#!/usr/bin/env python3
"""What the package costs: output tokens per second of `quire generate`, LLM and AsyncEngine on the same requests, in turns.

usage: overhead.py QUIRE [MODEL] [STREAMS]      (default: tiny, 64; the package is the one that is installed)"""
import asyncio
import json
import logging
import re
import statistics
import subprocess
import sys
import time

import quire

ROUNDS, PER_STREAM, PROMPT, TOKENS = 9, 8, 16, 64


def requests(streams):
    return [[1 + (7 * i + j) % 250 for j in range(PROMPT)] for i in range(streams * PER_STREAM)]


def by_tool(tool, model, streams):
    lines = "".join(json.dumps({"prompt": p, "max_tokens": TOKENS, "ignore_eos": True}) + "\n" for p in requests(streams))
    done = subprocess.run([tool, "generate", "--model", model, "--max-num-seqs", str(streams), "--no-enable-prefix-caching"],
                          input=lines, capture_output=True, text=True, check=True)
    return float(re.search(r"\(([\d.]+) tokens/s\)", done.stderr)[1])


def by_llm(llm, streams):
    prompts = requests(streams)
    start = time.perf_counter()
    results = llm.generate(prompts, quire.SamplingParams(max_tokens=TOKENS, ignore_eos=True))
    return sum(len(r.outputs[0].token_ids) for r in results) / (time.perf_counter() - start)


async def by_engine(engine, streams):
    """Every stream is a client that sends its next request when the last has ended."""
    prompts, params, tokens = iter(requests(streams)), quire.SamplingParams(max_tokens=TOKENS, ignore_eos=True), 0

    async def client():
        nonlocal tokens
        for prompt in prompts:
            async for output in engine.generate(prompt, params):
                tokens += len(output.outputs[0].token_ids)

    start = time.perf_counter()
    await asyncio.gather(*[client() for _ in range(streams)])
    return tokens / (time.perf_counter() - start)


async def main():
    tool, model, streams, *_ = sys.argv[1:] + ["tiny", "64"][len(sys.argv) - 2:]
    streams = int(streams)
    logging.getLogger("quire").setLevel(logging.ERROR)
    options = {"max_num_seqs": streams, "enable_prefix_caching": False, "max_num_queued_reqs": 4096}
    found = {"quire generate": [], "LLM": [], "AsyncEngine": []}
    for _ in range(ROUNDS):
        found["quire generate"].append(by_tool(tool, model, streams))
        with quire.LLM(model, **options) as llm:
            found["LLM"].append(by_llm(llm, streams))
        async with quire.AsyncEngine(model, **options) as engine:
            found["AsyncEngine"].append(await by_engine(engine, streams))
    for name, rates in found.items():
        ratios = sorted(rate / tool_rate for rate, tool_rate in zip(rates, found["quire generate"]))
        print(f"{name:15} {statistics.median(rates):8.0f} tokens/s, {statistics.median(ratios):.2f} of the tool's "
              f"in the same round ({ratios[0]:.2f} to {ratios[-1]:.2f})")


asyncio.run(main())
