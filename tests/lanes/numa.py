#!/usr/bin/env python3
"""Runs the tool on machines with several NUMA nodes, which qemu emulates, and checks where every page is, that bits are those of
one node, and what happens to those who take nodes and memory away.

usage: numa.py short|long QUIRE OUT [MACHINE[:PART,PART...]...]      without a machine: all of the form"""
import concurrent.futures
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

LONG, QUIRE, OUT = sys.argv[1] == "long", pathlib.Path(sys.argv[2]).resolve(), pathlib.Path(sys.argv[3]).resolve()
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODELS = ROOT / "tests/models"
GOLDENS = ["llama-linear", "t5-large-units"] + (["gemma2", "qwen3-moe", "qwen2-mixed-window", "marian"] if LONG else [])
DTYPES = ["f32", "bf16", "int8"]
VERIFIED = r"verdict    every page that exists is on the node planned for it"
MISPLACED = r"verdict    MISPLACED: some pages are on other nodes than planned"
SHOWN = r"^(?:pages|  (?:weights|embedding|kv|scratch|buffers|queues|all) |  blocks|counters|  pages|crowd|golden|NUMA:|Node ).*$"
os.environ.setdefault("NUMA_GUEST_SECONDS", "3400" if LONG else "1300")
failures = []


def check(condition, what):
    print(f"  {'ok' if condition else 'FAILED'}  {what}")
    if not condition:
        failures.append(what)


# ---- what the guests are asked ----

def cases_of(folder):
    return json.loads((MODELS / folder / "expected.json").read_text())["cases"]


def requests_of(folder):
    for number, case in enumerate(cases_of(folder)):
        sources = {key: case[key] for key in ("encoder_input", "encoder_features", "prompt") if key in case}
        yield {"id": str(number), **sources, "max_tokens": case["max_tokens"], "logits": "last", "logprobs": 0}


def crowd():
    """Requests for llama-linear: most begin with the same two blocks, and are too many for the node that has these."""
    draw = random.Random(1)
    tokens = lambda count: [draw.randrange(3, 96) for _ in range(count)]
    popular = tokens(64)
    for number in range(30):
        prompt = (popular if number % 6 else []) + tokens(draw.randrange(8, 40))
        yield {"id": str(number), "prompt": prompt, "max_tokens": 20, "logits": "last", "logprobs": 0}


def blocks_of(folder):
    """Of its longest request, and one more: a pool of as many preempts the others."""
    sizes = [-(-(len(c.get("encoder_input", [])) + len(c.get("encoder_features", [])) // 2) // 32) +
             -(-(len(c.get("prompt", [0])) + c["max_tokens"]) // 32) for c in cases_of(folder)]
    return max(sizes) + 1


def write_lines(path, requests):
    path.write_text("".join(json.dumps(request) + "\n" for request in requests))
    return path


def boot(machine, parts, steps):
    """What the guest printed, by part, and the seconds it took."""
    started = time.monotonic()
    goldens = GOLDENS if "golden" in parts else []
    with tempfile.TemporaryDirectory() as scratch:
        files = [MODELS / folder for folder in {"llama-linear", "qwen2-bias", *goldens}]
        settings = pathlib.Path(scratch, "settings")
        settings.write_text(f'parts="{" ".join(parts)}"\nsteps={steps}\nfew_steps=25\n'
                            f'goldens="{" ".join(goldens)}"\ndtypes="{" ".join(DTYPES)}"\n')
        files += [settings, write_lines(pathlib.Path(scratch, "crowd.jsonl"), crowd())]
        for folder in goldens:
            blocks = pathlib.Path(scratch, f"{folder}.blocks")
            blocks.write_text(f"{blocks_of(folder)}\n")
            files += [write_lines(pathlib.Path(scratch, f"{folder}.jsonl"), requests_of(folder)), blocks]
        commands = pathlib.Path(scratch, f"{machine}.sh")
        commands.write_text((ROOT / "tests/lanes/numa_guest.sh").read_text())
        done = subprocess.run([ROOT / "tools/numa_guest.sh", OUT, machine, QUIRE, commands, *files])
    text = (OUT / f"{machine}.txt").read_text() if done.returncode == 0 else ""
    pieces = re.split(r"^== (\w+)\n", text, flags=re.M)
    return dict(zip(pieces[1::2], pieces[2::2])), time.monotonic() - started


# ---- what they answered ----

def counter(text, name):
    found = re.findall(rf"{name} (\d+)", text)
    return int(found[-1]) if found else -1


def rows(text, memory, node):
    """(right, wrong, absent) of the last table."""
    found = re.findall(rf"^  {memory} +{node} +(\d+) +(\d+) +(\d+)$", text, flags=re.M)
    return tuple(map(int, found[-1])) if found else (0, 0, 0)


def check_machine(text, nodes):
    pairs = re.findall(r"^  node \d +((?: +\d+\.\d+)+) *$", text, flags=re.M)
    check(len(pairs) == len(nodes) and all(len(p.split()) == len(nodes) for p in pairs), "bandwidth of all pairs of nodes")


def check_verified(text, nodes):
    check(re.search(VERIFIED, text) and "status 0" in text, "every page is where it should be")
    for node in nodes:
        for memory in "kv", "scratch":
            check(rows(text, memory, node)[0] > 0, f"node {node} holds {memory}")


def check_balanced(text, nodes):
    check_verified(text, nodes)
    check(counter(text, "prefix hits") > 0, "prefixes are found")


def check_weights(text, nodes):
    """A model that is large enough for every thread to have some."""
    check_verified(text, nodes)
    for node in nodes:
        for memory in "weights", "embedding":
            check(rows(text, memory, node)[0] > 0, f"node {node} holds {memory}")


def check_one_node(text, nodes):
    check_verified(text, nodes[1:2])
    check("on 1 node" in text, "one node")


def check_cut_memory(text, nodes):
    check_verified(text, nodes[:1])
    check("4 threads on 1 node" in text, "CPUs of the other node belong to the one with memory")


def check_dry(text, nodes):
    check_verified(text, nodes)
    check(counter(text, "blocks spilled") > 0, "blocks spill to the other node, and are counted")
    check(counter(text, "KV bytes read from another node") > 0, "reading them is counted")
    check(re.search(r"[1-9]\d* preemptions", text) and ", 0 failed," in text, "some are preempted, none fails")


REFUSED = r"cannot be bound to NUMA node 1: Invalid argument"


def check_refused(text, nodes):
    check(re.search(f"warning: .*{REFUSED}", text), "a warning names the node")
    check(re.search(MISPLACED, text) and "status 1" in text and ", 0 failed," in text, "it runs, and pages are reported")


def check_strict(text, nodes):
    check(re.search(REFUSED, text) and "status 1" in text, "with numa.strict the same is an error")


def check_golden(text, nodes):
    for folder in GOLDENS:
        for dtype in DTYPES:
            check(re.search(rf"^golden {folder} {dtype} \d+ answers, \d+ bytes: equal$", text, flags=re.M),
                  f"{folder}, {dtype}: all nodes, one node and a pool that preempts give the same bytes")
        answers = {a["id"]: a for a in map(json.loads, re.findall(rf"^answer {folder} (.*)$", text, flags=re.M))}
        same = [answers.get(str(n), {}).get("tokens") == case["tokens"] for n, case in enumerate(cases_of(folder))]
        check(same and all(same), f"{folder}, f32: {sum(same)} of {len(same)} requests have the reference's tokens")


def count_of(text, run, what):
    return sum(map(int, re.findall(rf"^crowd {run} .*?(\d+) {what}", text, flags=re.M)))


def check_crowd(text, nodes):
    """The same bytes, although blocks spilled, sequences were preempted, and prefixes lay on other nodes."""
    for dtype in DTYPES:
        check(re.search(rf"^crowd {dtype} 30 answers, \d+ bytes: equal$", text, flags=re.M),
              f"{dtype}: all nodes, one node and a pool that runs dry give the same bytes")
        for pool, what in ("all", "KV bytes read from another node"), ("few", r"blocks? spilled"), ("few", r"preemptions?"):
            counted = count_of(text, f"{dtype} {pool}", what)
            check(counted > 0, f"{dtype}, {pool}: {counted} {what.replace('?', '')}")
    counted = count_of(text, r"\w+ all", r"cached tokens? on another node")
    check(counted > 0, f"all, any dtype: {counted} cached tokens on another node")


def check_full(text, nodes):
    """What does not fit is on the neighbour, which is reported, and nothing ends."""
    check(re.search(MISPLACED, text) and "status 1" in text and ", 0 failed," in text, "it runs, and pages are reported")
    check(rows(text, "scratch", nodes[-1])[1] > 0, f"scratch of node {nodes[-1]} is elsewhere")
    for node in nodes[:-1]:
        check(rows(text, "kv", node)[0] > 0 and rows(text, "kv", node)[1] == 0, f"kv of node {node} is there")


def check_bench(text, nodes):
    check(re.search(r"^NUMA: 0 of [1-9]\d* pages on another node than planned; ", text, flags=re.M), "its table has the pages")
    check(" placement: " not in text, "memory next to no CPU is where it should be")


CHECKS = {"machine": check_machine, "balanced": check_balanced, "weights": check_weights, "golden": check_golden,
          "crowd": check_crowd, "dry": check_dry, "one_node": check_one_node, "cut_memory": check_cut_memory,
          "refused": check_refused, "strict": check_strict, "full": check_full, "bench": check_bench}

# Nodes that threads are on, or whose memory they have (the kernel counts nodes with CPUs first), and the parts of the script that
# runs in the guest: tests/lanes/numa_guest.sh.
MACHINES = {
    "two": ((0, 1), ["machine", "balanced", "unbalanced", "weights", "huge", "golden", "crowd", "dry", "threads", "one_node",
                     "cut_cpus", "cut_memory", "refused", "strict"]),
    "four": ((0, 1, 3), ["machine", "balanced", "weights", "golden", "crowd", "dry", "bench"]),
    "four-small": ((0, 1, 2, 3), ["machine", "balanced", "weights", "dry", "full"]),
}


def asked():
    for argument in sys.argv[4:]:
        machine, _, parts = argument.partition(":")
        yield machine, parts.split(",") if parts else MACHINES[machine][1]
    if len(sys.argv) == 4:
        yield from ((machine, parts) for machine, (_, parts) in MACHINES.items())


def main():
    todo = list(asked())
    with concurrent.futures.ThreadPoolExecutor(2) as pool:  # a guest is one thread of the host
        booted = [pool.submit(boot, machine, parts, 800 if LONG else 200) for machine, parts in todo]
        for (machine, parts), future in zip(todo, booted):
            texts, seconds = future.result()
            print(f"==== {machine}, {seconds:.0f} s", flush=True)
            for part in parts:
                print(f"{machine}, {part}:")
                text = texts.get(part, "")
                lines = text.splitlines() if part == "machine" else re.findall(SHOWN, text, flags=re.M)
                print("".join(f"    {line}\n" for line in lines), end="")
                CHECKS.get(part, check_verified)(text, MACHINES[machine][0])
    print(f"numa: {len(failures)} checks failed" if failures else "numa: all checks passed")
    sys.exit(1 if failures else 0)


main()
