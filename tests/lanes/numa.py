#!/usr/bin/env python3
"""Runs the tool on machines with several NUMA nodes, which qemu emulates, and checks where every page is, that bits are those of
one node, and what happens to those who take nodes and memory away.

usage: numa.py short|long QUIRE OUT"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

LONG, QUIRE, OUT = sys.argv[1] == "long", pathlib.Path(sys.argv[2]).resolve(), pathlib.Path(sys.argv[3]).resolve()
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODELS = ROOT / "tests/models"
GOLDENS = ["llama-linear", "t5-large-units"] + (["gemma2", "qwen3-moe", "qwen2-mixed-window", "marian"] if LONG else [])
VERIFIED = r"verdict    every page that exists is on the node planned for it"
failures = []


def check(condition, what):
    print(f"  {'ok' if condition else 'FAILED'}  {what}")
    if not condition:
        failures.append(what)


def cases_of(folder):
    return json.loads((MODELS / folder / "expected.json").read_text())["cases"]


def requests_of(folder):
    for number, case in enumerate(cases_of(folder)):
        sources = {key: case[key] for key in ("encoder_input", "encoder_features", "prompt") if key in case}
        yield {"id": str(number), **sources, "max_tokens": case["max_tokens"], "logits": "last", "logprobs": 0}


def blocks_of(folder):
    """Of its longest request, and one more: a pool of as many preempts the others."""
    sizes = [-(-(len(c.get("encoder_input", [])) + len(c.get("encoder_features", [])) // 2) // 32) +
             -(-(len(c.get("prompt", [0])) + c["max_tokens"]) // 32) for c in cases_of(folder)]
    return max(sizes) + 1


def boot(machine, parts, steps, goldens=()):
    """What the guest printed, by part."""
    with tempfile.TemporaryDirectory() as scratch:
        files = [MODELS / "llama-linear", *(MODELS / g for g in goldens if g != "llama-linear")]
        settings = pathlib.Path(scratch, "settings")
        settings.write_text(f'parts="{" ".join(parts)}"\nsteps={steps}\nfew_steps={steps // 8}\ngoldens="{" ".join(goldens)}"\n')
        files.append(settings)
        for folder in goldens:
            lines = pathlib.Path(scratch, f"{folder}.jsonl")
            lines.write_text("".join(json.dumps(request) + "\n" for request in requests_of(folder)))
            blocks = pathlib.Path(scratch, f"{folder}.blocks")
            blocks.write_text(f"{blocks_of(folder)}\n")
            files += [lines, blocks]
        commands = pathlib.Path(scratch, f"{machine}.sh")
        commands.write_text((ROOT / "tests/lanes/numa_guest.sh").read_text())
        done = subprocess.run([ROOT / "tools/numa_guest.sh", OUT, machine, QUIRE, commands, *files])
    text = (OUT / f"{machine}.txt").read_text() if done.returncode == 0 else ""
    if done.returncode != 0:
        check(False, f"machine {machine}: the guest did not come to its end")
    pieces = re.split(r"^== (\w+)\n", text, flags=re.M)
    return dict(zip(pieces[1::2], pieces[2::2]))


def counter(text, name):
    found = re.findall(rf"{name} (\d+)", text)
    return int(found[-1]) if found else -1


def rows(text, memory, node):
    """(right, wrong, absent) of the last table."""
    found = re.findall(rf"^  {memory} +{node} +(\d+) +(\d+) +(\d+)$", text, flags=re.M)
    return tuple(map(int, found[-1])) if found else (0, 0, 0)


def verified(parts, name, nodes, what):
    text = parts.get(name, "")
    print(f"{name}:")
    for line in re.findall(r"^(?:pages|  (?:weights|embedding|kv|scratch|buffers|queues|all) |  blocks|counters|  pages).*$", text, flags=re.M):
        print("   ", line)
    check(re.search(VERIFIED, text) and "status 0" in text, f"{name}: {what}: every page is where it should be")
    for node in nodes:
        for memory in "weights", "kv", "scratch":
            check(rows(text, memory, node)[0] > 0, f"{name}: node {node} holds {memory}")
    return text


def check_goldens(parts):
    text = parts.get("golden", "")
    for folder in GOLDENS:
        for dtype in "f32", "int8":
            check(re.search(rf"^golden {folder} {dtype} \d+ answers, \d+ bytes: equal$", text, flags=re.M),
                  f"golden {folder}, {dtype}: two nodes, one node and a pool that preempts give the same bytes")
        answers = {a["id"]: a for a in map(json.loads, re.findall(rf"^answer {folder} (.*)$", text, flags=re.M))}
        same = [answers.get(str(n), {}).get("tokens") == case["tokens"] for n, case in enumerate(cases_of(folder))]
        check(same and all(same), f"golden {folder}, f32: {sum(same)} of {len(same)} requests have the reference's tokens")


def check_two(parts):
    print(parts.get("machine", ""))
    check(len(re.findall(r"^  node [01] +[0-9.]+ +[0-9.]+ *$", parts.get("machine", ""), flags=re.M)) == 2,
          "machine: bandwidth of all pairs of nodes")
    text = verified(parts, "balanced", (0, 1), "automatic balancing on")
    check(counter(text, "prefix hits") > 0, "balanced: prefixes are found")
    verified(parts, "unbalanced", (0, 1), "automatic balancing off")
    verified(parts, "huge", (0, 1), "huge pages on")
    check_goldens(parts)
    text = verified(parts, "dry", (0, 1), "pools that run dry")
    check(counter(text, "blocks spilled") > 0, "dry: blocks spill to the other node, and are counted")
    check(counter(text, "KV bytes read from another node") > 0, "dry: reading them is counted")
    check(re.search(r"[1-9]\d* preemptions", text) and ", 0 failed," in text, "dry: some are preempted, none fails")
    verified(parts, "threads", (0, 1), "three threads on two nodes")
    text = verified(parts, "one_node", (1,), "an engine on node 1 alone")
    check("on 1 node" in text, "one_node: one node")
    verified(parts, "cut_cpus", (0, 1), "a cpuset with a CPU of each node")
    text = verified(parts, "cut_memory", (0,), "a cpuset with all CPUs and one node's memory")
    check("4 threads on 1 node" in text, "cut_memory: CPUs of the other node belong to the one with memory")
    refused = r"cannot be bound to NUMA node 1: Invalid argument"
    check(re.search(f"warning: .*{refused}", parts.get("refused", "")), "refused: a warning names the node")
    check("counters" in parts.get("refused", ""), "refused: and it runs")
    check(re.search(refused, parts.get("strict", "")) and "status 1" in parts.get("strict", ""),
          "strict: with numa.strict the same is an error")


TWO = ["machine", "balanced", "unbalanced", "huge", "golden", "dry", "threads", "one_node", "cut_cpus", "cut_memory",
       "refused", "strict"]
check_two(boot("two", TWO, 200, GOLDENS))
print("four nodes, one with memory alone and one with CPUs alone")
four = boot("four", ["machine", "balanced"], 200 if LONG else 80)
print(four.get("machine", ""))
verified(four, "balanced", (0, 1), "four uneven nodes")
if LONG:
    small = boot("four-small", ["machine", "balanced", "dry"], 200)
    verified(small, "balanced", (0, 1, 2), "four nodes, one of them small")
    verified(small, "dry", (0, 1, 2), "the same with few blocks")
print(f"numa: {len(failures)} checks failed" if failures else "numa: all checks passed")
sys.exit(1 if failures else 0)
