#!/usr/bin/env python3
"""What the package costs: output tokens per second of `quire generate`, LLM and AsyncEngine on the same requests, in turns.

With --cpu-time by CPU time, of one compute thread: what a machine whose cores are all in use would show. That hardly depends on
other programs.

usage: overhead.py QUIRE [MODEL] [STREAMS] [--cpu-time]      (default: tiny, 64; the package is the one that is installed)"""
import asyncio
import json
import logging
import os
import re
import statistics
import subprocess
import sys
import time

import quire

ROUNDS, PER_STREAM, PROMPT, TOKENS = 9, 8, 16, 64


def requests(streams, per_stream=PER_STREAM):
    return [[1 + (7 * i + j) % 250 for j in range(PROMPT)] for i in range(streams * per_stream)]


def run_tool(tool, model, streams, threads, per_stream=PER_STREAM):
    """Tokens per second without its start, and CPU seconds with it."""
    lines = "".join(json.dumps({"prompt": p, "max_tokens": TOKENS, "ignore_eos": True}) + "\n"
                    for p in requests(streams, per_stream))
    before = sum(os.times()[2:4])
    done = subprocess.run([tool, "generate", "--model", model, "--max-num-seqs", str(streams), "--no-enable-prefix-caching",
                           *threads], input=lines, capture_output=True, text=True, check=True)
    return float(re.search(r"\(([\d.]+) tokens/s\)", done.stderr)[1]), sum(os.times()[2:4]) - before


def by_tool(tool, model, streams, cpu_time):
    if not cpu_time:
        return run_tool(tool, model, streams, [])[0]
    one = ["--threads", "1"]
    more = run_tool(tool, model, streams, one)[1] - run_tool(tool, model, streams, one, 1)[1]
    return streams * (PER_STREAM - 1) * TOKENS / more


def by_llm(llm, streams, clock):
    prompts = requests(streams)
    start = clock()
    results = llm.generate(prompts, quire.SamplingParams(max_tokens=TOKENS, ignore_eos=True))
    return sum(len(r.outputs[0].token_ids) for r in results) / (clock() - start)


async def by_engine(engine, streams, clock):
    """Every stream is a client that sends its next request when the last has ended."""
    prompts, params, tokens = iter(requests(streams)), quire.SamplingParams(max_tokens=TOKENS, ignore_eos=True), 0

    async def client():
        nonlocal tokens
        for prompt in prompts:
            async for output in engine.generate(prompt, params):
                tokens += len(output.outputs[0].token_ids)

    start = clock()
    await asyncio.gather(*[client() for _ in range(streams)])
    return tokens / (clock() - start)


async def main():
    cpu_time = "--cpu-time" in sys.argv
    given = [word for word in sys.argv[1:] if word != "--cpu-time"]
    tool, model, streams, *_ = given + ["tiny", "64"][len(given) - 1:]
    streams, clock = int(streams), time.process_time if cpu_time else time.perf_counter
    logging.getLogger("quire").setLevel(logging.ERROR)
    options = {"max_num_seqs": streams, "enable_prefix_caching": False, "max_num_queued_reqs": 4096}
    if cpu_time:
        options["threads"] = 1
    found = {"quire generate": [], "LLM": [], "AsyncEngine": []}
    for _ in range(ROUNDS):
        found["quire generate"].append(by_tool(tool, model, streams, cpu_time))
        with quire.LLM(model, **options) as llm:
            found["LLM"].append(by_llm(llm, streams, clock))
        async with quire.AsyncEngine(model, **options) as engine:
            found["AsyncEngine"].append(await by_engine(engine, streams, clock))
    for name, rates in found.items():
        ratios = sorted(rate / tool_rate for rate, tool_rate in zip(rates, found["quire generate"]))
        print(f"{name:15} {statistics.median(rates):8.0f} tokens/{'CPU s' if cpu_time else 's'}, {statistics.median(ratios):.2f} of the tool's "
              f"in the same round ({ratios[0]:.2f} to {ratios[-1]:.2f})")


asyncio.run(main())
