#!/usr/bin/env python3
"""`quire workload` from outside: descriptions, written traces, one error for bad input.

usage: workload_test.py QUIRE [unittest options]"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

QUIRE = sys.argv[1]


def workload(*arguments):
    done = subprocess.run([QUIRE, "workload", *arguments], capture_output=True, text=True, timeout=60)
    return done.stdout, done.returncode, done.stderr


class Workload(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name, text=None):
        path = os.path.join(self.folder.name, name)
        if text is not None:
            with open(path, "w") as file:
                file.write(text)
        return path

    def test_a_description_has_lengths_gaps_and_reuse(self):
        out, status, errors = workload("--profile", "gamma", "--burstiness", "0.25", "--num-prompts", "200",
                                       "--prompt-tokens", "64", "--set", "workload.prefix={groups=1,tokens=32}")
        self.assertEqual((status, errors), (0, ""))
        self.assertIn("200 requests, profile gamma, seed 42", out)
        self.assertIn("prompt tokens", out)
        self.assertIn("prefix reuse: 49.8 %", out)  # 199 of 200 find half
        self.assertLessEqual(max(map(len, out.splitlines())), 100)

    def test_a_written_trace_describes_as_the_workload_it_came_from(self):
        trace, first, second = self.path("a.jsonl"), self.path("a.json"), self.path("b.json")
        drawn = ["--profile", "poisson", "--num-prompts", "50", "--prompt-tokens", "lognormal:100:80"]
        self.assertEqual(workload(*drawn, "-o", trace)[1], 0)
        self.assertEqual(workload(*drawn, "-o", first)[1], 0)
        self.assertEqual(workload("--trace", trace, "-o", second)[1], 0)
        with open(first) as a, open(second) as b:
            one, two = json.load(a), json.load(b)
        self.assertEqual(one["schema"], "quire.workload/1")
        self.assertEqual(two.pop("profile"), "replay")
        self.assertEqual(one.pop("profile"), "poisson")
        self.assertEqual(one, two)

    def test_the_trace_on_stdout_leaves_the_description_to_stderr(self):
        out, status, errors = workload("--num-prompts", "3", "--output-tokens", "7", "-o", "-")
        self.assertEqual(status, 0)
        self.assertEqual([json.loads(line)["output_tokens"] for line in out.splitlines()], [7, 7, 7])
        self.assertIn("3 requests", errors)

    def test_bad_traces_are_one_error_line_with_a_place(self):
        header = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        for text, says in ((header + "0,1,1\n1,NaN,1\n", ":3: prompt tokens"), (header + "0,1\n", ":2: the row has fewer"),
                           ("a,b\n", ":1: the header"), (header + "3,1,1\n1,1,1\n", ":3: the time is before"),
                           (header + "1,99999999999,1\n", ":2: prompt tokens"), ("", "no requests")):
            out, status, errors = workload("--trace", self.path("bad.csv", text))
            self.assertEqual((out, len(errors.splitlines())), ("", 1), text)
            self.assertNotEqual(status, 0)
            self.assertIn(says, errors)

    def test_usage_errors_exit_with_2(self):
        for arguments, says in ((["-o", "x.csv"], "neither .jsonl nor .json"), (["--num-prompts", "0"], "num_prompts"),
                                (["--trace", self.path("t.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n1,1,1\n"),
                                  "--set", "workload.trace.format=burstgpt"], "looks like format azure")):
            out, status, errors = workload(*arguments)
            self.assertEqual(status, 2, errors)
            self.assertIn(says, errors)

    def test_a_full_disk_is_said(self):
        out, status, errors = workload("--num-prompts", "3", "-o", "/nonexistent/x.jsonl")
        self.assertEqual(status, 1)
        self.assertIn("/nonexistent/x.jsonl: No such file", errors)
        self.assertIn("3 requests", out)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
