#!/usr/bin/env python3
"""`quire workload` from outside: descriptions, written traces, one error for bad input.

usage: workload_test.py QUIRE [unittest options]"""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json

QUIRE = sys.argv[1]


TINY = ["--model", "tiny", "--set", "kv_cache.num_kv_blocks=64", "--num-prompts", "60", "--prompt-tokens", "16",
        "--output-tokens", "8", "--set", "output.progress=none", "--set", "run.limits=false"]


def bench(*arguments):
    done = subprocess.run([QUIRE, "bench", *arguments], capture_output=True, text=True, timeout=120)
    return done.stdout, done.returncode, done.stderr


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

    def test_rows_without_tokens_are_counted_and_warned_of_once(self):
        trace = self.path("e.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n1,0,0\n1.01,5,0\n1.02,0,0\n1.03,4,4\n")
        out, status, errors = workload("--trace", trace)
        self.assertIn("; 2 without tokens are played with 1 + 1\n", out, errors)
        for more in ([], ["--dry-run"], ["--repetitions", "2"]):
            out, status, errors = bench(*TINY[:4], "--trace", trace, *TINY[-4:], *more)
            self.assertEqual(errors.count("2 rows of the trace have neither input nor output tokens"), 1, errors)

    def test_bad_traces_are_one_error_line_with_a_place(self):
        header = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        for text, says in ((header + "0,1,1\n1,NaN,1\n", ":3: prompt tokens"), (header + "0,1\n", ":2: the row has fewer"),
                           ("a,b\n", ":1: the header"), (header + "3,1,1\n1,1,1\n", ":3: the time is before"),
                           (header + "1,99999999999,1\n", ":2: prompt tokens"), ("", "no requests")):
            out, status, errors = workload("--trace", self.path("bad.csv", text))
            self.assertEqual((out, len(errors.splitlines())), ("", 1), text)
            self.assertNotEqual(status, 0)
            self.assertIn(says, errors)

    def test_bytes_of_a_file_do_not_reach_the_terminal(self):
        path = self.path("bad.csv")
        with open(path, "wb") as file:
            file.write(b"\x1b[2J\x07\x9b31m\xff\xc3\xa9,x\n")
        done = subprocess.run([QUIRE, "workload", "--trace", path], capture_output=True, timeout=60)
        self.assertIn(b'found "\\x1b[2J\\x07\\x9b31m\\xff\xc3\xa9,x"', done.stderr)

    def test_usage_errors_exit_with_2(self):
        for arguments, says in ((["-o", "x.csv"], "neither .jsonl nor .json"), (["--num-prompts", "0"], "num_prompts"),
                                (["--trace", self.path("t.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n1,1,1\n"),
                                  "--set", "workload.trace.format=burstgpt"], "looks like format azure")):
            out, status, errors = workload(*arguments)
            self.assertEqual(status, 2, errors)
            self.assertIn(says, errors)

    def test_a_file_that_cannot_be_written_is_said_before_the_work(self):
        out, status, errors = workload("--num-prompts", "3", "-o", "/nonexistent/x.jsonl")
        self.assertEqual((out, status), ("", 2))
        self.assertIn("/nonexistent/x.jsonl: No such file", errors)
        out, status, errors = workload("--num-prompts", "3", "-o", self.folder.name + "/x.json/../")
        self.assertEqual((out, status), ("", 2))


class Requests(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def test_requests_of_generate_are_played_with_their_ids(self):
        path, out = os.path.join(self.folder.name, "r.jsonl"), os.path.join(self.folder.name, "o.json")
        with open(path, "w") as file:
            for i in range(40):
                file.write(json.dumps({"prompt": [i + 1] * (3 + i), "max_tokens": 5, "n": 1 + i % 2, "arrival_ms": i}) + "\n")
        _, status, errors = bench("--model", "tiny", "--requests", path, "--num-prompts", "3", "--set",
                                  "load.profile=replay", "--set",
                                  "run.limits=false", "--set", "run.verify_fraction=1", "--set",
                                  "kv_cache.num_kv_blocks=256", "-o", out)
        self.assertEqual(status, 0, errors)
        with open(out) as file:
            result = json.load(file)
        self.assertEqual(result["disclosure"]["workload"], "file")
        self.assertIn("--num-prompts: workload.num_prompts only applies to random workloads", errors)
        requests = result["runs"][0]["requests"]
        self.assertEqual((requests["completed"], requests["verified"]), (40, 40))
        check = [c for c in result["validity"]["checks"] if c["id"] == "verified"][0]
        self.assertTrue(check["ok"])
        _, status, errors = workload("--requests", path, "-o", "-")
        self.assertEqual(status, 2, errors)
        self.assertIn("cannot be written as a trace", errors)
        with open(path, "a") as file:
            file.write('{"prompt": [1], "beam_width": 2, "arrival_ms": 99}\n')
        log = os.path.join(self.folder.name, "x.steps.jsonl")
        with open(log, "w") as file:
            file.write(40 * (json.dumps({key: 1 for key in (
                "run", "running", "waiting", "rows", "rows_encoder", "rows_logits", "sequences", "kv_tokens", "kv_pairs",
                "cross_tokens", "cross_pairs", "encoder_pairs", "plan_us", "forward_us", "sample_us", "commit_us", "t_ns")})
                + "\n"))
        _, status, errors = bench("--model", "tiny", "--requests", path, "--set", "run.clock=virtual", "--set",
                                  "run.cost_model=" + log, "--set", "kv_cache.num_kv_blocks=64")
        self.assertEqual(status, 2, errors)
        self.assertIn("beam search", errors)


class VirtualClock(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def test_a_run_is_simulated_from_the_log_of_a_real_one(self):
        log = self.path("real.steps.jsonl")
        out, status, errors = bench(*TINY, "--max-num-seqs", "8", "-o", log)  # so many steps on the slowest machine, too
        self.assertEqual(status, 0, errors)
        virtual = [*TINY, "--set", "run.clock=virtual", "--set", "run.cost_model=" + log]
        results = []
        for name in ("a.json", "b.json"):
            out, status, errors = bench(*virtual, "-o", self.path(name))
            self.assertEqual(status, 0, errors)
            with open(self.path(name)) as file:
                results.append(json.load(file))
        self.assertIn("SIMULATED on the virtual clock", out)
        plan, status, errors = bench(*virtual, "--dry-run")
        self.assertEqual(status, 0, errors)
        for words in ("64 KV blocks of 32 tokens", "no model is loaded", "simulated  at least", "60 requests"):
            self.assertIn(words, plan)
        self.assertIn("its error per step: median", out)
        self.assertLessEqual(max(map(len, out.splitlines())), 100)
        first, second = results
        self.assertEqual(first["disclosure"]["clock"], "virtual")
        self.assertGreaterEqual(first["cost_model"]["fitted_steps"], 32)
        self.assertEqual(first["runs"][0]["requests"]["completed"], 60)
        self.assertEqual(first["runs"], second["runs"])  # to the last digit

    def test_the_scenarios_of_the_studies_run(self):
        root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
        azure, mooncake = self.path("azure.csv"), self.path("mooncake.jsonl")
        with open(azure, "w") as file:
            file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
            file.writelines(f"{i},{100 + 37 * i % 900},{5 + i % 20}\n" for i in range(60))
        with open(mooncake, "w") as file:
            file.writelines(json.dumps({"timestamp": 100 * i, "input_length": 1024, "output_length": 8,
                                        "hash_ids": [i % 5, 100 + i]}) + "\n" for i in range(60))
        for scenario, trace, points in (("azure_preemption", azure, 6), ("azure_flood", azure, 2),
                                        ("mooncake_prefix", mooncake, 5)):
            log = self.path(scenario + ".jsonl")
            done = subprocess.run([QUIRE, "sweep", f"bench/scenarios/{scenario}.toml", "--trace", trace, "-o", log,
                                   "--set", "output.progress=none"],
                                  capture_output=True, text=True, timeout=120, cwd=root)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(log) as file:
                results = [json.loads(line) for line in file]
            self.assertEqual(len(results), points)
            for result in results:
                self.assertEqual(result["disclosure"]["clock"], "virtual")
                self.assertEqual(result["runs"][0]["requests"]["completed"], 60)
        self.assertAlmostEqual(results[-1]["runs"][0]["steps"]["prefix_hit_share"], 55 / 60 / 2, places=3)
        done = subprocess.run([QUIRE, "workload", "bench/scenarios/azure_scaled.toml", "--trace", azure],
                              capture_output=True, text=True, timeout=60, cwd=root)
        self.assertIn("40 requests, profile replay", done.stdout, done.stderr)

    def test_what_a_simulation_needs_is_said_before_anything_runs(self):
        for missing in ("run.cost_model", "kv_cache.size"):
            arguments = ["--model", "tiny", "--set", "run.clock=virtual"]
            if missing != "run.cost_model":
                with open(self.path("x.steps.jsonl"), "w") as file:
                    for i in range(40):
                        file.write(json.dumps({key: 1 for key in (
                            "run", "running", "waiting", "rows", "rows_encoder", "rows_logits", "sequences",
                            "kv_tokens", "kv_pairs", "cross_tokens", "cross_pairs", "encoder_pairs", "plan_us",
                            "forward_us", "sample_us", "commit_us")} | {"t_ns": 4000 * i}) + "\n")
                arguments += ["--set", "run.cost_model=" + self.path("x.steps.jsonl")]
            out, status, errors = bench(*arguments)
            self.assertEqual((out, status), ("", 2), errors)
            self.assertIn(missing, errors)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
