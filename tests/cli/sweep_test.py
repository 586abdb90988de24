#!/usr/bin/env python3
"""quire sweep on the tiny model: points, the file, --resume, refusals, --capacity. sweep_test.py QUIRE"""
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json

QUIRE = str(pathlib.Path(sys.argv.pop(1)).resolve())
BASE = """
[model]
preset = "tiny"
[workload]
num_prompts = 6
prompt_tokens = 8
output_tokens = 8
[run]
cooldown = "0s"
limits = false
[output]
progress = "none"
log_level = "info"
"""
GRID = BASE + """
[load]
profile = "concurrent"
[sweep]
"load.streams" = "1-4*2"
"kv_cache.dtype" = ["bf16", "f32"]
"""
SEARCH = BASE + """
[load]
profile = "poisson"
[slo]
e2el = 1000
min_attainment = 0.9
[capacity]
min_rate = 20
max_rate = 200
precision = 1.0
"""


class Sweep(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def sweep(self, text, *options):
        (self.folder / "grid.toml").write_text(text)
        return subprocess.run([QUIRE, "sweep", "grid.toml", *options], cwd=self.folder, capture_output=True, text=True,
                              timeout=120)

    def lines(self, name="grid.jsonl"):
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def test_every_combination_is_a_whole_result(self):
        done = self.sweep(GRID, "--repetitions", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = self.lines()
        self.assertEqual(sorted((l["sweep"]["axes"]["kv_cache.dtype"], l["sweep"]["axes"]["load.streams"]) for l in lines),
                         [(d, s) for d in ("bf16", "f32") for s in (1, 2, 4)])
        for line in lines:
            self.assertEqual(line["schema"], "quire.result/1")
            self.assertEqual(len(line["runs"]), 2)
            self.assertEqual(line["config"]["load.streams"], line["sweep"]["axes"]["load.streams"])
            self.assertEqual(line["config_origin"]["load.streams"], "sweep")
        self.assertNotIn("knee", done.stdout)  # six requests are too few to believe
        self.assertEqual(done.stdout.count("INVALID requests\n"), 6, done.stdout)
        self.assertEqual(done.stderr.count("quire: info: engine:"), 3)  # bf16, f32 and, on the way back, bf16

    def test_a_sequential_sweep_ends_one_point_after_the_other(self):
        done = self.sweep(GRID.replace("[sweep]", '[sweep]\norder = "sequential"'), "--repetitions", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([l["sweep"]["point"] for l in self.lines()], list(range(6)))
        self.assertEqual(done.stderr.count("quire: info: engine:"), 2)

    def test_resume_measures_what_is_missing(self):
        self.assertEqual(self.sweep(GRID).returncode, 0)
        lines = (self.folder / "grid.jsonl").read_text().splitlines()
        partial = json.loads(lines[1])
        partial["partial"] = True
        (self.folder / "grid.jsonl").write_text("\n".join([*lines[:1], json.dumps(partial), *lines[2:4]]) + "\n")
        done = self.sweep(GRID, "--resume")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("3 of 6 points are done", done.stderr)
        self.assertEqual(len(self.lines()), 7)
        self.assertNotIn("not done", done.stdout)
        self.assertEqual(self.sweep(GRID, "--resume", "--seed", "7").returncode, 0)  # another configuration: all anew
        self.assertEqual(len(self.lines()), 13)

    def test_resume_cuts_a_torn_line_and_completes_the_file(self):
        self.assertEqual(self.sweep(GRID).returncode, 0)
        whole = (self.folder / "grid.jsonl").read_text().splitlines(True)
        for torn, left, words in ((whole[3][:777], 3, "the last line is torn; its 777 bytes are cut off"),
                                  (whole[3][:-1], 4, "4 of 6 points are done"),  # all of it but the newline
                                  (whole[3][:50] + "\n", 4, "grid.jsonl:4: not JSON; the line is skipped")):
            (self.folder / "grid.jsonl").write_text("".join(whole[:3]) + torn)
            done = self.sweep(GRID, "--resume")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(words, done.stderr)
            self.assertNotIn("not done", done.stdout)
            lines = (self.folder / "grid.jsonl").read_text().splitlines(True)
            self.assertEqual(lines[:3], whole[:3])
            self.assertTrue(all(json.loads(line)["config_hash"] for line in lines[left:]), torn)
            report = subprocess.run([QUIRE, "report", "grid.jsonl"], cwd=self.folder, capture_output=True, text=True)
            self.assertEqual(report.returncode, 0, report.stderr)

    def test_a_file_at_its_size_limit_keeps_whole_lines_and_is_resumed(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
        (self.folder / "grid.toml").write_text(GRID)
        done = subprocess.run([QUIRE, "sweep", "grid.toml"], cwd=self.folder, capture_output=True, text=True, timeout=120,
                              preexec_fn=limit)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("grid.jsonl: File too large", done.stderr)
        self.assertIn("not done", done.stdout)
        self.assertIn(len(self.lines()), (1, 2, 3, 4, 5))
        self.assertEqual(self.sweep(GRID, "--resume").returncode, 0)
        self.assertEqual(len(self.lines()), 6)

    def test_resume_refuses_what_cannot_be_read(self):
        (self.folder / "folder.jsonl").mkdir()
        os.mkfifo(self.folder / "fifo.jsonl")
        reader = os.open(self.folder / "fifo.jsonl", os.O_RDONLY | os.O_NONBLOCK)
        for name, word in (("folder.jsonl", "Is a directory"), ("fifo.jsonl", "a FIFO, expected a regular file")):
            done = self.sweep(GRID, "--resume", "-o", name)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(word, done.stderr)
        os.close(reader)

    def test_a_sweep_without_a_configuration_says_so(self):
        done = subprocess.run([QUIRE, "sweep"], cwd=self.folder, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("no axes: CONFIG, the file whose [sweep] names them, is missing", done.stderr)

    def test_resume_refuses_a_file_of_another_kind(self):
        self.assertEqual(self.sweep(GRID).returncode, 0)
        result = (self.folder / "grid.jsonl").read_text().splitlines(True)[0]
        for text, place in (('{"prompt": [1]}\n', 1), ("notes without an end", 1), ("[]\n", 1),
                            (result + '{"schema": "quire.requests/1"}\n', 2), (result + "7", 2)):
            (self.folder / "foreign.jsonl").write_text(text)
            done = self.sweep(GRID, "--resume", "-o", "foreign.jsonl")
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(f"foreign.jsonl:{place}: no result of quire", done.stderr)
            self.assertEqual((self.folder / "foreign.jsonl").read_text(), text)
            report = subprocess.run([QUIRE, "report", "foreign.jsonl"], cwd=self.folder, capture_output=True, text=True)
            self.assertIn(f"foreign.jsonl:{place}: ", report.stderr)

    def test_an_axis_of_names_keeps_their_quotes(self):
        (self.folder / '"a"').write_text('{"prompt": [1], "max_tokens": 1}\n' * 4)
        (self.folder / "1").write_text('{"prompt": [1, 2], "max_tokens": 1}\n' * 4)
        done = self.sweep(BASE.replace("[workload]", '[workload]\nsource = "file"\npath = "1"') +
                          "[sweep]\n\"workload.path\" = ['\"a\"', \"1\"]\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([line["config"]["workload.path"] for line in self.lines()], ['"a"', "1"])

    def test_a_file_that_exists_is_not_overwritten(self):
        (self.folder / "grid.jsonl").write_text("precious\n")
        done = self.sweep(GRID)
        self.assertEqual(done.returncode, 2)
        self.assertIn("exists already", done.stderr)
        self.assertEqual((self.folder / "grid.jsonl").read_text(), "precious\n")

    def refused(self, text, word, *options):
        done = self.sweep(text, *options)
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn(word, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertEqual(list(self.folder.glob("*.jsonl")), [])

    def test_what_cannot_work_is_refused_before_any_work(self):
        self.refused(BASE, "no axes")
        self.refused(BASE + '[sweep]\n"kv_cache.size" = ["1MiB", "900TiB"]\n', "kv_cache.size=900TiB")
        self.refused(BASE + '[sweep]\n"scheduler.max_num_seqs" = [4, 0]\n', "max_num_seqs")
        self.refused(BASE + '[load]\nprofile = "poisson"\n[sweep]\n"load.streams" = [1, 2]\n', "has no effect")
        self.refused(BASE + '[sweep]\n"scheduler.max_num_seq" = [4]\n', "did you mean")
        self.refused(BASE + '[scheduler]\nmax_num_batched_tokens = 512\n[sweep]\n"scheduler.max_num_seqs" = [4, 1024]\n',
                     "max_num_batched_tokens")
        self.refused(BASE + '[sweep]\n"workload.seed" = "1-100"\n"run.repetitions" = "1-60"\n', "more than 4096")

    def test_capacity_needs_a_rate_limits_and_a_share(self):
        self.refused(SEARCH.replace("poisson", "concurrent"), "has no request rate", "--capacity")
        self.refused(SEARCH.replace("e2el = 1000", ""), "needs a limit", "--capacity")
        self.refused(SEARCH.replace("min_attainment = 0.9", ""), "min_attainment", "--capacity")
        self.refused(SEARCH + '[sweep]\n"load.request_rate" = [1]\n', "remove it from", "--capacity")

    def test_a_dry_run_says_what_a_search_takes(self):
        done = self.sweep(SEARCH, "--capacity", "--dry-run")
        self.assertIn("capacity   20 to 200 requests/s: about 5 probes of at most 60 s each", done.stdout)
        self.assertNotIn("\ntime ", done.stdout)
        done = self.sweep(SEARCH, "--capacity", "--dry-run", "--streams", "3")
        self.assertIn("warning: --streams: load.streams only applies to the profile concurrent", done.stderr)
        done = self.sweep(SEARCH.replace("poisson", "concurrent"), "--capacity", "--dry-run")
        self.assertEqual(done.returncode, 2)

    def test_capacity_says_when_the_range_is_too_low_or_too_high(self):
        options = ["--capacity", "--duration", "3s", "--set", "run.warmup={mode=\"none\"}"]
        done = self.sweep(SEARCH, *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("capacity at least 200", done.stdout)
        answer = self.lines()[-1]
        self.assertEqual((answer["schema"], answer["outcome"]), ("quire.capacity/1", "above max_rate"))
        self.assertEqual(answer["probes"], len(self.lines()) - 1)
        self.assertTrue(all(l["sweep"]["probe"]["passed"] for l in self.lines()[:-1]))
        done = self.sweep(SEARCH.replace("e2el = 1000", "e2el = 0.001"), *options, "-o", "low.jsonl")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertRegex(done.stdout, r"capacity below 20 .*: 0 of \d+ met, 90 % are needed; 1 probe, ")
        self.assertTrue(self.lines("low.jsonl")[0]["sweep"]["probe"]["early"])

    def cost_model(self):
        step = {key: 1 for key in ("run", "running", "waiting", "rows", "rows_encoder", "rows_logits", "sequences",
                                   "kv_tokens", "kv_pairs", "cross_tokens", "cross_pairs", "encoder_pairs", "plan_us",
                                   "sample_us", "commit_us")}
        (self.folder / "log.steps.jsonl").write_text("".join(
            json.dumps(step | {"t_ns": 10000000 * i, "forward_us": 10000}) + "\n" for i in range(40)))

    def test_the_knee_is_a_valid_point(self):
        self.cost_model()
        done = self.sweep(GRID.replace("num_prompts = 6", "num_prompts = 0"), "--duration", "30s", "--set",
                          "run.clock=virtual", "--set", "run.cost_model=log.steps.jsonl", "--set",
                          "kv_cache.num_kv_blocks=256")
        self.assertEqual(done.stdout.count(" VALID  knee"), 2, done.stdout + done.stderr)  # one for each dtype

    def test_an_overloaded_probe_on_the_virtual_clock_fails_and_the_search_goes_on(self):
        self.cost_model()
        text = SEARCH.replace("max_rate = 200", "max_rate = 5000").replace(
            'cooldown = "0s"', 'cooldown = "0s"\nclock = "virtual"\ncost_model = "log.steps.jsonl"')
        done = self.sweep(text + "[kv_cache]\nnum_kv_blocks = 256\n", "--capacity")
        self.assertEqual(done.returncode, 0, done.stderr)
        answer = self.lines()[-1]
        self.assertEqual(answer["outcome"], "found")
        self.assertTrue(answer["rate"] < 800 < answer["high"], answer)  # 64 at once, of 8 steps of 10 ms
        self.assertGreater(answer["probes"], 4)

    def test_an_interrupt_keeps_what_was_measured(self):
        (self.folder / "grid.toml").write_text(GRID.replace("num_prompts = 6", "num_prompts = 0"))
        running = subprocess.Popen([QUIRE, "sweep", "grid.toml", "--duration", "1s", "--set", 'run.warmup={mode="none"}'],
                                   cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not ((self.folder / "grid.jsonl").exists() and self.lines()):
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
        self.assertEqual(running.returncode, 130, err)
        self.assertIn("not done", out)
        self.assertGreaterEqual(len(self.lines()), 1)

    def test_bench_says_that_it_ignores_the_axes(self):
        (self.folder / "grid.toml").write_text(GRID)
        done = subprocess.run([QUIRE, "bench", "grid.toml"], cwd=self.folder, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('grid.toml:19: [sweep] "kv_cache.dtype" is an axis of `quire sweep`', done.stderr)


if __name__ == "__main__":
    unittest.main()
