#!/usr/bin/env python3
"""quire kernel: the JSON has what it promises, its numbers agree with each other, wrong parameters are refused.

usage: kernel_test.py QUIRE"""
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json

QUIRE = sys.argv[1]
SMALL = ["--rounds", "2", "--threads", "2"]
FIELDS = {"name", "params", "seconds", "bytes", "flops", "gbs", "gflops", "limit", "fraction"}


def kernel(*arguments):
    return subprocess.run([QUIRE, "kernel", *arguments], capture_output=True, text=True, timeout=120)


def variants(*arguments):
    done = kernel(*arguments, *SMALL, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "quire.kernel/1"
    return document["variants"]


def first(*arguments):
    """The first variant behind R."""
    found = variants(*arguments)
    assert found[0]["name"].startswith("R"), found[0]
    return found[1]


class Json(unittest.TestCase):
    def check(self, variant):
        self.assertLessEqual(FIELDS, set(variant))
        self.assertGreater(variant["seconds"], 0)
        if variant["bytes"]:
            self.assertAlmostEqual(variant["gbs"], variant["bytes"] / variant["seconds"] / 1e9, delta=variant["gbs"] * 1e-3)
        if variant["limit"]:
            reached = variant["gflops"] if variant["limit_unit"] == "GFLOP/s" else variant["gbs"]
            self.assertAlmostEqual(variant["fraction"], reached / variant["limit"], delta=variant["fraction"] * 1e-3)

    def test_limits_has_reading_runs_products_and_the_barrier(self):
        found = variants("limits")
        for variant in found:
            self.check(variant)
        names = " ".join(a["name"] for a in found)
        for part in ("R, ", "runs of 4 KiB", "runs of 1024 KiB", "f32", "bf16", "int8", "barrier"):
            self.assertIn(part, names)

    def test_scheduler_plans_and_commits(self):
        done = subprocess.run([QUIRE, "kernel", "scheduler", "--rounds", "1", "--steps", "4"], capture_output=True, text=True,
                              timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("100000 waiting against 10000", done.stdout)

    def test_limits_below_a_cap_has_no_faster_instruction_set(self):
        names = " ".join(a["name"] for a in variants("limits", "--isa", "scalar"))
        self.assertIn("P scalar", names)
        self.assertNotIn("P avx", names)

    def test_attention_makes_a_variant_of_every_combination(self):
        found = variants("attention", "--kv-heads", "2", "--q-heads", "2,8", "--dtype", "bf16,int8", "--context", "512",
                     "--sequences", "3", "--run-length", "0,32K")
        for variant in found:
            self.check(variant)
        self.assertEqual(len([a for a in found if a["name"].startswith(("bf16", "int8"))]), 2 * 2 * 2 * 2)

    def test_attention_counts_visible_keys(self):
        variant = first("attention", "--kv-heads", "2", "--q-heads", "8", "--dtype", "bf16", "--context", "300",
                   "--sequences", "3", "--head-dim", "64")
        self.assertEqual(variant["bytes"], 3 * 300 * 2 * 2 * 64 * 2)
        self.assertEqual(variant["flops"], 3 * 300 * 8 * 4 * 64)

    def test_attention_of_many_rows_is_measured_against_multiplication(self):
        variant = first("attention", "--kv-heads", "1", "--q-heads", "2", "--dtype", "bf16", "--rows", "64")
        self.assertEqual(variant["limit_name"], "P")
        self.assertEqual(variant["flops"], 64 * 65 // 2 * 2 * 4 * 128)

    def test_ragged_lengths_lie_in_their_range(self):
        variant = first("attention", "--kv-heads", "1", "--q-heads", "1", "--dtype", "bf16", "--lengths", "32:512")
        self.assertLessEqual(variant["params"]["longest"], 512)
        self.assertGreaterEqual(variant["imbalance"], 1)
        self.assertLess(variant["bytes"], 32 * 512 * 2 * 128 * 2)


    def test_projection_counts_weights_and_products(self):
        found = variants("projection", "--k", "256", "--n", "640", "--rows", "1,32", "--dtype", "f32")
        for variant in found:
            self.check(variant)
        own = [a for a in found if a["params"].get("path") == "quire"]
        self.assertEqual([a["params"]["m"] for a in own], [1, 32])
        for variant in own:
            self.assertEqual(variant["bytes"], variant["params"]["products"] * 256 * 640 * 4)
            self.assertEqual(variant["flops"], variant["params"]["products"] * 2 * 256 * 640 * variant["params"]["m"])
        self.assertEqual(own[0]["params"]["products"], 2 * own[1]["params"]["products"])


    def test_projection_of_four_bits_counts_codes_and_scales(self):
        variant = first("projection", "--k", "256", "--n", "640", "--rows", "5", "--dtype", "int4", "--group-size", "64")
        self.assertEqual(variant["bytes"], variant["params"]["products"] * 640 * (256 // 2 + 256 // 64 * 2))

    def test_rowwise_and_barrier_measure_something(self):
        rowwise = variants("rowwise", "--k", "512")
        for variant in rowwise + variants("barrier"):
            self.check(variant)
        self.assertIn("rms_norm to bf16", [a["name"] for a in rowwise])
        self.assertTrue(all(a["limit_name"] == "C" for a in rowwise[2:]))


    def test_rows_of_one_element_are_measured_in_few_calls(self):
        for variant in variants("rowwise", "--k", "1")[2:]:
            self.assertLessEqual(variant["bytes"], 2 * 8 * 65536)  # of two threads

    def test_step_counts_every_sequences_own_keys_and_its_shares_add_up(self):
        def bytes_of(context):
            found = variants("step", "--model", "tiny", "--rows", "1,3", "--context", str(context), "--dtype", "bf16,int8")
            for variant in found:
                self.check(variant)
            steps = [a for a in found if "rows" in a["params"]]
            self.assertEqual([a["params"]["rows"] for a in steps], [1, 3, 1, 3])
            for variant in steps:
                shares = [value for key, value in variant.items() if key.endswith("_share")]
                self.assertEqual(len(shares), 7)
                self.assertAlmostEqual(sum(shares), 1, places=9)
            return [a["bytes"] for a in steps]

        grown = [b - a for a, b in zip(bytes_of(64), bytes_of(192))]
        self.assertGreater(grown[0], 0)
        self.assertEqual(grown[1], 3 * grown[0])
        self.assertEqual(grown[3], 3 * grown[2])
        self.assertLess(grown[2], grown[0])

    def test_step_takes_fewer_layers_of_a_preset(self):
        one, two = (first_step("--model", "tiny", "--rows", "2", "--context", "32", "--layers", n)["bytes"] for n in "12")
        self.assertGreater(two, one)

    def test_step_computes_a_whole_prompt_beside_the_decode_steps(self):
        found = variants("step", "--model", "tiny", "--rows", "2", "--context", "32", "--prompt", "100")
        prompt, = (a for a in found if "prompt" in a["params"])
        self.check(prompt)
        decode = next(a for a in found if "rows" in a["params"])
        self.assertEqual(prompt["params"]["prompt"], 100)
        self.assertAlmostEqual(sum(value for key, value in prompt.items() if key.endswith("_share")), 1, places=9)
        self.assertGreater(prompt["flops"], 40 * decode["flops"])  # 100 rows, of 2; the logits of one

    def test_step_of_an_encoder_decoder_model_reads_its_encoders_keys(self):
        few, many = (first_step("--model", "t5-small", "--rows", "2", "--context", str(c)) for c in (32, 64))
        self.assertEqual(many["bytes"] - few["bytes"], 2 * 32 * 2 * 8 * 64 * 2 * 6)  # sequences, tokens, K and V, ...


def first_step(*arguments):
    return next(a for a in variants("step", *arguments) if "rows" in a["params"])


class Refusals(unittest.TestCase):
    def refused(self, message, *arguments):
        done = kernel(*arguments)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(message, done.stderr)
        self.assertEqual(done.stdout, "")

    def test_wrong_parameters_are_named(self):
        self.refused("nonsense", "nonsense")
        self.refused("--rows", "attention", "--rows", "0")
        self.refused("--n", "projection", "--n", "0")
        self.refused("--dtype", "attention", "--dtype", "fp8")
        self.refused("--q-heads 3", "attention", "--kv-heads", "2", "--q-heads", "3")
        self.refused("--run-length", "attention", "--run-length", "4K")
        self.refused("--lengths", "attention", "--lengths", "9:3")
        self.refused("--rows 9", "attention", "--rows", "9", "--context", "4")
        self.refused("head_dim", "attention", "--head-dim", "10", "--context", "64")
        self.refused("is not one of", "limits", "--isa", "neon")
        self.refused("gpt-5", "step", "--model", "gpt-5")
        self.refused("--context 3000", "step", "--context", "3000")
        self.refused("--prompt 3000", "step", "--prompt", "3000")
        self.refused("--prompt 10", "step", "--model", "t5-small", "--prompt", "10")
        self.refused("--block-size 48", "step", "--model", "tiny", "--block-size", "48")
        self.refused("--context and --lengths", "attention", "--context", "64", "--lengths", "32:64")

    def test_more_than_memory_is_refused_with_the_options_that_ask_for_it(self):
        self.refused("--q-heads 32768", "attention", "--q-heads", "32768")
        self.refused("--rows 16 of --sequences 4096 with --q-heads 16384", "attention", "--rows", "16", "--sequences",
                     "4096", "--q-heads", "16384", "--head-dim", "256", "--context", "32")

    def test_more_blocks_than_32_bits_count_are_refused(self):
        for context in ("2097184", "16777216"):  # 65537 blocks of 65536 sequences are 65536 too many, 2^35 would be 0
            self.refused(f"--sequences 65536 of up to {context} tokens", "attention", "--rounds", "1", "--sequences", "65536",
                         "--context", context, "--kv-heads", "1", "--head-dim", "4", "--q-heads", "1", "--dtype", "f32")

    def test_runs_longer_than_all_keys_and_values_are_refused(self):
        small = ("--context", "64", "--sequences", "1", "--kv-heads", "1", "--dtype", "f32")
        self.refused("--run-length 1048575998951424: all keys and values in f32 have 65536 bytes", "attention", *small,
                     "--run-length", "999999999M")

    def test_options_of_other_kernels_are_refused_by_name(self):
        for what, option, value, owners in (
                ("limits", "--rows", "4", "attention, projection, step"), ("projection", "--kv-heads", "4", "attention"),
                ("rowwise", "--dtype", "f32", "attention, projection, step"), ("barrier", "--k", "64", "projection, rowwise"),
                ("step", "--steps", "4", "scheduler"),
                ("scheduler", "--threads", "1", "attention, barrier, limits, projection, rowwise, step")):
            self.refused(f"kernel {what}: {option} does not apply; it applies to: {owners}\n", what, option, value)

    def test_help_of_one_kernel_shows_its_own_options(self):
        def helped(*arguments):
            done = kernel(*arguments)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout

        self.assertIn("--q-heads", helped("--help"))
        for arguments in (("projection", "--help"), ("--help", "projection")):
            text = helped(*arguments)
            self.assertIn("--n=", text)
            self.assertIn("against a plain read, a register loop and oneDNN", text.replace("\n", " "))
            self.assertNotIn("--q-heads", text)
            self.assertNotIn("scheduler", text)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
