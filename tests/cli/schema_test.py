#!/usr/bin/env python3
"""Real results against docs/result.schema.json. schema_test.py QUIRE. Status 77: python3-jsonschema is not there."""
import copy
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

try:
    import jsonschema
except ImportError:  # another interpreter may come first in PATH; Debian's has the package
    if sys.executable != "/usr/bin/python3" and os.path.exists("/usr/bin/python3"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
    print("python3-jsonschema is not there")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json

QUIRE = str(pathlib.Path(sys.argv.pop(1)).resolve())
SCHEMA = json.loads((pathlib.Path(__file__).resolve().parents[2] / "docs" / "result.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def problems(result):
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in VALIDATOR.iter_errors(result)]


class Results(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
        cls.plain = cls.bench("--num-prompts", "20")

    @classmethod
    def bench(cls, *options, model="tiny"):
        done = subprocess.run([QUIRE, "bench", "--model", model, "--set", "output.progress=none", "--set", "run.cooldown=0s",
                               "--output-tokens", "8", "--prompt-tokens", "8", "-o", "-", *options], cwd=cls.folder.name,
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def test_an_offline_run(self):
        self.assertEqual(problems(self.plain), [])

    def assert_choices_of_the_engine(self, result):
        config = result["config"]
        self.assertEqual(config["scheduler.max_num_batched_tokens"], 512)
        self.assertEqual(config["scheduler.max_num_queued_tokens"], 1 << 20)
        self.assertEqual(config["model.max_model_len"], result["model"]["max_model_len"])
        self.assertNotIn("scheduler.max_num_queued_tokens", result["config_origin"])
        self.assertLessEqual(result["runs"][0]["steps"]["batch_fill"], 1)

    def test_the_configuration_holds_what_the_engine_chose(self):
        self.assert_choices_of_the_engine(self.plain)

    def test_every_kind_of_run(self):
        for options in (["--profile", "poisson", "--request-rate", "50", "--num-prompts", "30", "--repetitions", "2",
                         "--goodput", "ttft:100,e2el:1000", "--set", "output.label.run=a"],
                        ["--num-prompts", "20", "-o", "x.trace.json"],
                        ["--profile", "concurrent", "--num-prompts", "0", "--duration", "1s", "--set",
                         'run.warmup={mode="none"}'],
                        ["--num-prompts", "20", "--set", 'workload.mix=[{name="a"},{weight=2}]', "--goodput", "ttft:1",
                         "--set", "workload.tenants={count=3}"]):
            self.assertEqual(problems(self.bench(*options)), [], options)

    def test_vllms_names_hold_the_same_numbers(self):
        path = pathlib.Path(self.folder.name, "r.vllm.json")
        result = self.bench("--num-prompts", "40", "-o", str(path))
        flat, run = json.loads(path.read_text()), result["runs"][0]
        self.assertEqual((flat["completed"], flat["failed"], flat["request_rate"]), (40, 0, "inf"))
        self.assertEqual((flat["total_input_tokens"], flat["total_output_tokens"]), (320, 320))
        self.assertAlmostEqual(flat["output_throughput"] / run["throughput"]["output_tokens"]["value"], 1, delta=1e-6)
        self.assertAlmostEqual(flat["mean_ttft_ms"] / run["latency"]["ttft"]["mean"], 1, delta=1e-6)
        self.assertEqual(flat["median_itl_ms"], run["latency"]["itl"]["p"]["50"])
        self.assertIsNone(run["latency"]["ttft"]["p"]["99"])  # too few for a result of quire's, not for vLLM
        for name in ("ttft", "tpot", "itl", "e2el"):
            self.assertGreaterEqual(flat[f"p99_{name}_ms"], flat[f"median_{name}_ms"])

    def test_vllms_names_have_vllms_meanings(self):
        """Recomputed from the request log."""
        flat_path, log_path = (pathlib.Path(self.folder.name, name) for name in ("m.vllm.json", "m.requests.jsonl"))
        prefix = ["--set", "workload.prefix={groups=1,tokens=48,zipf_s=1.0}", "--prompt-tokens", "64"]
        cases = [(["--profile", "concurrent", "--streams", "4", *prefix], "tiny", "inf", 4, 1),
                 (["--profile", "synchronous"], "tiny", "inf", 1, 1), ([], "tiny", "inf", None, 1),
                 (["--profile", "gamma", "--request-rate", "200", "--set", "load.max_concurrency=2", "--set", "load.burstiness=0.5"],
                  "tiny", 200, 2, 0.5),
                 (["--profile", "constant", "--request-rate", "500"], "tiny", 500, None, None),
                 (["--profile", "concurrent", "--streams", "2", "--encoder-tokens", "16", "--set", "kv_cache.num_kv_blocks=256"],
                  "t5-small", "inf", 2, 1)]
        for options, model, rate, most, burstiness in cases:
            self.bench("--num-prompts", "12", "--output-tokens", "4", "--set", 'run.warmup={mode="none"}', *options, "-o", str(flat_path), "-o",
                       str(log_path), model=model)
            flat = json.loads(flat_path.read_text())
            rows = [row for row in map(json.loads, log_path.read_text().splitlines())
                    if row["in_window"] and row["finish_reason"] in ("stop", "length")]
            inputs = sum(row["num_prompt_tokens"] + row["num_encoder_tokens"] for row in rows)
            outputs = sum(row["num_output_tokens"] for row in rows)
            self.assertEqual((flat["request_rate"], flat["max_concurrency"], flat.get("burstiness")), (rate, most, burstiness), options)
            self.assertEqual((flat["completed"], flat["total_input_tokens"], flat["total_output_tokens"]), (len(rows), inputs, outputs))
            for name, meant in (("request_throughput", len(rows)), ("output_throughput", outputs),
                                ("total_token_throughput", inputs + outputs)):
                self.assertAlmostEqual(flat[name] * flat["duration"] / meant, 1, delta=1e-6, msg=name)
            sent = "q" if most and rate != "inf" else "a"
            for name, end in (("ttft", "f"), ("e2el", "e")):
                mean = sum(row[end] - row[sent] for row in rows) / len(rows) * 1e-6
                self.assertAlmostEqual(flat[f"mean_{name}_ms"] / mean, 1, delta=1e-6, msg=name)

    def test_an_encoder_decoder_model(self):
        result = self.bench("--num-prompts", "8", "--encoder-tokens", "16", "--set", "kv_cache.num_kv_blocks=256", model="t5-small")
        self.assertEqual(problems(result), [])
        self.assertGreater(result["runs"][0]["steps"]["stage_s"]["encoder"], 0)

    def test_a_simulated_run(self):
        self.bench("--num-prompts", "20", "--max-num-seqs", "2", "-o", "fit.steps.jsonl")
        result = self.bench("--num-prompts", "20", "--set", "run.clock=virtual", "--set", "run.cost_model=fit.steps.jsonl",
                            "--set", "kv_cache.num_kv_blocks=256")
        self.assertEqual((problems(result), result["disclosure"]["clock"]), ([], "virtual"))
        self.assert_choices_of_the_engine(result)

    def test_an_interrupted_run(self):
        tool = subprocess.Popen([QUIRE, "bench", "--model", "tiny", "--profile", "concurrent", "--streams", "4", "--num-prompts", "0",
                                 "--duration", "1h", "--set", 'run.warmup={mode="none"}', "--set", "output.progress=jsonl", "-o",
                                 "cut.json", "-o", "cut.vllm.json"], cwd=self.folder.name, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for line in tool.stderr:
            if line.startswith(b"{") and json.loads(line)["done"] >= 8:
                break
        tool.send_signal(signal.SIGINT)
        tool.communicate(timeout=60)
        result = json.loads(pathlib.Path(self.folder.name, "cut.json").read_text())
        self.assertEqual((problems(result), result["partial"]), ([], True))
        flat = json.loads(pathlib.Path(self.folder.name, "cut.vllm.json").read_text())
        self.assertEqual(flat["num_prompts"], flat["completed"] + flat["failed"])
        self.assertIn("p99_ttft_ms", flat)

    def test_each_thread_has_its_times_when_a_trace_was_asked_for(self):
        run = self.bench("--num-prompts", "20", "-o", "y.trace.json")["runs"][0]
        steps = sum(run["steps"]["time_s"][kind] for kind in ("prefill", "decode"))
        self.assertGreaterEqual(len(run["threads"]), 1)
        for thread in run["threads"]:
            parts = sum(thread[name] for name in thread if name.endswith("_s") and name not in ("busy_s", "barrier_s"))
            self.assertAlmostEqual(parts, thread["busy_s"], delta=1e-9)
            self.assertTrue(0 < thread["busy_s"] + thread["barrier_s"] < steps * 1.05, (thread, steps))
        self.assertIsNone(self.plain["runs"][0]["threads"])

    def test_a_sweep(self):
        path = pathlib.Path(self.folder.name, "s.toml")
        path.write_text('[model]\npreset="tiny"\n[workload]\nnum_prompts=6\noutput_tokens=4\n[output]\nprogress="none"\n'
                        '[run]\ncooldown="0s"\n[sweep]\n"scheduler.max_num_seqs"=[1,2]\n')
        done = subprocess.run([QUIRE, "sweep", "s.toml"], cwd=self.folder.name, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        for line in path.with_suffix(".jsonl").read_text().splitlines():
            self.assertEqual(problems(json.loads(line)), [])

    def test_the_schema_refuses_what_is_wrong(self):
        def broken(change):
            result = copy.deepcopy(self.plain)
            change(result)
            return problems(result)
        run = lambda r: r["runs"][0]
        for change in (lambda r: r.update(schema="quire.result/2"), lambda r: r.pop("config_hash"),
                       lambda r: run(r)["throughput"].pop("goodput"), lambda r: run(r)["requests"].update(due=-1),
                       lambda r: run(r)["latency"]["ttft"].update(n="1"), lambda r: r["validity"].update(result="MAYBE"),
                       lambda r: run(r)["steps"].update(busy_share=1.5), lambda r: r["context"]["cpu"].pop("model")):
            self.assertNotEqual(broken(change), [])

    def test_what_is_in_a_result_is_in_the_schema(self):
        """Members that the schema does not know are legal for readers, and an omission of ours."""
        def unknown(value, schema, path):
            schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
            if "anyOf" in schema:
                schema = next((s for s in schema["anyOf"] if s.get("type") != "null"), schema)
            if isinstance(value, dict) and "properties" in schema:
                for name, member in value.items():
                    if name in schema["properties"]:
                        yield from unknown(member, schema["properties"][name], f"{path}/{name}")
                    elif "additionalProperties" not in schema:
                        yield f"{path}/{name}"
            if isinstance(value, list) and "items" in schema:
                for member in value[:1]:
                    yield from unknown(member, schema["items"], f"{path}[]")
        self.assertEqual(list(unknown(self.plain, SCHEMA, "")), [])


if __name__ == "__main__":
    unittest.main()
