#!/usr/bin/env python3
"""quire bench --target against a server made up here: what is sent, what is counted, and all that can go wrong.
target_test.py QUIRE"""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json
from openai_server import Server

try:
    import jsonschema
except ImportError:
    jsonschema = None

QUIRE = str(pathlib.Path(sys.argv.pop(1)).resolve())
SCHEMA = json.loads((pathlib.Path(__file__).resolve().parents[2] / "docs" / "result.schema.json").read_text())
for name in ("OPENAI_API_KEY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
    os.environ.pop(name, None)
os.environ["QUIRE__RUN__LIMITS"] = "false"


class Base(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)

    def tool(self, *arguments, env=None):
        done = subprocess.run([QUIRE, *arguments], cwd=self.path, capture_output=True, text=True, timeout=60,
                              env={**os.environ, **(env or {})})
        return done.returncode, done.stdout, done.stderr

    def bench(self, url, *arguments, status=0, env=None, prompts="24"):
        """The result of a run of some requests of 6 tokens to 16."""
        code, text, errors = self.tool("bench", "--target", url, "--set", "output.progress=none", "--num-prompts", prompts, "--prompt-tokens", "16",
                                       "--output-tokens", "6", "--profile", "concurrent", "--streams", "4", "-o", "-", *arguments,
                                       env=env)
        self.assertEqual(code, status, errors)
        result = json.loads(text)
        if jsonschema:
            self.assertEqual([f"{list(e.absolute_path)}: {e.message[:200]}" for e in
                              jsonschema.Draft202012Validator(SCHEMA).iter_errors(result)], [])
        return result, errors

    def refused(self, url, *arguments, status, env=None):
        """The one error line of a run that never began."""
        code, text, errors = self.tool("bench", "--target", url, "--num-prompts", "4", "--output-tokens", "2", *arguments, env=env)
        self.assertEqual((code, text), (status, ""), errors)
        lines = [line for line in errors.splitlines() if "error" in line]
        self.assertEqual(len(lines), 1, errors)
        return lines[0]

    def check(self, result, name):
        return next(c for c in result["validity"]["checks"] if c["id"] == name)


class Runs(Base):
    def test_every_request_is_sent_and_counted(self):
        with Server(cached=5) as server:
            result, _ = self.bench(server.url, "--model", "mock", "-o", "r.requests.jsonl", "--set", "run.target_vocab_size=50")
        sent = [b for b in server.bodies if len(b["prompt"]) == 16]
        self.assertEqual(len(sent), 24)
        for body in sent:
            self.assertEqual((body["model"], body["max_tokens"], body["stream"], body["ignore_eos"], body["temperature"]),
                             ("mock", 6, True, True, 0))
            self.assertTrue(all(0 <= token < 50 for token in body["prompt"]))
            self.assertNotIn("return_token_ids", body)  # the usage of each chunk says as much
        self.assertEqual(len({tuple(b["prompt"]) for b in sent}), 24)
        self.assertLessEqual(server.most, 4)
        self.assertLessEqual(len(server.connections), 6)  # kept open from request to request
        run = result["runs"][0]
        self.assertEqual((run["requests"]["completed"], run["requests"]["failed"], run["requests"]["refused"]), (24, 0, 0))
        length = run["window"]["length_s"]
        self.assertAlmostEqual(run["throughput"]["output_tokens"]["value"] * length, 24 * 6, delta=0.01)
        self.assertAlmostEqual(run["throughput"]["input_tokens"]["value"] * length, 24 * 11, delta=0.01)
        self.assertAlmostEqual(run["throughput"]["cached_tokens"]["value"] * length, 24 * 5, delta=0.01)
        self.assertEqual((run["latency"]["ttft"]["n"], run["latency"]["itl"]["n"]), (24, 24 * 5))
        self.assertGreater(run["latency"]["ttft"]["min"], 4)
        self.assertGreater(run["latency"]["itl"]["p"]["50"], 1.5)
        target = result["target"]
        self.assertEqual((target["url"], target["software"], target["prompts"], target["counted_by"], target["vocab_size"]),
                         (server.url, "mock/1", "token_ids", "usage", 50))
        self.assertEqual(target["answers"], {"chunks": 0, "total": 0, "usage": 24, "token_ids": 0})
        lines = [json.loads(line) for line in (self.path / "r.requests.jsonl").read_text().splitlines()]
        self.assertEqual({(l["num_prompt_tokens"], l["num_cached_tokens"], l["num_output_tokens"], l["s"]) for l in lines},
                         {(16, 5, 6, -1)})

    def test_what_a_server_does_not_tell_is_absent(self):
        with Server() as server:
            result, _ = self.bench(server.url)
        run = result["runs"][0]
        for value in (result["engine"], run["steps"], run["speed_of_light"], run["attribution"], run["threads"],
                      run["requests"]["preempted"], run["requests"]["verified"], run["throughput"]["cached_tokens"]["value"],
                      run["noise"]["other_share"], result["model"]["parameters"], result["model"]["weight_dtype"],
                      result["context"]["cpu"]["isa"], result["disclosure"]["prefix_caching"], run["latency"]["queue"]["mean"]):
            self.assertIsNone(value)
        self.assertEqual(set(run["series"]), {"dt_s", "output_tokens", "contaminated"})
        self.assertEqual([key for key in result["config"] if key.startswith(("scheduler.", "kv_cache.", "model."))], [])
        self.assertEqual({c["id"] for c in result["validity"]["checks"]} & {"verified", "placement", "limits"}, set())
        self.assertEqual(result["disclosure"]["boundary"], "http")

    def test_tokens_are_counted_as_well_as_the_server_tells_them(self):
        for options, counted_by, ids_wanted in (({"continuous": False}, "token_ids", True),
                                                ({"continuous": False, "ids": False}, "total", True),
                                                ({"usage": False, "ids": False}, "chunks", True), ({}, "usage", False)):
            with self.subTest(counted_by), Server(**options) as server:
                result, _ = self.bench(server.url)
                self.assertEqual(result["target"]["counted_by"], counted_by)
                self.assertEqual(result["runs"][0]["requests"]["completed"], 24)
                self.assertEqual("return_token_ids" in server.bodies[-1], ids_wanted)
                self.assertTrue(self.check(result, "token_count")["ok"])

    def test_chunks_of_several_tokens(self):
        with Server(per_chunk=3) as server:
            result, _ = self.bench(server.url)
        run = result["runs"][0]
        self.assertAlmostEqual(run["throughput"]["output_tokens"]["value"] * run["window"]["length_s"], 24 * 6, delta=0.01)
        self.assertEqual(run["latency"]["itl"]["n"], 24 * 5)
        self.assertEqual(run["latency"]["itl"]["p"]["50"], 0)
        self.assertAlmostEqual(result["target"]["tokens_per_chunk"], 3, delta=0.01)
        chunks = self.check(result, "chunks")
        self.assertEqual((chunks["ok"], chunks["severity"]), (False, "warn"))

    def test_tokens_that_only_the_usage_at_the_end_shows(self):
        with Server(per_chunk=3, continuous=False, ids=False) as server:
            result, _ = self.bench(server.url)
        run = result["runs"][0]
        self.assertAlmostEqual(run["throughput"]["output_tokens"]["value"] * run["window"]["length_s"], 24 * 6, delta=0.01)
        self.assertFalse(self.check(result, "token_count")["ok"])
        self.assertAlmostEqual(self.check(result, "token_count")["value"], 100 * 4 / 6, delta=0.01)

    def test_servers_that_take_less(self):
        with Server(text_only=True, openai_only=True, usage=False) as server:
            result, _ = self.bench(server.url)
        target = result["target"]
        self.assertEqual((target["prompts"], target["takes_extensions"]), ("text", False))
        self.assertEqual(len(server.bodies[-1]["prompt"].split()), 16)
        self.assertNotIn("ignore_eos", server.bodies[-1])
        self.assertFalse(result["disclosure"]["ignore_eos"])

    def test_answers_shorter_than_asked_for(self):
        with Server(stop_after=2) as server:
            result, _ = self.bench(server.url)
            self.assertFalse(self.check(result, "lengths")["ok"])
            result, _ = self.bench(server.url, "--set", "workload.ignore_eos=false")
            self.assertNotIn("lengths", {c["id"] for c in result["validity"]["checks"]})

    def test_the_models_that_it_lists(self):
        with Server(models=("a/b", "c"), entry={"max_model_len": 12, "vocab_size": 9}) as server:
            result, _ = self.bench(server.url, "--model", "a/b")
            self.assertEqual((result["model"]["name"], result["model"]["max_model_len"], result["target"]["vocab_size"]), ("a/b", 12, 9))
            self.assertEqual(result["runs"][0]["requests"]["shortened"], 24)
            error = self.refused(server.url, status=2)
            self.assertIn("it has several models, --model chooses: a/b, c", error)
            error = self.refused(server.url, "--model", "d", status=2)
            self.assertIn(f'{server.url}/models: no model "d"; it has: a/b, c', error)

    def test_the_ids_that_an_unknown_vocabulary_takes(self):
        for vocabulary, found in ((None, 8192), (1100, 1024), (20, 16)):
            with self.subTest(vocabulary), Server(vocabulary=vocabulary) as server:
                result, _ = self.bench(server.url)
                self.assertEqual((result["target"]["vocab_size"], result["target"]["prompts"]), (found, "token_ids"))
                self.assertEqual((result["runs"][0]["requests"]["completed"], result["target"]["problems"]), (24, []))

    def test_the_most_frequent_error_is_the_hint(self):
        with Server(fault=lambda number, body: f"400 {number}" if number % 2 else None) as server:
            result, _ = self.bench(server.url)
        self.assertEqual(result["target"]["problems"][-1], {"what": "others", "count": 5})
        self.assertIn("this prompt is too long", self.check(result, "failures")["hint"])

    def test_a_model_known_here_gives_the_prompts_of_its_own_runs(self):
        with Server() as server:
            result, _ = self.bench(server.url, "--model", "mock", "--set", "model.preset=tiny")
        self.assertEqual(result["target"]["vocab_size"], 256)
        self.assertEqual(result["config"]["run.target_model"], "mock")

    def test_a_key(self):
        with Server(key="secret") as server:
            result, _ = self.bench(server.url, env={"OPENAI_API_KEY": "secret"})
            self.assertNotIn("secret", json.dumps(result))
            self.assertIn("OPENAI_API_KEY is not set", self.refused(server.url, status=2))
            error = self.refused(server.url, status=2, env={"OPENAI_API_KEY": "wrong"})
            self.assertIn(f"{server.url}/models: 401: Invalid API key", error)
            self.assertNotIn("wrong", error)

    def test_an_open_loop_and_repetitions(self):
        with Server() as server:
            result, _ = self.bench(server.url, "--profile", "poisson", "--request-rate", "100", "--repetitions", "2", "--set",
                                   "run.cooldown=0s")
        self.assertEqual([r["requests"]["completed"] for r in result["runs"]], [24, 24])
        self.assertLess(self.check(result, "generator")["value"], 50)

    def test_connections_are_bounded(self):
        with Server() as server:
            result, _ = self.bench(server.url, "--profile", "throughput", "--set", "run.target_connections=3")
        self.assertEqual((server.most, result["runs"][0]["requests"]["completed"]), (3, 24))

    def test_the_table_page_and_other_forms(self):
        with Server() as server:
            code, text, errors = self.tool("bench", "--target", server.url, "--num-prompts", "8", "--output-tokens", "3", "-o", "r.json",
                                           "-o", "r.html", "-o", "r.csv", "-o", "r.md", "-o", "r.vllm.json")
            self.assertEqual(code, 0, errors)
            self.assertIn(f"mock  at {server.url}, mock/1", text)
            self.assertIn("8 completed, 0 failed", text)
            for word in ("queue", "steps", "KV", "preempted", "verified", "batch invariant"):
                self.assertNotIn(word, text)
            self.assertNotIn("null", text + (self.path / "r.csv").read_text() + (self.path / "r.md").read_text())
            self.assertIn(server.url, (self.path / "r.html").read_text())
            self.assertEqual(json.loads((self.path / "r.vllm.json").read_text())["backend"], "openai")
            for name in ("r.steps.jsonl", "r.trace.json", "r.prom"):
                self.assertIn("an engine's steps", self.refused(server.url, "-o", name, status=2))

    def test_side_by_side_with_an_engine(self):
        own = self.tool("bench", "--model", "tiny", "--num-prompts", "24", "--prompt-tokens", "16", "--output-tokens", "6", "--profile",
                        "concurrent", "--streams", "4", "--set", "kv_cache.num_kv_blocks=64", "-o", "own.json")
        self.assertEqual(own[0], 0, own[2])
        with Server() as server:
            self.bench(server.url, "-o", "served.json")
        code, text, errors = self.tool("compare", "own.json", "served.json")
        self.assertEqual(code, 0, errors)
        for word in ("output_tokens", "ttft.p50", "itl.p50", "tpot.p50", "target url", "target counted_by"):
            self.assertIn(word, text)
        self.assertNotIn("config scheduler", text)
        code, _, errors = self.tool("report", "own.json", "served.json", "-o", "both.html")
        self.assertEqual(code, 0, errors)

    def test_a_sweep(self):
        with Server() as server:
            (self.path / "s.toml").write_text(f'[run]\ntarget = "{server.url}"\n[workload]\nnum_prompts = 8\noutput_tokens = 2\n'
                                              'prompt_tokens = 4\n[load]\nprofile = "concurrent"\n[sweep]\n"load.streams" = [1, 2]\n')
            code, text, errors = self.tool("sweep", "s.toml")
            self.assertEqual(code, 0, errors)
            self.assertEqual(len((self.path / "s.jsonl").read_text().splitlines()), 2)
            code, text, errors = self.tool("sweep", "s.toml", "--dry-run")
            self.assertEqual((code, text.count(server.url)), (0, 2), errors)
            code, _, errors = self.tool("sweep", "s.toml", "--set", 'sweep."scheduler.max_num_seqs"=[1, 2]', "-o", "t.jsonl")
            self.assertEqual(code, 2)
            self.assertIn('"scheduler.max_num_seqs" has no effect', errors)

    def test_a_dry_run_sends_no_request(self):
        with Server() as server:
            code, text, errors = self.tool("bench", "--target", server.url, "--dry-run")
            self.assertEqual(code, 0, errors)
            self.assertIn(server.url, text)
            self.assertEqual(server.bodies, [])
        code, _, errors = self.tool("bench", "--target", server.url, "--dry-run")
        self.assertEqual(code, 1)
        self.assertIn("refused", errors)

    def test_an_interrupt_ends_the_answers(self):
        with Server(gap=0.05) as server:
            process = subprocess.Popen([QUIRE, "bench", "--target", server.url, "--num-prompts", "0", "--duration", "1h", "--output-tokens", "200",
                                        "--profile", "concurrent", "--streams", "3", "-o", "-"], cwd=self.path, text=True,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while server.count < 3:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            text, errors = process.communicate(timeout=20)
            self.assertEqual(process.returncode, 130, errors)
            self.assertTrue(json.loads(text)["partial"])
            until = time.monotonic() + 5
            while server.running and time.monotonic() < until:
                time.sleep(0.02)
            self.assertEqual(server.running, 0)


class Faults(Base):
    def run_with(self, fault, *arguments):
        """Every fourth request meets the fault; the others are well."""
        with Server(fault=lambda number, body: fault if number % 4 == 1 else None) as server:
            result, errors = self.bench(server.url, *arguments)
        requests = result["runs"][0]["requests"]
        self.assertEqual((requests["due"], requests["completed"]), (24, 18))
        self.assertEqual(result["validity"]["result"], "INVALID")
        problem, = result["target"]["problems"]
        self.assertEqual(problem["count"], 6)
        check = self.check(result, "failures")
        self.assertEqual((check["ok"], check["value"], check["hint"]), (False, 25, problem["what"]))
        lines = [line for line in errors.splitlines() if problem["what"] in line and server.url in line]
        self.assertEqual(len(lines), 1, errors)  # said once, with the address
        return requests["failed"], requests["refused"], problem["what"]

    def test_a_full_queue_is_a_refusal(self):
        self.assertEqual(self.run_with("429"), (0, 6, "429: too many requests"))

    def test_a_request_that_it_does_not_take(self):
        self.assertEqual(self.run_with("400"), (0, 6, "400: this prompt is too long"))

    def test_an_error_of_the_server(self):
        self.assertEqual(self.run_with("500"), (6, 0, "500: Internal Server Error"))

    def test_a_stream_that_breaks_off(self):
        for fault in ("break", "end"):
            failed, refused, what = self.run_with(fault)
            self.assertEqual((failed, refused), (6, 0))
            self.assertIn("the stream breaks off in the middle", what)

    def test_an_event_that_is_not_json(self):
        failed, refused, what = self.run_with("garbage")
        self.assertEqual((failed, refused), (6, 0))
        self.assertIn("an event is not JSON: {half of a", what)

    def test_an_error_in_the_stream(self):
        self.assertEqual(self.run_with("told"), (6, 0, "the server stops the stream: the engine died"))

    def test_an_answer_that_is_no_stream(self):
        failed, refused, what = self.run_with("json")
        self.assertEqual((failed, refused), (6, 0))
        self.assertIn("the answer is no stream of events", what)

    def test_a_connection_that_is_dropped(self):
        """With a request that is sent again too: a connection that was kept may have been closed meanwhile."""
        with Server(fault=lambda number, body: "drop" if body["prompt"][0] % 4 == 1 else None) as server:
            result, _ = self.bench(server.url)
        dropped = len({tuple(b["prompt"]) for b in server.bodies if b["prompt"][0] % 4 == 1 and len(b["prompt"]) == 16})
        requests = result["runs"][0]["requests"]
        self.assertGreater(dropped, 0)
        self.assertEqual((requests["failed"], requests["completed"]), (dropped, 24 - dropped))
        self.assertEqual(sum(p["count"] for p in result["target"]["problems"]), dropped)

    def test_a_server_that_hangs(self):
        began = time.monotonic()
        failed, refused, what = self.run_with("hang", "--set", "run.target_timeout=400ms", "--streams", "24")
        self.assertEqual((failed, refused, what), (6, 0, "nothing came for 0.4 s (run.target_timeout)"))
        self.assertLess(time.monotonic() - began, 20)

    def test_comments_in_a_stream_are_no_answer(self):
        failed, refused, what = self.run_with("comments", "--set", "run.target_timeout=400ms", "--streams", "24")
        self.assertEqual((failed, refused, what), (6, 0, "nothing came for 0.4 s (run.target_timeout)"))

    def test_a_long_message_is_cut_behind_a_character(self):
        self.assertEqual(self.run_with("told long"), (6, 0, "the server stops the stream: x" + "\u20ac" * 39))

    def test_a_server_that_goes_away_ends_the_run(self):
        with Server(fault=lambda number, body: "500" if number >= 8 else None) as server:
            code, text, errors = self.tool("bench", "--target", server.url, "--num-prompts", "0", "--duration", "1h", "--output-tokens", "4",
                                           "--profile", "concurrent", "--streams", "2", "-o", "-")
            self.assertEqual(code, 1, errors)
            self.assertIn(f"{server.url}/completions: 16 requests in a row failed, the last: 500", errors)
            self.assertTrue(json.loads(text)["partial"])
            self.assertLess(server.count, 40)


class Refusals(Base):
    def test_nobody_listens(self):
        with Server() as server:
            pass
        error = self.refused(server.url, status=1)
        self.assertIn(f"{server.url}/models", error)
        self.assertIn("onnection refused", error)

    def test_not_such_a_server(self):
        with Server(models_page=(200, "<html>hello</html>", "text/html")) as server:
            self.assertIn(f"{server.url}/models: not an OpenAI-compatible server", self.refused(server.url, status=1))
            error = self.refused(server.url.replace("/v1", "/other"), status=1)
            self.assertIn("/other/models: 404", error)
            self.assertIn("run.target must be the address", error)

    def test_a_list_without_a_model(self):
        for models in ([], [{"object": "model"}], [{"id": 5}]):
            with Server(models_page=(200, {"data": models})) as server:
                self.assertIn("/models: it lists no model", self.refused(server.url, status=1))

    def test_a_name_longer_than_any(self):
        for name in ("m" * 600, "\u00e4" * 300):
            with Server(models=(name,)) as server:
                self.assertIn("/models: the name of its model is longer than 511 bytes", self.refused(server.url, status=1))
        with Server(models_page=(404, "{}")) as server:
            self.assertIn("longer than 511 bytes", self.refused(server.url, "--model", "m" * 600, status=1))
        with Server(models=("/models/" + "m" * 500,)) as server:  # vLLM's name of a folder is its path
            result, _ = self.bench(server.url)
        self.assertEqual(result["model"]["name"], server.models[0])

    def test_a_reply_without_end(self):
        with Server(models_page=(200, "x" * (5 << 20))) as server:
            self.assertIn("/models: the reply is longer than 4 MiB", self.refused(server.url, status=1))
        with Server(endless=500) as server:
            self.assertIn("/completions: 500: xxx", self.refused(server.url, status=1))
        with Server(endless=200) as server:
            self.assertIn("/completions: the answer is no stream of events: xxx", self.refused(server.url, status=1))

    def test_a_redirect(self):
        with Server(models_page=(302, "")) as server:
            self.assertIn("/models: 302: run.target must be the address that this one redirects to", self.refused(server.url, status=1))

    def test_a_server_that_lists_no_models(self):
        with Server(models_page=(404, "{}")) as server:
            result, _ = self.bench(server.url, "--model", "mock")
            self.assertEqual(result["runs"][0]["requests"]["completed"], 24)
            error = self.refused(server.url, "--model", "other", status=1)
            self.assertIn("/completions: 404: The model other does not exist", error)

    def test_a_server_without_completions(self):
        """Its address is right: it lists its models there."""
        with Server(completions_page=(404, {"detail": "\u20ac" * 50})) as server:
            error = self.refused(server.url, status=1)
        self.assertIn("/completions: 404: " + "\u20ac" * 20 + "; the server lists its models, but has no completions here", error)

    def test_addresses(self):
        for url, why in (("localhost:1", "expected http://HOST:PORT/v1"), ("ftp://h/v1", "neither http nor https"),
                         ("http://a:b@h/v1", "a name or password has no place in it"), ("http://h/v1?x=1", "it must end with its path"),
                         ("http://h/v1/completions", "give what stands before /completions"), ("http://h:1/" + "x" * 300, "too long")):
            self.assertIn(why, self.refused(url, status=2))

    def test_the_path_may_be_left_out(self):
        with Server() as server:
            result, _ = self.bench(server.url.removesuffix("/v1") + "/")
            self.assertEqual(result["target"]["url"], server.url)

    def test_keys_that_contradict_each_other(self):
        for arguments, why in ((["--set", "run.clock=virtual"], "a server has no virtual clock"),
                               (["--profile", "concurrent", "--streams", "9", "--set", "run.target_connections=8"],
                                "9 are more than run.target_connections, 8"),
                               (["--set", "run.target_timeout=0s"], "below 1ms")):
            self.assertIn(why, self.refused("http://127.0.0.1:9/v1", *arguments, status=2))

    def test_requests_that_have_no_place_in_a_completion(self):
        (self.path / "b.jsonl").write_text('{"prompt": [1, 2], "max_tokens": 2, "beam_width": 2}\n')
        (self.path / "a.jsonl").write_text('{"prompt": [1, 2], "max_tokens": 2, "allowed_token_ids": [5]}\n' * 2 + '{"prompt": [1, 2], "max_tokens": 2}\n')
        with Server() as server:
            self.assertIn("beam search", self.refused(server.url, "--requests", "b.jsonl", status=2))
            result, errors = self.bench(server.url, "--requests", "a.jsonl")
            self.assertEqual((result["runs"][0]["requests"]["refused"], result["runs"][0]["requests"]["completed"]), (2, 1), errors)
            self.assertIn("a completion has no place for lists of allowed tokens", errors)

    def test_keys_of_an_engine_are_warned_of(self):
        with Server() as server:
            _, errors = self.bench(server.url, "--set", "scheduler.max_num_seqs=4")
            self.assertIn("scheduler.max_num_seqs only applies to an engine of this process", errors)


if __name__ == "__main__":
    unittest.main()
