#!/usr/bin/env python3
"""Of every model of tests/models: what a request gets does not depend on what is decoded with it, to the last bit.

usage: families_test.py QUIRE MODELS [--every-isa] [unittest options]
Each weight dtype is tested on one instruction set, taken in turn; --every-isa tests it on all that this CPU has."""
import collections
import concurrent.futures
import itertools
import os
import pathlib
import re
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json

QUIRE, MODELS = sys.argv[1], pathlib.Path(sys.argv[2])
EVERY_ISA = "--every-isa" in sys.argv
COPIES, LONGER = 6, 7  # tokens than the copy before: the last one needs a block of 32 more than the first
DTYPES = "f32", "bf16", "int8"  # of weights, keys and values
DRAFTS = {"scheduler.num_speculative_tokens": 3, "scheduler.prompt_lookup_max": 1, "scheduler.speculative_adaptive": False}
ALONE = {"scheduler.max_num_seqs": 1, "kv_cache.enable_prefix_caching": False, "kv_cache.num_kv_blocks": 64,
         "topology.threads": 1}
TOGETHER = {
    "chunks": {"scheduler.max_num_batched_tokens": 16, "scheduler.max_num_seqs": 16, "kv_cache.num_kv_blocks": 256,
               "topology.threads": 1},
    "drafts": {**DRAFTS, "kv_cache.enable_prefix_caching": False, "kv_cache.num_kv_blocks": 256, "topology.threads": 2},
    "few blocks": {**DRAFTS, "scheduler.max_num_batched_tokens": 24, "scheduler.max_num_seqs": 8, "scheduler.watermark": 0,
                   "topology.threads": 2}}


def cases_of(folder):
    return json.loads((folder / "expected.json").read_text())["cases"]


def requests_of(folder):
    """Copies of each case, longer and longer; every other one samples, so that their rows differ."""
    for copy, (number, case) in itertools.product(range(COPIES), enumerate(cases_of(folder))):
        sources = {key: case[key] for key in ("encoder_input", "encoder_features", "prompt") if key in case}
        yield {"id": f"{number}/{copy}", **sources, "max_tokens": case["max_tokens"] + LONGER * copy, "seed": copy,
               "temperature": copy % 2, "ignore_eos": True, "logits": "last", "logprobs": 0}


def blocks_of(case):
    """Of its longest copy; a pool of as many preempts the others."""
    encoder = len(case.get("encoder_input", [])) + len(case.get("encoder_features", [])) // 2
    decoder = len(case.get("prompt", [0])) + case["max_tokens"] + LONGER * (COPIES - 1)
    return -(-encoder // 32) - (-decoder // 32)


def decode(folder, isa, dtype, settings):
    """Answers by id, and what is printed."""
    settings = {"model.weight_dtype": dtype, "kv_cache.dtype": dtype, "topology.bind": "none", **settings}
    arguments = [part for key, value in settings.items() for part in ("--set", f"{key}={value}".lower())]
    done = subprocess.run([QUIRE, "generate", "--model", folder, *arguments], capture_output=True, text=True, timeout=300,
                          input="".join(json.dumps(request) + "\n" for request in requests_of(folder)),
                          env={**os.environ, "QUIRE_ISA": isa})
    if done.returncode != 0:
        raise RuntimeError(f"{folder.name}, {dtype}, {isa}, {settings}: {done.stderr}")
    return {answer["id"]: answer for answer in map(json.loads, done.stdout.splitlines())}, done.stderr


def instruction_sets():
    folder = MODELS / "llama-linear"
    return [isa for isa in ("scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx")
            if f"; {isa}," in decode(folder, isa, "f32", ALONE)[1]]


def differences(folder, isa, dtype):
    """What was wrong, in words; and how many were preempted, by model, or cached, or drafts that were accepted."""
    where, wrong, counts = f"{folder.name}, {dtype}, {isa}", [], collections.Counter()
    alone, _ = decode(folder, isa, dtype, ALONE)
    for number, case in enumerate(cases_of(folder)):
        if dtype == "f32" and alone[f"{number}/0"]["tokens"] != case["tokens"]:
            wrong.append(f"{where}: case {number} has other tokens than the reference")
    for name, settings in TOGETHER.items():
        if name == "few blocks":
            settings = {**settings, "kv_cache.num_kv_blocks": max(map(blocks_of, cases_of(folder)))}
        answers, printed = decode(folder, isa, dtype, settings)
        other = [id for id in alone
                 if any(answers[id].get(key) != alone[id][key] for key in ("tokens", "logprobs", "last_logits"))]
        if other:
            wrong.append(f"{where}, {name}: not what they get alone: requests {', '.join(other)}")
        counts[folder.name] += sum(answer["num_preemptions"] for answer in answers.values())
        counts["cached"] += sum(answer["num_cached_tokens"] for answer in answers.values())
        counts["accepted"] += sum(map(int, re.findall(r"(\d+) of \d+ drafts accepted", printed)))
    return wrong, counts


class Families(unittest.TestCase):
    def test_every_model_gives_a_request_the_same_bits_in_any_batch(self):
        folders, sets = sorted(path.parent for path in MODELS.glob("*/expected.json")), instruction_sets()
        pairs = list(itertools.product(folders, DTYPES))
        if EVERY_ISA:
            jobs = [(folder, isa, dtype) for folder, dtype in pairs for isa in sets]
        else:
            jobs = [(folder, sets[number % len(sets)], dtype) for number, (folder, dtype) in enumerate(pairs)]
        with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            results = list(pool.map(differences, *zip(*jobs)))
        wrong = [line for lines, _ in results for line in lines]
        self.assertFalse(wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong[:20]))
        total = sum((counts for _, counts in results), collections.Counter())
        for what in *(folder.name for folder in folders), "cached", "accepted":
            self.assertGreater(total[what], 0, what)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *(word for word in sys.argv[3:] if word != "--every-isa")])
