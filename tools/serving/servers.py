#!/usr/bin/env python3
"""One load by `quire bench --target` on quire-serve and on servers of others, and by `quire bench` on the library itself, in
turns. docs/SERVING.md says what is compared.

usage: servers.py MODEL --folder FOLDER [--quire TOOL] [--llama LLAMA_SERVER] [--vllm PYTHON] [...]
       MODEL: a GGUF file; FOLDER: of results; PYTHON: with vLLM and gguf. The package is the one that is
       installed with this Python."""
import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import urllib.request

import programs
from quire import gguf

HERE = pathlib.Path(__file__).resolve().parent
CONTEXT = 1024  # tokens of a sequence, at most


# ---- servers: a command, and the line or path that says that it serves ----

def quire_command(a, port):
    return [sys.executable, "-m", "quire.serve", a.model, "--port", port, "--set", f"model.max_model_len={CONTEXT}", "--set",
            f"topology.threads={a.threads}"], {}


def llama_command(a, port):
    """Each slot has its own context; -tb: threads of prompts."""
    most = max(a.streams)
    return [a.llama, "-m", a.model, "--host", "127.0.0.1", "--port", port, "-t", a.threads, "-tb", a.threads, "-np", most,
            "-c", most * CONTEXT, "--no-webui", *a.llama_arguments.split()], {}


def vllm_command(a, port):
    """The same weights in bf16: it multiplies no codes of GGUF files on CPUs."""
    weights = a.folder / "weights"
    if not (weights / "model.safetensors").exists():
        weights.mkdir(exist_ok=True)
        gguf.save_folder(a.model, weights)
        subprocess.run([a.vllm, HERE / "gguf_to_safetensors.py", a.model, weights], check=True)
    return ([a.vllm, "-m", "vllm.entrypoints.openai.api_server", "--model", weights, "--served-model-name", "smollm2",
             "--host", "127.0.0.1", "--port", port, "--max-model-len", CONTEXT, "--max-num-seqs", max(a.streams),
             "--dtype", "bfloat16", "--no-enable-log-requests"],
            {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": f"0-{a.threads - 1}", "HF_HUB_OFFLINE": "1",
             "VLLM_NO_USAGE_STATS": "1"})


COMMANDS = {"quire-serve": quire_command, "llama-server": llama_command, "vLLM": vllm_command}


@contextlib.contextmanager
def served(name, a, port):
    command, variables = COMMANDS[name](a, port)
    with open(a.folder / f"{name}.log", "w") as log:
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, cwd=a.folder,
                                   env={**os.environ, **variables})
    try:
        deadline = time.monotonic() + 900
        while not _answers(f"http://127.0.0.1:{port}/v1/models"):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{name} does not serve: {a.folder / name}.log")
            time.sleep(0.5)
        print(f"{name} serves", file=sys.stderr, flush=True)
        yield f"http://127.0.0.1:{port}/v1", process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _answers(url):
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return answer.status == 200


# ---- measuring ----

def cpu_seconds(pid):
    """Of a process and its children, user and system."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(int(child)) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
                     for child in (task / "children").read_text().split())


def measure(a, name, server, streams, number):
    """Output tokens per second, the medians of TTFT and of the time from token to token in ms, and CPU ms for a token."""
    url, pid = server or (None, None)
    out = a.folder / f"{name}.{streams}.{number}.json"
    on = ["--target", url] if url else ["--model", a.model, "--set", f"model.max_model_len={CONTEXT}", "--set",
                                        "run.verify_fraction=0", "--set", "run.limits=false", "--threads", a.threads]
    command = [a.quire, "bench", *on, "--profile", "concurrent", "--streams", streams, "--num-prompts", a.rows * streams,
               "--prompt-tokens", a.prompt, "--output-tokens", a.output, "--seed", number, "--set",
               'run.warmup={mode="none"}', "--set", "output.progress=none", "-o", out]
    before, children = cpu_seconds(pid) if pid else 0, os.times()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    after = os.times()
    cpu = cpu_seconds(pid) - before if pid else sum(after[2:4]) - sum(children[2:4])
    if done.returncode != 0:
        sys.exit(f"{name}: {done.stderr}")
    [run] = json.loads(out.read_text())["runs"]
    requests = run["requests"]
    if requests["completed"] != requests["due"]:
        sys.exit(f"{name}: {requests['completed']} of {requests['due']} requests completed: {done.stderr[-500:]}")
    found = [run["throughput"]["output_tokens"]["value"], run["latency"]["ttft"]["p"]["50"], run["latency"]["tpot"]["p"]["50"],
             1e3 * cpu / (a.rows * streams * a.output)]
    print(f"round {number}, {streams} streams, {name}: {found[0]:.1f} tokens/s, TTFT {found[1]:.1f} ms, TPOT {found[2]:.2f} ms, "
          f"{found[3]:.2f} CPU ms a token",
          file=sys.stderr, flush=True)
    return found


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def print_table(a, found):
    print("| streams | | output tokens/s | quire-serve's / its | TTFT P50, ms | its / quire-serve's | TPOT P50, ms | CPU ms a token | "
          "its / quire-serve's |\n|---|---|---|---|---|---|---|---|---|")
    for streams in a.streams:
        ours = found["quire-serve", streams]
        for name in a.names:
            rounds = found[name, streams]
            faster = [our[0] / one[0] for our, one in zip(ours, rounds)]
            sooner = [one[1] / our[1] for our, one in zip(ours, rounds)]
            cheaper = [one[3] / our[3] for our, one in zip(ours, rounds)]
            speeds, firsts, nexts, cpu = ([r[i] for r in rounds] for i in range(4))
            print(f"| {streams} | {name} | {spread(speeds, 1)} | {spread(faster)} | {spread(firsts, 1)} | {spread(sooner)} | "
                  f"{spread(nexts)} | {spread(cpu)} | {spread(cheaper)} |", flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--folder", type=lambda path: pathlib.Path(path).resolve(), required=True)
    parser.add_argument("--quire", type=programs.find, default=programs.QUIRE)
    parser.add_argument("--llama", type=programs.find, help="llama-server")
    parser.add_argument("--llama-arguments", default="", help='more for llama-server, such as "--no-repack"')
    parser.add_argument("--vllm", type=programs.find, help="a Python with vLLM")
    parser.add_argument("--streams", type=lambda text: [int(number) for number in text.split(",")], default=[1, 16])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="1 on a busy machine: several spin")
    parser.add_argument("--port", type=int, default=18200, help="and those behind it")
    for name, value, words in (("rounds", 3, ""), ("rows", 4, "requests of a stream"), ("prompt", 128, "tokens"),
                               ("output", 64, "tokens")):
        parser.add_argument(f"--{name}", type=int, default=value, help=words)
    return parser.parse_args()


def main():
    a = parse()
    a.folder.mkdir(parents=True, exist_ok=True)
    names = ["quire-serve"] + ["llama-server"] * bool(a.llama) + ["vLLM"] * bool(a.vllm)
    a.names = ["library", *names]
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(served(name, a, a.port + i)) for i, name in enumerate(names)}
        for name in a.names:  # what a server does the first time only
            measure(a, name, servers.get(name), max(a.streams), 99)
        found = {(name, streams): [] for name in a.names for streams in a.streams}
        for number in range(a.rounds):
            for streams in a.streams:
                for name in a.names:
                    found[name, streams].append(measure(a, name, servers.get(name), streams, number))
    print_table(a, found)


if __name__ == "__main__":
    main()
