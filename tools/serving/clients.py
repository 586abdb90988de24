#!/usr/bin/env python3
"""quire-serve measured by clients that others wrote and by `quire bench --target`: the same load, in turns. The server has
one CPU and the client another, so that none takes the server's time. docs/SERVING.md says what is compared.

usage: clients.py MODEL --folder FOLDER [--quire TOOL] [--guidellm BIN] [--aiperf BIN] [--vllm PYTHON] [...]
       MODEL: a GGUF file; FOLDER: of results. The package is the one that is installed with this Python."""
import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request

import programs
from quire import gguf

SERVER_CPU, CLIENT_CPU = 0, 1
VLLM_BENCH = """
import sys
from vllm.benchmarks.serve import add_cli_args, main
try:
    from vllm.utils.argparse_utils import FlexibleArgumentParser as Parser
except ImportError:
    from argparse import ArgumentParser as Parser
parser = Parser()
add_cli_args(parser)
main(parser.parse_args())
"""


# ---- clients: a command, and what it found: output tokens per second, median TTFT in ms ----

def quire_command(a, out):
    load = ["--profile", "constant", "--request-rate", a.rate] if a.rate else ["--profile", "concurrent", "--streams", a.streams]
    return [a.quire, "bench", "--target", f"{a.url}/v1", *load, "--num-prompts", a.requests,
            "--prompt-tokens", a.prompt, "--output-tokens", a.output, "--set", 'run.warmup={mode="none"}', "--set",
            "output.progress=none", "-o", out / "result.json"]


def quire_result(a, out):
    [run] = json.loads((out / "result.json").read_text())["runs"]
    return run["throughput"]["output_tokens"]["value"], run["latency"]["ttft"]["p"]["50"]


def guidellm_command(a, out):
    load = f"kind=constant,rate={a.rate}" if a.rate else f"kind=concurrent,streams={a.streams}"
    server = f"kind=openai_http,target={a.url},model={a.name},request_format=/v1/completions"
    return [a.guidellm, "run", "--backend", server, "--profile", load, "--constraint",
            f"kind=max_requests,count={a.requests}", "--tokenizer", f"kind=huggingface_auto,model={a.tokenizer}", "--data",
            f"kind=synthetic_text,prompt_tokens={a.prompt},output_tokens={a.output}", "--output",
            f"kind=json,path={out / 'result.json'}", "--disable-progress"]


def guidellm_result(a, out):
    [run] = json.loads((out / "result.json").read_text())["benchmarks"]
    requests = run["requests"]["successful"]
    first, last = min(r["request_start_time"] for r in requests), max(r["request_end_time"] for r in requests)
    ttft = run["metrics"]["time_to_first_token_ms"]["successful"]
    return sum(r["output_tokens"] for r in requests) / (last - first), ttft["median"]


def aiperf_command(a, out):
    load = ["--request-rate", a.rate, "--arrival-pattern", "constant"] if a.rate else ["--concurrency", a.streams]
    return [a.aiperf, "profile", "--model", a.name, "--url", a.url, "--endpoint-type", "completions", "--streaming",
            "--tokenizer", a.tokenizer, "--synthetic-input-tokens-mean", a.prompt, "--synthetic-input-tokens-stddev", 0,
            "--output-tokens-mean", a.output, "--output-tokens-stddev", 0, "--extra-inputs", "ignore_eos:true", "--extra-inputs",
            "temperature:0", *load, "--request-count", a.requests, "--use-legacy-max-tokens", "--ui", "none",
            "--artifact-dir", out]


def aiperf_result(a, out):
    found = json.loads((out / "profile_export_aiperf.json").read_text())
    return found["output_token_throughput"]["avg"], found["time_to_first_token"]["p50"]


def vllm_command(a, out):
    load = ["--request-rate", a.rate, "--burstiness", 1e6] if a.rate else ["--max-concurrency", a.streams]
    return [a.vllm, "-c", VLLM_BENCH, "--backend", "openai", "--base-url", a.url, "--endpoint", "/v1/completions", "--model",
            a.name, "--tokenizer", a.tokenizer, "--dataset-name", "random", "--random-input-len", a.prompt,
            "--random-output-len", a.output, "--random-range-ratio", 0, "--num-prompts", a.requests, *load,
            "--ignore-eos", "--temperature", 0, "--save-result", "--result-dir", out, "--result-filename", "result.json",
            "--disable-tqdm"]


def vllm_result(a, out):
    found = json.loads((out / "result.json").read_text())
    return found["output_throughput"], found["median_ttft_ms"]


CLIENTS = {"quire": (quire_command, quire_result), "guidellm": (guidellm_command, guidellm_result),
           "aiperf": (aiperf_command, aiperf_result), "vllm": (vllm_command, vllm_result)}


@contextlib.contextmanager
def served(model, log):
    """The address of a server. It caches no prefixes: some clients send the same prompts in each round."""
    with open(log, "w") as file:
        process = subprocess.Popen(["taskset", "-c", str(SERVER_CPU), sys.executable, "-m", "quire.serve", str(model.resolve()),
                                    "--port", "0", "--set", "kv_cache.enable_prefix_caching=false"],
                                   stdout=file, stderr=file, cwd=log.parent)
    try:
        while not (found := re.search(r"is served at (\S+)", log.read_text())):
            if process.poll() is not None:
                sys.exit(f"the server ends: {log.read_text()}")
            time.sleep(0.1)
        yield found[1]
    finally:
        process.terminate()
        process.wait()


def counters(a):
    """Of all requests until now, as the server counts them: those that got a token, and their prompt tokens."""
    with urllib.request.urlopen(f"{a.url}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return [int(float(re.search(rf"^vllm:{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)[1]))
            for name in ("time_to_first_token_seconds_count", "prompt_tokens_total")]


def measure(name, a, number):
    """Output tokens per second and median TTFT in ms, of the load; as the server counts, requests and their prompt tokens, with
    those that a client sends to look at the server (quire and vLLM: one)."""
    command, result = CLIENTS[name]
    out = a.folder / f"{name}.{number}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    before = counters(a)
    with open(out / "log", "w") as log:
        subprocess.run(["taskset", "-c", str(CLIENT_CPU), *map(str, command(a, out))], stdout=log, stderr=log, check=True, cwd=out,
                       env={**os.environ, "PYTHONUNBUFFERED": "1"})
    found = *result(a, out), *(new - old for new, old in zip(counters(a), before))
    print(f"round {number}: {name}: {found[0]:.1f} tokens/s, TTFT {found[1]:.1f} ms (median); the server counts {found[2]} requests "
          f"with {found[3]} prompt tokens", file=sys.stderr, flush=True)
    return found


def spread(values, digits=0):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def print_table(found):
    print("| client | output tokens/s | of quire bench | TTFT P50, ms | of quire bench | requests, by the server | prompt tokens, "
          "by the server |\n|---|---|---|---|---|---|---|")
    for name, rounds in found.items():
        ratios = [[one[i] / ours[i] for one, ours in zip(rounds, found["quire"])] for i in (0, 1)]
        print(f"| {name} | {spread([r[0] for r in rounds])} | {spread(ratios[0], 3)} | {spread([r[1] for r in rounds], 1)} | "
              f"{spread(ratios[1], 3)} | {spread([r[2] for r in rounds])} | {spread([r[3] for r in rounds])} |")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--quire", type=programs.find, default=programs.QUIRE)
    for name in ("guidellm", "aiperf", "vllm"):
        parser.add_argument(f"--{name}", type=programs.find)
    for name, value in (("rounds", 3), ("streams", 4), ("requests", 100), ("prompt", 64), ("output", 32)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rate", type=float, help="requests per second, evenly, instead of --streams")
    return parser.parse_args()


def main():
    a = parse()
    a.folder, a.tokenizer = a.folder.resolve(), a.folder.resolve() / "tokenizer"
    a.tokenizer.mkdir(parents=True, exist_ok=True)
    gguf.save_folder(a.model, a.tokenizer)
    a.name = a.model.name
    with served(a.model, a.folder / "server.log") as a.url:
        names = [name for name in CLIENTS if getattr(a, name)]
        for name in names:  # what a client does the first time only
            measure(name, a, "warm-up")
        found = {name: [] for name in names}
        for number in range(a.rounds):
            for name in names:
                found[name].append(measure(name, a, number))
    print_table(found)


if __name__ == "__main__":
    main()
