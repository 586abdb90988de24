#!/usr/bin/env python3
"""quire compare on made-up results with known ratios: verdicts, gates, exit statuses, refusals. compare_test.py QUIRE"""
import copy
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json

QUIRE = sys.argv.pop(1)
JITTER = [0.0, 0.004, -0.003, 0.002, -0.004, 0.003, -0.001, 0.001]


def summary(mean):
    return {"unit": "ms", "n": 400, "mean": mean, "stdev": mean / 4, "min": 0, "max": 2 * mean,
            "p": {"50": mean, "99": None}, "ci95": {"50": [mean * 0.98, mean * 1.02]}}


def result(tokens=1000.0, ttft=50.0, runs=8, spread=1.0, **config):
    """A result whose repetitions share a drift of 10 % a run and scatter on their own by JITTER * spread."""
    made = []
    for i in range(runs):
        drift, own = 1 + 0.1 * i, 1 + spread * JITTER[(i + int(tokens)) % 8]
        rate = tokens * drift * own
        made.append({"repetition": i, "seed": 7, "requests": {"due": 400},
                     "throughput": {"output_tokens": {"value": rate, "unit": "tok/s", "ci95": [rate * .99, rate * 1.01]},
                                    "goodput": {"value": None, "unit": "req/s"}},
                     "latency": {"ttft": summary(ttft * own)}, "slo": {"attainment": 0.9}})
    return {"schema": "quire.result/1", "partial": False, "validity": {"result": "VALID"},
            "context": {"host": "n1", "started": "2026-01-31T12:00:00Z", "cpu": {"model": "X", "isa": "avx2"},
                        "quire": {"build": "release"}},
            "model": {"name": "tiny"}, "config": {"scheduler.max_num_seqs": 16, **config}, "runs": made}


class Compare(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name, content):
        at = pathlib.Path(self.folder.name, name)
        at.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(at)

    def compare(self, a, b, *options):
        return subprocess.run([QUIRE, "compare", self.path("a.json", a), self.path("b.json", b), *options],
                              capture_output=True, text=True, timeout=60)

    def verdicts(self, a, b):
        done = self.compare(a, b, "-o", "-")
        self.assertEqual(done.returncode, 0, done.stderr)
        return {m["name"]: m for m in json.loads(done.stdout)["metrics"]}

    def test_a_regression_is_worse_and_caught(self):
        metrics = self.verdicts(result(1000), result(950, ttft=60))
        self.assertEqual(metrics["output_tokens"]["verdict"], "worse")
        self.assertAlmostEqual(metrics["output_tokens"]["ratio"], 0.95, delta=0.005)
        self.assertEqual(metrics["ttft.mean"]["verdict"], "worse")
        done = self.compare(result(1000), result(950), "--max-regression", "3%")
        self.assertEqual(done.returncode, 3, done.stdout)
        self.assertIn("FAILED output_tokens", done.stdout)

    def test_an_improvement_is_better_for_rates_and_latencies(self):
        metrics = self.verdicts(result(1000), result(1100, ttft=40))
        self.assertEqual(metrics["output_tokens"]["verdict"], "better")
        self.assertEqual(metrics["ttft.p50"]["verdict"], "better")

    def test_no_change_passes(self):
        self.assertEqual(self.verdicts(result(1000), result(1001))["output_tokens"]["verdict"], "same")
        done = self.compare(result(1000), result(1001), "--max-regression", "3%", "--metric", "output_tokens",
                            "--metric", "ttft.mean", "--strict")
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_unclear_passes_unless_strict(self):
        a, b = result(1000, spread=8), result(971, spread=8)
        self.assertEqual(self.compare(a, b, "--max-regression", "3%").returncode, 0)
        strict = self.compare(a, b, "--max-regression", "3%", "--strict")
        self.assertEqual(strict.returncode, 3, strict.stdout)
        self.assertIn("unclear", strict.stdout)

    def test_one_run_each_uses_the_intervals_within(self):
        done = self.compare(result(1000, runs=1), result(900, runs=1))
        self.assertIn("within one run each", done.stdout)
        metric = self.verdicts(result(1000, runs=1), result(900, runs=1))["output_tokens"]
        self.assertAlmostEqual(metric["ci95"][1] / metric["ratio"], 1.0141, delta=0.001)

    def test_one_pair_gives_no_verdict_and_no_gate(self):
        a, b = result(1000, runs=1), result(500, runs=1)
        self.assertEqual({m["verdict"] for m in self.verdicts(a, b).values()}, {"none"})
        self.assertIn("\nno verdicts: one pair says nothing of what changes between runs; use --repetitions\n",
                      self.compare(a, b).stdout)
        gated = self.compare(a, b, "--max-regression", "3%")
        self.assertEqual(gated.returncode, 2, gated.stdout)
        self.assertIn("no gate on one pair of runs: measure both sides with --repetitions 2 or more", gated.stderr)

    def test_an_invalid_or_interrupted_side_gives_no_verdict(self):
        for side in (0, 1):
            for member, value, word in (("validity", {"result": "INVALID"}, "INVALID"), ("partial", True, "incomplete")):
                sides = [result(1000), result(500)]
                sides[side][member] = value
                self.assertEqual({m["verdict"] for m in self.verdicts(*sides).values()}, {"none"})
                self.assertIn(f"no verdicts: {'AB'[side]} is {word}\n", self.compare(*sides).stdout)

    def test_both_sides_are_named_when_both_are_invalid(self):
        a, b = result(1000), result(500)
        a["validity"]["result"] = b["validity"]["result"] = "INVALID"
        self.assertIn("no verdicts: A and B are INVALID\n", self.compare(a, b).stdout)
        gated = self.compare(a, b, "--max-regression", "3%")
        self.assertEqual((gated.returncode, gated.stderr.count("no gate on an INVALID result")), (4, 2), gated.stderr)
        b["partial"] = True
        self.assertIn("no verdicts: A is INVALID and B is incomplete\n", self.compare(a, b).stdout)

    def test_runs_that_are_left_out_are_named(self):
        self.assertIn("\nthe last 2 runs of B are left out: A has no run to pair with them\n",
                      self.compare(result(runs=1), result(runs=3)).stdout)
        self.assertIn("\nthe last 1 run of A is left out: B has no run to pair with it\n",
                      self.compare(result(runs=3), result(runs=2)).stdout)
        self.assertNotIn("left out", self.compare(result(runs=3), result(runs=3)).stdout)

    def test_columns_do_not_run_together(self):
        for line in self.compare(result(1e9, ttft=0.05, runs=2), result(1e12, ttft=749.504, runs=2)).stdout.splitlines():
            if line.startswith(("output_tokens ", "ttft.")):
                self.assertGreaterEqual(len(line.split()), 7, line)
                self.assertAlmostEqual(float(line.split()[4]) / (float(line.split()[3]) / float(line.split()[2])), 1, delta=0.2)

    def test_how_many_verdicts_chance_gives_is_said(self):
        out = self.compare(result(1000), result(1001)).stdout
        self.assertIn("4 metrics, each at 95 %: between equal sides chance alone makes about 1 better or worse\n", out)

    def test_few_pairs_say_so(self):
        self.assertIn("paired t", self.compare(result(runs=3), result(runs=3)).stdout)
        self.assertIn("paired bootstrap", self.compare(result(), result()).stdout)

    def test_the_shorter_side_decides_how_many_pairs(self):
        self.assertIn("2 pairs", self.compare(result(runs=2), result(runs=5)).stdout)

    def test_differences_are_named(self):
        b = result(**{"scheduler.max_num_seqs": 32, "load.streams": 4})
        b["context"]["quire"]["build"] = "debug"
        out = self.compare(result(), b).stdout
        self.assertIn("config scheduler.max_num_seqs: 16 -> 32", out)
        self.assertIn("config load.streams: - -> 4", out)
        self.assertIn('build build: "release" -> "debug"', out)

    def test_no_gate_across_machines(self):
        b = result()
        b["context"]["cpu"]["model"] = "Y"
        done = self.compare(result(), b, "--max-regression", "3%")
        self.assertEqual(done.returncode, 2)
        self.assertIn("no gate across machines", done.stderr)
        self.assertEqual(self.compare(result(), b).returncode, 0)

    @staticmethod
    def with_goodput(made, values):
        for run, value in zip(made["runs"], values):
            run["throughput"]["goodput"]["value"] = value
        return made

    def test_a_total_loss_fails_the_gate(self):
        for runs in (1, 3, 8):
            a = self.with_goodput(result(runs=runs), [2.0] * 8)
            b = self.with_goodput(result(runs=runs), [0] * 8)
            gate = ("--metric", "goodput", "--max-regression", "3%")
            done = self.compare(a, b, *gate)
            self.assertEqual(done.returncode, 3, done.stdout)
            self.assertIn("FAILED goodput: regression 100.00 % (B is 0)", done.stdout)
            self.assertEqual(self.verdicts(a, b)["goodput"]["verdict"], "worse")
            gain = self.compare(b, a, *gate, "--strict")
            self.assertEqual(gain.returncode, 0, gain.stdout)
            self.assertIn("A is 0", gain.stdout)
            self.assertEqual(self.verdicts(b, a)["goodput"]["verdict"], "better")
            self.assertNotIn("nan", done.stdout + gain.stdout)
        partly = self.compare(a, self.with_goodput(result(runs=3), [2.0, 0, 2.0]), *gate)
        self.assertIn("unclear goodput: regression 33.33 % (no interval)", partly.stdout)

    @staticmethod
    def simulated(made):
        made["disclosure"] = {"clock": "virtual"}
        return made

    def test_a_simulated_result_is_called_so_and_not_gated_with_a_measured_one(self):
        real, virtual = result(), self.simulated(result())
        both = self.compare(virtual, virtual, "--max-regression", "3%")
        self.assertEqual(both.returncode, 0, both.stderr)
        self.assertEqual(both.stdout.count("SIMULATED"), 2)
        for a, b, name in ((real, virtual, "b.json"), (virtual, real, "a.json")):
            mixed = self.compare(a, b, "--max-regression", "3%")
            self.assertEqual(mixed.returncode, 2, mixed.stdout)
            self.assertIn("no gate between a simulated and a measured result", mixed.stderr)
            self.assertIn(name + " is on the virtual clock", mixed.stderr)
            self.assertEqual(mixed.stdout.count("SIMULATED"), 1)
            self.assertEqual(self.compare(a, b).returncode, 0)
        self.assertNotIn("imulated", self.compare(real, real).stdout)

    def test_copies_of_a_simulated_run_count_as_one(self):
        def copies(tokens):
            made = self.simulated(result(tokens))
            made["runs"] = [dict(copy.deepcopy(made["runs"][0]), repetition=i) for i in range(8)]
            return made
        done = self.compare(copies(1000), copies(996))
        self.assertIn("are copies and count as one\n1 pair;", done.stdout)
        self.assertIn("8 runs", done.stdout)
        self.assertEqual(self.verdicts(copies(1000), copies(996))["output_tokens"]["verdict"], "none")
        varied = self.compare(self.simulated(result(1000)), self.simulated(result(996)))
        self.assertIn("8 pairs;", varied.stdout)

    def test_a_side_is_not_overwritten(self):
        a, b = result(1000), result(950)
        for name in ("a.json", "b.json"):
            at = pathlib.Path(self.folder.name, name)
            done = self.compare(a, b, "-o", str(at))
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn("would overwrite", done.stderr)
            self.assertEqual(json.loads(at.read_text())["schema"], "quire.result/1")
        config = self.path("c.toml", "[model]\npreset = 'tiny'\n")
        done = subprocess.run([QUIRE, "compare", "--run", config, config, "-o", config], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("would overwrite", done.stderr)

    def test_no_gate_on_an_invalid_side(self):
        b = result()
        b["validity"]["result"] = "INVALID"
        done = self.compare(result(), b, "--max-regression", "3%")
        self.assertEqual(done.returncode, 4)
        self.assertIn("INVALID", done.stderr)

    def test_what_is_no_result_is_refused(self):
        foreign, empty = {"schema": "other/2"}, copy.deepcopy(result())
        empty["runs"] = []
        for bad, word in ((foreign, "not a result of quire"), ({}, "not a result of quire"), (empty, "holds no run"),
                          ({"schema": "quire.result/2"}, "quire.result/2 is not one that this version reads"),
                          ("{", "not JSON"), ('{"a": 1, "a": 2}', "duplicate object key"), ("[1]", "not a result of quire"),
                          (json.dumps(result()) + "\n" + json.dumps(result()), "several results")):
            done = self.compare(result(), bad)
            self.assertEqual(done.returncode, 2, bad)
            self.assertIn(word, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        gone = subprocess.run([QUIRE, "compare", "/nonexistent.json", "/nonexistent.json"], capture_output=True, text=True)
        self.assertEqual(gone.returncode, 2)
        self.assertIn("No such file", gone.stderr)

    def test_a_number_that_is_none_is_named(self):
        def with_latency(value):
            made = result()
            made["runs"][1]["latency"] = value
            return made
        for latency, word in ((None, "runs[1].latency is null, expected an object"),
                              ("fast", "runs[1].latency is a string"),
                              ({"ttft": None}, "runs[1].latency.ttft is null, expected an object"),
                              ({"ttft": dict(summary(1), mean="1")}, "runs[1].latency.ttft.mean is a string, expected a number"),
                              ({"ttft": dict(summary(1), p={"50": []})}, "runs[1].latency.ttft.p.50 is an array")):
            done = self.compare(result(), with_latency(latency))
            self.assertEqual((done.returncode, done.stderr.count("\n"), done.stdout), (2, 1, ""), done.stderr)
            self.assertIn("b.json: " + word, done.stderr)
        odd = result()
        odd["runs"][0]["throughput"]["output_tokens"]["value"] = True
        self.assertIn("throughput.output_tokens.value is true or false", self.compare(odd, result()).stderr)

    def test_a_folder_is_called_one(self):
        done = subprocess.run([QUIRE, "compare", self.folder.name, self.folder.name], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("a folder, expected a regular file", done.stderr)

    def test_a_pipe_is_read(self):
        a = self.path("a.json", result())
        done = subprocess.run(["bash", "-c", f"'{QUIRE}' compare <(cat {a}) {a}"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_no_line_is_longer_than_100_columns(self):
        a, b = result(runs=2), result(runs=2)
        for made, values in ((a, (0.01, 900.0)), (b, (3.0, 0.02))):
            for run, value in zip(made["runs"], values):
                run["latency"]["ttft_service"] = summary(value)
        lines = self.compare(a, b).stdout.splitlines()
        self.assertTrue(any("ttft_service" in line for line in lines))
        self.assertEqual([line for line in lines if len(line) > 100], [])

    def test_whole_numbers_are_written_as_such(self):
        self.assertIn("config load.request_rate: 2 -> 2.5", self.compare(
            result(**{"load.request_rate": 2.0}), result(**{"load.request_rate": 2.5})).stdout)

    def test_wrong_options_are_usage(self):
        for options in (["--max-regression", "x"], ["--max-regression", "3"], ["--metric", "ttft.mean"], ["--max-num-seqs", "4"],
                        ["--max-regression", "3%", "--metric", "nothing"]):
            self.assertEqual(self.compare(result(), result(), *options).returncode, 2, options)

    def test_two_configurations_are_measured_in_turn(self):
        base = "[model]\npreset = 'tiny'\n[workload]\nnum_prompts = 8\noutput_tokens = 8\nprompt_tokens = 8\n" \
               "[run]\ncooldown = '0s'\nlimits = false\nrepetitions = 2\n[output]\nprogress = 'none'\nlog_level = 'info'\n"
        a, b = self.path("a.toml", base), self.path("b.toml", base + "[scheduler]\nmax_num_seqs = 2\n")
        done = subprocess.run([QUIRE, "compare", "--run", a, b, "--seed", "3"], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("config scheduler.max_num_seqs: 64", done.stdout)
        self.assertIn("2 pairs", done.stdout)
        self.assertEqual(done.stderr.count("quire: info: engine:"), 3)  # A, B stays open for its second turn, A
        wrong = subprocess.run([QUIRE, "compare", "--run", a, self.path("c.toml", base.replace("repetitions = 2", ""))],
                               capture_output=True, text=True)
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("run.repetitions differs", wrong.stderr)


if __name__ == "__main__":
    unittest.main()
