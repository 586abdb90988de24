#!/usr/bin/env python3
"""`quire perplexity`: the number that its definition gives, and refusals. Usage: perplexity_test.py TOOL"""
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

TOOL = sys.argv.pop(1)
CTX = 48


def run(*arguments, text=None):
    return subprocess.run([TOOL, *map(str, arguments)], input=text, capture_output=True, text=True, timeout=120)


class Perplexity(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.file = pathlib.Path(self.folder.name, "ids")
        random.seed(1)
        self.ids = [random.randrange(256) for _ in range(10 * CTX + 7)]
        self.file.write_text(json.dumps(self.ids))

    def measured(self, *arguments):
        done = run("perplexity", "--model", "tiny", "--json", "--ctx-size", CTX, *arguments, self.file)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def by_definition(self, ids):
        """From the log probabilities that a generate request has of the same chunks."""
        chunks = [ids[i:i + CTX] for i in range(0, len(ids) - CTX + 1, CTX)]
        lines = "".join(json.dumps({"prompt": c, "max_tokens": 1, "prompt_logprobs": 0}) + "\n" for c in chunks)
        done = run("generate", "--model", "tiny", text=lines)
        scored = [x for line in done.stdout.splitlines() for x in json.loads(line)["prompt_logprobs"][CTX // 2 + 1:]]
        self.assertEqual(len(scored), len(chunks) * (CTX - 1 - CTX // 2))
        mean = -sum(scored) / len(scored)
        variance = sum(x * x for x in scored) / len(scored) - mean * mean
        return len(scored), math.exp(mean), math.exp(mean) * math.sqrt(variance / (len(scored) - 1))

    def test_it_is_what_its_definition_gives(self):
        scored, perplexity, error = self.by_definition(self.ids)
        result = self.measured()
        self.assertEqual((result["chunks"], result["tokens_scored"]), (10, scored))
        self.assertAlmostEqual(result["perplexity"] / perplexity, 1, places=6)
        self.assertAlmostEqual(result["standard_error"] / error, 1, places=4)

    def test_a_token_of_the_start_replaces_the_first_of_each_chunk(self):
        ids = [7 if i % CTX == 0 else t for i, t in enumerate(self.ids)]
        self.assertAlmostEqual(self.measured("--bos", 7)["perplexity"] / self.by_definition(ids)[1], 1, places=6)

    def test_batches_do_not_change_it(self):
        alone = self.measured("--set", "scheduler.max_num_seqs=1")
        few = self.measured("--set", "scheduler.max_num_batched_tokens=16", "--set", "scheduler.max_num_seqs=3",
                            "--set", "kv_cache.num_kv_blocks=5")
        self.assertEqual(alone["perplexity"], few["perplexity"])

    def test_numbers_may_stand_between_spaces(self):
        before = self.measured()
        self.file.write_text("\n".join(map(str, self.ids)))
        self.assertEqual(self.measured()["perplexity"], before["perplexity"])

    def test_chunks_are_as_long_as_short_models_take(self):
        done = run("perplexity", "--model", "tiny", "--json", "--set", "model.max_model_len=40", self.file)
        self.assertEqual(json.loads(done.stdout)["ctx_size"], 39)
        done = run("perplexity", "--model", "tiny", "--json", "--ctx-size", 4, self.file)
        self.assertEqual(json.loads(done.stdout)["tokens_scored"], len(self.ids) // 4)

    def refused(self, message, *arguments, status=1):
        done = run("perplexity", "--model", "tiny", *arguments)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn(message, done.stderr)
        self.assertEqual(done.stdout, "")

    def test_what_is_no_text_is_refused_by_place(self):
        for text, message in (("1 2\n3 x", ':2: "x" is not a token id of 0..255'), ("256", '"256" is not'),
                              ("-1", '"-1" is not'), ("1 2 3", "3 tokens are less than one chunk"),
                              ("99999999999999999999", "is not a token id"), ("1 \0 2", "is not a token id"),
                              ("1 2\0003", '"2?3" is not a token id'), ("+4", '"+4" is not')):
            self.file.write_text(text)
            self.refused(message, self.file)
        self.refused("No such file", self.folder.name + "/none")
        self.refused("--ctx-size: 3 is not in 4..", "--ctx-size", 3, self.file, status=2)
        self.refused("--bos: 256 is not a token id", "--bos", 256, self.file)
        self.refused("a file of token ids is needed", status=2)
        self.file.write_text(json.dumps(self.ids))
        self.refused("--ctx-size: 48 is not in 4..39 (max_model_len 40 - 1)", "--ctx-size", CTX, "--set", "model.max_model_len=40", self.file)
        self.refused("only decoder-only models", "--model", "t5-small", self.file)


if __name__ == "__main__":
    unittest.main()
