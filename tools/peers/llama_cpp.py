#!/usr/bin/env python3
"""quire and llama.cpp in turns on one machine and one file. docs/PEERS.md says what is measured and how.

usage: llama_cpp.py install FOLDER                builds llama.cpp, makes a model of random weights; 5 GB, half an hour
       llama_cpp.py speed FOLDER [...]            decoded tokens per second
       llama_cpp.py perplexity FOLDER GGUF TEXT   of the same token ids
       llama_cpp.py table FOLDER/speed.jsonl      the table of an earlier run"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
LLAMA = "llama-cpp-python"  # whose source archive on PyPI has llama.cpp in vendor/
LLAMA_VERSION = "0.3.36"
TOOLS = ["llama-batched-bench", "llama-perplexity", "llama-quantize", "llama-tokenize"]
CMAKE = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DGGML_OPENMP=ON", "-DGGML_CPU_REPACK=ON",
         "-DGGML_LLAMAFILE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF",
         "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_TOOLS=ON"]
PROMPT_TOKENS, OUTPUT_TOKENS, FEW_OUTPUT_TOKENS = 32, 32, 8  # of a sequence
THREADS = len(os.sched_getaffinity(0))


# ---- installing ----

def run(*argv, **settings):
    print("+", *argv, file=sys.stderr)
    return subprocess.run([str(word) for word in argv], check=True, **settings)


def build_llama(folder, patch=lambda: None):
    source = folder / f"llama_cpp_python-{LLAMA_VERSION}"
    if not source.exists():
        run(folder / "venv/bin/pip", "download", "--no-deps", "--no-binary", LLAMA, "--dest", folder,
            f"{LLAMA}=={LLAMA_VERSION}")
        run("tar", "-xzf", f"{source}.tar.gz", "-C", folder)
    patch()
    run("cmake", "-G", "Ninja", "-S", source / "vendor/llama.cpp", "-B", folder / "llama", *CMAKE)
    run("cmake", "--build", folder / "llama", f"-j{THREADS}", "--target", *TOOLS)


def make_model(folder):
    whole, model = folder / "tinyllama-bf16.gguf", folder / "tinyllama-q4_0.gguf"
    if model.exists():
        return
    run(folder / "venv/bin/python", HERE / "make_gguf.py", whole)
    run(folder / "llama/bin/llama-quantize", whole, folder / "part.gguf", "Q4_0", THREADS)
    (folder / "part.gguf").rename(model)
    whole.unlink()


def install(arguments):
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "venv").exists():
        run(sys.executable, "-m", "venv", folder / "venv")
        run(folder / "venv/bin/pip", "install", "--quiet", "gguf==0.19.0", "numpy")
    build_llama(folder)
    make_model(folder)


# ---- speed ----

def quire_command(arguments, model, batch, output_tokens, steps):
    return [arguments.quire, "bench", "--model", model, "--profile", "throughput", "--num-prompts", batch,
            "--prompt-tokens", PROMPT_TOKENS, "--output-tokens", output_tokens, "--set", 'run.warmup={mode="none"}',
            "--set", "run.verify_fraction=0", "--set", "run.limits=false", "--threads", arguments.threads, "-o", steps]


def end_ns(step):
    return step["t_ns"] + 1e3 * (step["plan_us"] + step["forward_us"] + step["sample_us"] + step["commit_us"])


def quire_speed(output, steps, batch):
    """Of the steps in which every sequence decodes one token, and nothing else."""
    lines = [json.loads(line) for line in steps.read_text().splitlines()]
    whole = [s for s in lines if s["rows_prefill"] == 0 and s["rows"] == s["sequences"] == batch]
    return batch * len(whole) / (end_ns(whole[-1]) - whole[0]["t_ns"]) * 1e9


def llama_command(arguments, model, batch, output_tokens, steps):
    return [arguments.folder / "llama/bin/llama-batched-bench", "-m", model, "-t", arguments.threads, "-tb",
            arguments.threads, "-b", 2048, "-c", batch * (PROMPT_TOKENS + output_tokens), "-npp", PROMPT_TOKENS, "-ntg", output_tokens, "-npl", batch,
            "--output-format", "jsonl"]


def llama_speed(output, steps, batch):
    return next(json.loads(line)["speed_tg"] for line in output.splitlines() if line.startswith("{"))


ARMS = {"quire": (quire_command, quire_speed), "llama.cpp": (llama_command, llama_speed)}


def busy_seconds():
    """Of all CPUs, whatever runs on them."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def run_arm(arm, arguments, batch, output_tokens):
    """Speed, the process's CPU seconds, and the share of all CPUs' time that other processes took meanwhile."""
    command_of, speed_of = ARMS[arm]
    model = arguments.model or arguments.folder / "tinyllama-q4_0.gguf"
    with tempfile.TemporaryDirectory() as scratch:
        steps = pathlib.Path(scratch) / "r.steps.jsonl"
        argv = [str(word) for word in command_of(arguments, model, batch, output_tokens, steps)]
        busy, start, before = busy_seconds(), time.time(), os.times()
        output = subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        after, wall = os.times(), time.time() - start
        own = after.children_user + after.children_system - before.children_user - before.children_system
        return speed_of(output, steps, batch), own, max(0.0, (busy_seconds() - busy - own) / wall / os.cpu_count())


def measure(arm, arguments, batch):
    """By the clock; or by the CPU time that more tokens cost than few, which a busy machine hardly changes."""
    speed, own, others = run_arm(arm, arguments, batch, OUTPUT_TOKENS)
    if arguments.cpu_time:
        _, few, _ = run_arm(arm, arguments, batch, FEW_OUTPUT_TOKENS)
        speed = batch * (OUTPUT_TOKENS - FEW_OUTPUT_TOKENS) / max(own - few, 1e-3)
    return {"arm": arm, "batch": batch, "tokens_per_second": speed, "others": others}


def print_table(results):
    print("| sequences | " + " | ".join(ARMS) + " | quire / llama.cpp | least .. greatest | others' CPU time |")
    print("|---|" + "---|" * (len(ARMS) + 3))
    for batch in sorted({r["batch"] for r in results}):
        speeds = {arm: [r["tokens_per_second"] for r in results if (r["arm"], r["batch"]) == (arm, batch)] for arm in ARMS}
        ratios = [ours / theirs for ours, theirs in zip(speeds["quire"], speeds["llama.cpp"])]
        others = statistics.mean(r["others"] for r in results if r["batch"] == batch)
        print(f"| {batch} | " + " | ".join(f"{statistics.median(speeds[arm]):.1f}" for arm in ARMS) +
              f" | {statistics.median(ratios):.2f} | {min(ratios):.2f} .. {max(ratios):.2f} | {100 * others:.0f} % |")


def speed(arguments):
    results = []
    if arguments.cpu_time:
        arguments.threads = 1  # several wait for each other by spinning
    with open(arguments.folder / "speed.jsonl", "w") as log:
        for number in range(arguments.rounds):
            for batch in arguments.batch:
                for arm in ARMS:
                    results.append({"round": number, **measure(arm, arguments, batch)})
                    print(json.dumps(results[-1]), file=log, flush=True)
                    print(f"round {number}: {batch} sequences, {arm}: {results[-1]['tokens_per_second']:.1f} tokens/s, "
                          f"others {100 * results[-1]['others']:.0f} %", file=sys.stderr)
    print_table(results)


def table(arguments):
    print_table([json.loads(line) for line in arguments.folder.read_text().splitlines()])


# ---- perplexity ----

def perplexity(arguments):
    tools, model, text = arguments.folder / "llama/bin", arguments.model, arguments.text
    ids = run(tools / "llama-tokenize", "-m", model, "-f", text, "--ids", "--log-disable", stdout=subprocess.PIPE,
              stderr=subprocess.DEVNULL, text=True).stdout
    done = run(tools / "llama-perplexity", "-m", model, "-f", text, "-c", arguments.ctx_size, "-t", THREADS,
               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    theirs = float(re.search(r"PPL = ([0-9.]+)", done.stdout)[1])
    print(f"| weights | perplexity | against llama.cpp |\n|---|---|---|\n| llama.cpp, as stored | {theirs:.4f} | |")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(ids)
        file.flush()
        for dtype in arguments.dtypes:
            bos = [] if arguments.bos is None else ["--bos", arguments.bos]
            done = run(arguments.quire, "perplexity", file.name, "--model", model, "--ctx-size", arguments.ctx_size,
                       "--weight-dtype", dtype, "--json", *bos, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            ours = json.loads(done.stdout)["perplexity"]
            print(f"| quire, {dtype} | {ours:.4f} | {100 * (ours / theirs - 1):+.2f} % |")


# ---- the command ----

def numbers(text):
    return [int(number) for number in text.split(",")]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for command in (install, speed, perplexity, table):
        sub = commands.add_parser(command.__name__)
        sub.set_defaults(command=command)
        sub.add_argument("folder", type=pathlib.Path)
        if command in (speed, perplexity):
            sub.add_argument("--quire", default=str(HERE.parents[1] / "build/release/quire"))
        if command is speed:
            sub.add_argument("--model", help="GGUF file (default: the one of random weights)")
            sub.add_argument("--batch", type=numbers, default=[1, 4, 16, 64], help="sequences (default 1,4,16,64)")
            sub.add_argument("--rounds", type=int, default=3)
            sub.add_argument("--threads", type=int, default=THREADS)
            sub.add_argument("--cpu-time", action="store_true", help="for busy machines: tokens per CPU second, of one thread")
        if command is perplexity:
            sub.add_argument("model")
            sub.add_argument("text")
            sub.add_argument("--ctx-size", type=int, default=512)
            sub.add_argument("--bos", type=int, help="as quire perplexity, for models whose texts begin with one")
            sub.add_argument("--dtypes", type=lambda text: text.split(","), default=["auto", "f32", "bf16", "int8", "int4"])
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    arguments.command(arguments)
