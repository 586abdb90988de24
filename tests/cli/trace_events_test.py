#!/usr/bin/env python3
"""The trace of `quire bench -o x.trace.json`: every begin has its end, times are in order, flows lead to steps that took
part, and a request's life can be followed. With perfetto's trace processor, where Python has it, the same from a query.

usage: trace_events_test.py QUIRE [unittest options]"""
import bisect
import collections
import gzip
import importlib.util
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json

QUIRE = str(pathlib.Path(sys.argv[1]).resolve())
REQUESTS = 20


def bench(folder, *arguments):
    done = subprocess.run([QUIRE, "bench", "--model", "tiny", "--set", "kv_cache.num_kv_blocks=256", "--num-prompts",
                           str(REQUESTS), "--prompt-tokens", "40", "--output-tokens", "6", *arguments],
                          cwd=folder, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()


class Trace(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)
        bench(cls.path, "--set", "run.limits=false", "--set", "run.repetitions=2", "--set", "run.cooldown=10ms", "--set",
              'workload.mix=[{name="a \\"quoted\\" class",weight=1},{name="b",weight=1}]', "-o", "x.trace.json",
              "-o", "x.trace.json.gz", "-o", "x.steps.jsonl", "-o", "x.requests.jsonl")
        cls.events = json.loads((cls.path / "x.trace.json").read_text())["traceEvents"]
        cls.requests = [json.loads(line) for line in (cls.path / "x.requests.jsonl").read_text().splitlines()]

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def of(self, *kinds):
        return [event for event in self.events if event["ph"] in kinds]

    def lives(self):
        lives = collections.defaultdict(list)
        for event in self.of("b", "e"):
            lives[event["pid"], event["cat"], event["id"]].append(event)
        return lives

    def test_every_event_has_what_its_kind_needs(self):
        for event in self.events:
            self.assertIn(event["ph"], "MXbeCistf")
            self.assertIsInstance(event["pid"], int)
            self.assertGreaterEqual(event["ts"], 0)
            self.assertIn("name", event)
            if event["ph"] == "X":
                self.assertGreaterEqual(event["dur"], 0)
            if event["ph"] in "be":
                self.assertTrue(event["id"].startswith("0x"))

    def test_every_begin_has_its_end_and_phases_nest(self):
        lives = self.lives()
        self.assertEqual(len(lives), 2 * REQUESTS)
        for events in lives.values():
            stack, time = [], 0
            for event in events:
                self.assertGreaterEqual(event["ts"], time)
                time = event["ts"]
                if event["ph"] == "b":
                    stack.append(event["name"])
                else:
                    self.assertEqual(stack.pop(), event["name"])
            self.assertEqual(stack, [])
            self.assertEqual([e["name"] for e in events if e["ph"] == "b"][1:], ["queue", "prefill", "decode"])

    def test_a_life_has_the_times_of_the_request_log(self):
        lives = {events[0]["args"]["id"]: events for events in self.lives().values() if events[0]["args"]["run"] == 0}
        for request in self.requests:
            if request["run"] != 0:
                continue
            begins = {e["name"]: e["ts"] for e in lives[request["id"]] if e["ph"] == "b"}
            self.assertAlmostEqual(begins["queue"], request["a"] * 1e-3, delta=0.002)
            self.assertAlmostEqual(begins["prefill"], request["s"] * 1e-3, delta=0.002)
            self.assertAlmostEqual(begins["decode"], request["f"] * 1e-3, delta=0.002)

    def test_slices_of_a_track_nest_and_follow_each_other(self):
        tracks = collections.defaultdict(list)
        for event in self.of("X"):
            tracks[event["pid"], event["tid"]].append(event)
        for events in tracks.values():
            open_ends = []
            for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
                while open_ends and open_ends[-1] <= event["ts"] + 0.002:
                    open_ends.pop()
                if open_ends:
                    self.assertLessEqual(event["ts"] + event["dur"], open_ends[-1] + 0.01, event)
                open_ends.append(event["ts"] + event["dur"])

    def test_each_thread_has_its_stages_within_the_steps(self):
        named = {e["tid"]: e["args"]["name"] for e in self.of("M") if e["name"] == "thread_name"}
        threads = [tid for tid, name in named.items() if name.startswith("thread ")]
        starts = [e["ts"] for e in self.of("X") if "step" in e["name"]] + [float("inf")]
        self.assertGreaterEqual(len(threads), 1)
        for tid in threads:
            stages = [e for e in self.of("X") if e["tid"] == tid]
            self.assertLessEqual({"projection", "attention", "logits", "row-wise"}, {e["name"] for e in stages})
            for stage in stages:
                step = bisect.bisect(starts, stage["ts"])  # it began before that one
                self.assertGreater(step, 0)
                self.assertLessEqual(stage["ts"] + stage["dur"], starts[step] + 0.002)
        self.assertEqual(json.loads((self.path / "x.trace.json").read_text())["otherData"]["stages_dropped"], 0)

    def test_steps_are_those_of_the_step_log(self):
        steps = [e for e in self.of("X") if "step" in e["name"]]
        lines = [json.loads(line) for line in (self.path / "x.steps.jsonl").read_text().splitlines()]
        self.assertEqual([e["args"] for e in steps], lines)

    def test_a_flow_leads_from_submit_to_each_step_of_the_request(self):
        steps = [e for e in self.of("X") if "step" in e["name"]]
        by_id = {(line["run"] << 32) + line["id"] + 1: line for line in self.requests}
        flows = collections.defaultdict(list)
        for event in self.of("s", "t", "f"):
            flows[event["id"]].append(event)
        self.assertEqual(len(flows), 2 * REQUESTS)
        for events in flows.values():
            kinds = [event["ph"] for event in events]
            self.assertEqual((kinds[0], kinds[-1], set(kinds[1:-1])), ("s", "f", {"t"}))
            request = by_id[events[0]["id"]]
            self.assertEqual(len(kinds), 2 + request["num_output_tokens"])  # submit, planned, one for each token
            for event in events[1:]:
                self.assertTrue(any(s["ts"] <= event["ts"] + 0.002 <= s["ts"] + s["dur"] + 0.01 for s in steps))

    def test_classes_are_named_processes(self):
        named = {e["pid"]: e["args"]["name"] for e in self.of("M") if e["name"] == "process_name"}
        self.assertEqual(named[10], 'requests: a "quoted" class')
        self.assertEqual(named[11], "requests: b")
        self.assertEqual({e["pid"] for e in self.of("b")}, {10, 11})

    def test_counters_are_there(self):
        counters = {e["name"] for e in self.of("C")}
        self.assertEqual(counters, {"sequences", "KV blocks", "output tokens/s", "input tokens/s"})

    def test_the_compressed_trace_is_the_same(self):
        with gzip.open(self.path / "x.trace.json.gz") as file:
            self.assertEqual(file.read(), (self.path / "x.trace.json").read_bytes())

    def test_a_share_of_the_requests(self):
        bench(self.path, "--set", "output.trace_sample=0.25", "-o", "s.trace.json")
        events = json.loads((self.path / "s.trace.json").read_text())["traceEvents"]
        self.assertEqual(len({e["id"] for e in events if e["ph"] == "b"}), REQUESTS // 4)
        self.assertEqual(len({e["id"] for e in events if e["ph"] == "s"}), REQUESTS // 4)

    def test_a_preempted_request_is_seen_to_be_away(self):
        bench(self.path, "--set", "kv_cache.num_kv_blocks=12", "--max-num-seqs", "8", "--output-tokens", "60", "--set",
              "scheduler.watermark=0", "-o", "p.trace.json", "-o", "p.requests.jsonl", "-o", "p.steps.jsonl")
        requests = {line["id"]: line for line in map(json.loads, (self.path / "p.requests.jsonl").read_text().splitlines())}
        steps = [json.loads(line) for line in (self.path / "p.steps.jsonl").read_text().splitlines()]
        away = {i: line["preempted_ns"] for i, line in requests.items() if "preempted_ns" in line}
        self.assertEqual({i: len(all) for i, all in away.items()},
                         {i: min(4, line["num_preemptions"]) for i, line in requests.items() if line["num_preemptions"]})
        self.assertGreater(len(away), 0)
        for all in away.values():  # it left, and came back, in the plan of a step
            for left, back in all:
                self.assertTrue(any(s["preempted"] and abs(s["t_ns"] - left) < s["plan_us"] * 1e3 + 1e5 for s in steps))
                self.assertTrue(any(abs(s["t_ns"] - back) < s["plan_us"] * 1e3 + 1e5 for s in steps))
        lives = collections.defaultdict(list)
        for event in json.loads((self.path / "p.trace.json").read_text())["traceEvents"]:
            if event["ph"] in "be":
                lives[event["id"]].append(event)
        seen = {}
        for events in lives.values():
            stack = []
            for event in events:
                if event["ph"] == "e":
                    self.assertEqual(stack.pop(), event["name"])
                    continue
                if event["name"] == "preempted":
                    self.assertIn(stack[-1], ("prefill", "decode"))
                    seen.setdefault(events[0]["args"]["id"], []).append(event["ts"])
                stack.append(event["name"])
        self.assertEqual(seen.keys(), away.keys())
        for i, times in seen.items():
            for ts, (left, _) in zip(times, away[i]):
                self.assertAlmostEqual(ts, left * 1e-3, delta=0.002)

    def test_perfetto_can_follow_a_request(self):
        shell = shutil.which("trace_processor_shell")  # never downloaded by a test
        if shell is None or importlib.util.find_spec("perfetto") is None:
            self.skipTest("perfetto's trace processor is not installed")
        from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig
        processor = TraceProcessor(trace=str(self.path / "x.trace.json"), config=TraceProcessorConfig(bin_path=shell))
        with processor:
            lives = processor.query("select count(*) as n from slice where name glob 'request *'")
            self.assertEqual([row.n for row in lives], [2 * REQUESTS])
            bound = processor.query("select count(*) as n from flow")
            self.assertEqual([row.n for row in bound], [sum(1 + line["num_output_tokens"] for line in self.requests)])
            errors = processor.query("select coalesce(sum(value), 0) as n from stats where severity = 'error'")
            self.assertEqual([row.n for row in errors], [0])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
