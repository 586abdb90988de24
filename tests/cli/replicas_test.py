#!/usr/bin/env python3
"""`quire replicas` from outside: the same numbers twice, routing that shows, one error for bad input.

usage: replicas_test.py QUIRE [unittest options]"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

QUIRE = sys.argv[1]
SCENARIOS = pathlib.Path(__file__).resolve().parents[2] / "bench" / "scenarios"


class Replicas(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.trace = os.path.join(self.folder.name, "trace.jsonl")
        with open(self.trace, "w") as file:  # 8 conversations of 10 rounds, each with the tokens of the one before
            for turn in range(10):
                for c in range(8):
                    file.write(json.dumps({"timestamp": turn * 4000 + c * 500, "input_length": 1024 * (turn + 1),
                                           "output_length": 64,
                                           "hash_ids": [c * 100 + i for i in range(2 * (turn + 1))]}) + "\n")

    def replicas(self, *arguments):
        done = subprocess.run([QUIRE, "replicas", str(SCENARIOS / "mooncake_replicas.toml"), "--trace", self.trace,
                               *arguments], capture_output=True, text=True, timeout=120)
        rows = [line.split() for line in done.stdout.splitlines()[1:] if line.split()[1] in ("random", "least_loaded", "prefix")]
        return rows, done.returncode, done.stderr

    def test_the_same_numbers_twice(self):
        command = ("--set", "replicas.count=[1, 4]")
        (first, status, errors), (second, _, _) = self.replicas(*command), self.replicas(*command)
        self.assertEqual(status, 0, errors)
        self.assertEqual([(row[0], row[1], row[2]) for row in first],
                         [(n, routing, str(80 * int(n))) for n in "14" for routing in ("random", "least_loaded", "prefix")])
        self.assertEqual([row[:-1] for row in first], [row[:-1] for row in second])
        hits = [float(row[4].rstrip("%")) for row in first]
        self.assertEqual(hits[0], hits[1])
        self.assertEqual(hits[1], hits[2])
        self.assertGreater(hits[5], hits[3])
        self.assertGreater(hits[5], hits[4])

    def test_errors(self):
        for arguments, words in [(["--set", "run.clock=real"], "virtual"),
                                 (["--set", 'replicas.routing=["best"]'], "[replicas] routing[0]"),
                                 (["--set", "replicas.count=[0]"], "[replicas] count[0]"),
                                 (["--profile", "concurrent"], "arrivals of its own"),
                                 (["--set", "kv_cache.num_kv_blocks=auto"], "num_kv_blocks"),
                                 (["--dry-run"], "--dry-run")]:
            with self.subTest(arguments):
                rows, status, errors = self.replicas(*arguments)
                self.assertNotEqual(status, 0)
                self.assertEqual(rows, [])
                self.assertIn(words, errors)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
