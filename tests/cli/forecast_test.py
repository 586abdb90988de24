#!/usr/bin/env python3
"""`quire check` and the virtual clock say the same number of KV blocks for the same cache.

usage: forecast_test.py QUIRE [unittest options]"""
import itertools
import pathlib
import re
import subprocess
import sys
import unittest

QUIRE = sys.argv[1]
STEPS = pathlib.Path(__file__).parents[2] / "bench" / "scenarios" / "tinyllama-2cores.steps.jsonl"


def blocks(*arguments):
    done = subprocess.run([QUIRE, *arguments, "--model", "tiny", "--set", "scheduler.max_num_seqs=4"],
                          capture_output=True, text=True, timeout=60)
    found = re.search(r"(\d+) (?:KV )?blocks of (\d+) tokens", done.stdout)
    return found.groups() if found else done.stdout + done.stderr


class Forecast(unittest.TestCase):
    def test_check_and_virtual_clock_agree_on_the_number_of_blocks(self):
        for size, dtype, head_dim, tokens in itertools.product(
                ["600001B", "4MiB"], ["f32", "bf16", "int8"], [16, 24], [32, 128]):
            cache = ["--set", f"kv_cache.size={size}", "--set", f"kv_cache.dtype={dtype}",
                     "--set", f"model.shape.head_dim={head_dim}", "--set", f"kv_cache.block_size={tokens}"]
            with self.subTest(cache=cache):
                forecast = blocks("check", *cache)
                simulated = blocks("bench", "--dry-run", "--set", "run.clock=virtual",
                                   "--set", f"run.cost_model={STEPS}", *cache)
                self.assertEqual(forecast, simulated)
                self.assertEqual(int(forecast[1]), tokens)

    def test_weights_that_do_not_fit_are_no_fault_of_the_cache(self):
        large = ["--model", "llama-3.1-8b", "--set", "model.shape.num_hidden_layers=2000"]
        for command in (["check"], ["check", "--set", "kv_cache.size=1MiB"], ["bench", "--dry-run"], ["generate"]):
            done = subprocess.run([QUIRE, *command, *large], input="", capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 2, (command, done.stderr))
            self.assertRegex(done.stderr, r"the weights, \d+ MiB, are more than the \d+ MiB available; less is needed with a "
                                          r"smaller model.weight_dtype, .*num_hidden_layers")
            self.assertNotIn("kv_cache", done.stderr)

    def test_a_cache_that_is_short_of_max_model_len_is_warned_of_as_by_an_engine(self):
        warning = ("KV cache: 8 blocks of 32 tokens hold a sequence of 257 tokens at most, the last of which is not stored; "
                   "max_model_len is 2048\n")
        small = ["--model", "tiny", "--set", "kv_cache.num_kv_blocks=8"]
        for command in (["check"], ["bench", "--dry-run"], ["generate"]):
            done = subprocess.run([QUIRE, *command, *small], input="", capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stderr.count(warning), 1, (command, done.stderr))
        enough = subprocess.run([QUIRE, "check", *small[:2], "--set", "kv_cache.num_kv_blocks=64"], capture_output=True,
                                text=True, timeout=60)
        self.assertEqual(enough.stderr, "")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
