#!/usr/bin/env python3
"""`quire shapes`: the table, its marks, its JSON, refusals. That an engine does what it shows: test_shape_table.c.
Usage: shapes_test.py TOOL"""
import json
import re
import subprocess
import sys
import unittest

TOOL = sys.argv.pop(1)


def run(*arguments):
    return subprocess.run([TOOL, "shapes", *map(str, arguments)], capture_output=True, text=True, timeout=120)


def lines(*arguments):
    """name -> its cells, of the table."""
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return {line[2:33].strip(): re.split(r"(?<!x) +(?!x)", line[69:].strip()) for line in done.stdout.splitlines() if line[:2] == "  "}


class Shapes(unittest.TestCase):
    def test_a_decoder_grows_in_its_own_attention_alone(self):
        table = lines("--model", "tinyllama-1.1b", "--prompts", 5)
        self.assertEqual(table["qkv"], ["5", "1*", "1", "1"])
        self.assertEqual(table["scores, 32 heads"], ["5 x 5", "1 x 6*", "1 x 7*", "1 x 8*"])
        marked = {name for name, cells in table.items() if "*" in cells[-1]}
        self.assertEqual(marked, {"scores, 32 heads", "sums, 32 heads"})

    def test_cross_attention_keeps_the_inputs_length(self):
        table = lines("--model", "t5-small", "--inputs", 9, "--steps", 3)
        self.assertEqual(table["cross scores, 8 heads"], ["1 x 9"] * 3)
        self.assertEqual(table["scores, 8 heads"], ["1 x 1", "1 x 2*", "1 x 3*"])  # the decoder's, which stands last
        self.assertEqual(table["cross kv"], ["9", "-", "-"])

    def test_sequences_share_rows_and_nothing_else(self):
        table = lines("--model", "t5-small", "--inputs", "9,4", "--prompts", "3,1", "--steps", 2)
        self.assertEqual(table["qkv"], ["4", "2*"])
        self.assertEqual((table["cross scores of 1, 8 heads"], table["cross scores of 2, 8 heads"]),
                         (["3 x 9", "1 x 9*"], ["1 x 4", "1 x 4"]))

    def test_a_window_ends_the_growth_of_its_layers(self):
        done = run("--model", "gemma-3-1b", "--prompts", 511, "--json")
        products = json.loads(done.stdout)["products"]
        keys = {p["group"]: [shape[2] for shape in p["shapes"]] for p in products if p["name"] == "scores"}
        self.assertEqual(keys, {"decoder, 22 of 26 layers, window 512": [511, 512, 512, 512],
                                "decoder, 4 of 26 layers": [511, 512, 513, 514]})

    def test_json_and_table_have_the_same(self):
        arguments = ("--model", "t5-small", "--inputs", "9,4", "--steps", 3)
        result = json.loads(run(*arguments, "--json").stdout)
        self.assertEqual((result["schema"], result["model"], result["model_type"]), ("quire.shapes/1", "t5-small", "t5"))
        self.assertEqual([step["rows_encoder"] for step in result["steps"]], [13, 0, 0])
        table = [line[69:].replace("*", "").split("  ") for line in run(*arguments).stdout.splitlines() if line[:2] == "  "]
        for product, cells in zip(result["products"], table[1:], strict=True):
            keys = 1 if product["name"].endswith("sums") else 2
            shown = ["-" if shape is None else f"{shape[0]} x {shape[keys]}" if "sequence" in product else str(shape[0])
                     for shape in product["shapes"]]
            self.assertEqual([cell.strip() for cell in cells if cell.strip()], shown)

    def test_wide_cells_stay_apart(self):
        table = lines("--model", "llama-3.2-1b", "--prompts", 131000, "--set", "scheduler.max_num_batched_tokens=65536")
        self.assertEqual(table["sums, 32 heads"], ["65536 x 65536", "65464 x 131000*", "1 x 131001*", "1 x 131002*"])

    def refused(self, message, *arguments, status=2):
        done = run(*arguments)
        self.assertEqual((done.returncode, done.stdout), (status, ""), done.stderr)
        self.assertIn(message, done.stderr)

    def test_what_cannot_be_is_refused(self):
        self.refused("--prompts: 0 is not in 1..", "--model", "tiny", "--prompts", 0)
        self.refused("--prompts: x is not in 1..", "--model", "tiny", "--prompts", "3,x")
        self.refused("--prompts:  is not in 1..", "--model", "tiny", "--prompts", "3,")
        self.refused("--prompts: more than 8", "--model", "tiny", "--prompts", "1,1,1,1,1,1,1,1,1")
        self.refused("--steps: 33 is not in 1..32", "--model", "tiny", "--steps", 33)
        self.refused("--steps: 3,4 is not in", "--model", "tiny", "--steps", "3,4")
        self.refused("tiny is decoder-only", "--model", "tiny", "--inputs", 3)
        self.refused("--inputs: 2 lengths beside 3", "--model", "t5-small", "--inputs", "1,2", "--prompts", "1,2,3")
        self.refused("max_model_len", "--model", "tiny", "--prompts", 2048)
        self.refused("is not one of", "--model", "none")


if __name__ == "__main__":
    unittest.main()
