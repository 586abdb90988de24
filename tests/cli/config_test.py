#!/usr/bin/env python3
"""quire config, flags, --dry-run, --help=WORD and completion, all from one key table. config_test.py QUIRE"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json

QUIRE = str(pathlib.Path(sys.argv.pop(1)).resolve())
SOURCE = pathlib.Path(__file__).resolve().parents[2]


def run(*arguments, **environment):
    return subprocess.run([QUIRE, *arguments], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **environment})


class Config(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def file(self, name, text):
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def set_by(self, *flags):
        """The lines of --print-config whose origin is not built-in, without their comments."""
        done = run("bench", "--model", "tiny", *flags, "--print-config")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [line.split(" # ") for line in done.stdout.splitlines() if " # " in line]
        return {name.split(" = ")[0]: (name.split(" = ", 1)[1], origin) for name, origin in lines if origin != "built-in"}

    def test_every_key_is_a_flag(self):
        values = self.set_by("--max-num-seqs", "16", "--scheduler-watermark=0.1", "--no-enable-prefix-caching", "--vary-seed",
                             "--size", "64MiB", "--barrier-spin", "5us")
        self.assertEqual(values["max_num_seqs"], ("16", "--max-num-seqs"))
        self.assertEqual(values["watermark"], ("0.1", "--scheduler-watermark"))
        self.assertEqual(values["enable_prefix_caching"][0], "false")
        self.assertEqual(values["vary_seed"][0], "true")
        self.assertEqual(values["size"][0], '"64MiB"')

    def test_a_rate_alone_is_that_rate_and_inf_is_all_at_once(self):
        path = self.file("rate.toml", "[load]\nrequest_rate = 2.0\n")
        for flags, origin in ((["--request-rate", "5"], "--request-rate"), (["--request-rate", "1"], "--request-rate"),
                              ([path], path + ":2")):
            profile = self.set_by(*flags)["profile"]
            self.assertEqual(profile[0], '"poisson"')
            self.assertTrue(profile[1].startswith(origin), profile)
        self.assertEqual(self.set_by("--request-rate", "5", "--profile", "gamma")["profile"][0], '"gamma"')
        self.assertEqual(self.set_by("--profile", "constant", path)["profile"][0], '"constant"')
        self.assertEqual(self.set_by("--request-rate", "inf", path)["profile"], ('"throughput"', "--request-rate"))
        spelt = self.file("spelt.toml", "[load]\nprofile = 'throughput'\nrequest_rate = 1.0\n")  # as a template has them
        self.assertEqual(self.set_by(spelt)["profile"][0], '"throughput"')

    def test_dtype_is_that_of_the_weights(self):
        values = run("bench", "--model", "tiny", "--dtype", "int8", "--kv-cache-dtype", "f32", "--print-config").stdout
        self.assertIn('weight_dtype = "int8" # --dtype\n', values)
        self.assertIn('dtype = "f32" # --kv-cache-dtype\n', values)
        done = run("check", "--model", "tiny", "--dtype", "x")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--dtype: [model] weight_dtype", done.stderr)

    def test_help_says_that_keys_are_flags(self):
        for command in ("bench", "generate", "sweep", "compare", "check"):
            self.assertIn("--max-num-seqs 16", " ".join(run(command, "--help").stdout.split()), command)

    def test_lengths_and_limits_have_short_forms(self):
        values = self.set_by("--prompt-tokens", "128:1024", "--output-tokens", "lognormal:30:5", "--encoder-tokens", "7",
                             "--goodput", "ttft:2000,itl_p99:50")
        self.assertEqual(values["prompt_tokens"][0], '{ dist = "uniform", max = 1024, min = 128 }')
        self.assertEqual(values["output_tokens"][0], '{ dist = "lognormal", mean = 30, stdev = 5 }')
        self.assertEqual(values["encoder_tokens"][0], '{ dist = "fixed", value = 7 }')
        self.assertEqual((values["ttft"][0], values["itl_p99"][0]), ("2000", "50"))

    def test_a_part_that_a_short_form_lacks_is_named(self):
        for value, says in (("lognormal:5", "stdev is missing; expected lognormal:mean:stdev"),
                            ("lognormal", "mean is missing; expected lognormal:mean:stdev"),
                            ("zipf:1:", "max is missing; expected zipf:s:max"), ("128:", "max is missing; expected min:max")):
            done = run("bench", "--model", "tiny", "--prompt-tokens", value)
            self.assertEqual(done.returncode, 2)
            self.assertIn(f"--prompt-tokens {value}: {says}", done.stderr)

    def test_the_last_flag_wins_over_environment_and_file(self):
        path = self.file("a.toml", "[load]\nstreams = 2\n[run]\nrepetitions = 2\n[scheduler]\nmax_num_seqs = 2\n")
        done = run("config", "print", path, "--streams", "3", "--set", "load.streams=4", QUIRE__RUN__REPETITIONS="3",
                   QUIRE__LOAD__STREAMS="9")
        self.assertIn("streams = 4 # --set\n", done.stdout)
        self.assertIn("repetitions = 3 # QUIRE__RUN__REPETITIONS\n", done.stdout)
        self.assertIn(f"max_num_seqs = 2 # {path}:6\n", done.stdout)

    def test_wrong_flags_are_refused(self):
        for flags in (["--goodput", "foo:3"], ["--goodput", "ttft"], ["--prompt-tokens", "foo:3"], ["--max-num-seqs", "0"],
                      ["--no-max-num-seqs"]):
            done = run("bench", "--model", "tiny", *flags, "--print-config")
            self.assertEqual(done.returncode, 2, flags)

    def test_a_message_names_the_flag_as_it_was_written(self):
        for flag in ("--kv-cache-size", "--size"):
            done = run("bench", "--model", "tiny", flag, "0B", "--print-config")
            self.assertEqual(done.stderr, f'quire: error: {flag}: [kv_cache] size: "0B" is below the minimum 1B\n')

    def test_a_wrong_log_level_is_named_once_and_ignored(self):
        warning = 'quire: warning: QUIRE_LOG: "bogus" is not one of error | warn | info | debug; it is ignored\n'
        bench = ("bench", "--model", "tiny", "--dry-run", "--set", "output.log_level=error")
        self.assertEqual(run(*bench, QUIRE_LOG="bogus").stderr.count(warning), 1)
        self.assertNotIn("QUIRE_LOG", run(*bench, QUIRE_LOG="warn").stderr)

    def test_diff_names_what_differs(self):
        a, b = self.file("a.toml", "[load]\nstreams = 2\n"), self.file("b.toml", "[load]\nstreams = 16\n[kv_cache]\nblock_size = 64\n")
        done = run("config", "diff", a, b)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout, "- [kv_cache] block_size = 32\n- [load] streams = 2\n"
                                      "+ [kv_cache] block_size = 64\n+ [load] streams = 16\n")
        self.assertEqual(run("config", "diff", a, a).returncode, 0)
        self.assertEqual(run("config", "diff", a).returncode, 2)

    def test_help_finds_keys_by_a_word(self):
        done = run("bench", "--help=preempt")
        self.assertEqual(done.returncode, 0)
        self.assertIn("scheduler.tenant_fairness", done.stdout)
        self.assertIn("--goodput NAME:MS,...\n", run("bench", "--help=goodput").stdout)
        self.assertEqual(run("bench", "--help=zzz").returncode, 1)

    def test_the_shell_is_told_flags_and_choices(self):
        flags = run("sweep", QUIRE_COMPLETE="").stdout.split()
        for flag in ("--capacity", "--resume", "--max-num-seqs", "--prompt-tokens", "--set", "--no-zero-on-free"):
            self.assertIn(flag, flags)
        self.assertEqual(run("bench", QUIRE_COMPLETE="--policy").stdout.split(), ["fcfs", "priority"])
        self.assertIn("load.streams=", run("bench", QUIRE_COMPLETE="--set").stdout.split())
        self.assertEqual(run("bench", QUIRE_COMPLETE="--goodput").stdout.split(), ["ttft:", "tpot:", "e2el:", "itl_p99:"])
        self.assertIn("ttft.p99", run("compare", QUIRE_COMPLETE="--metric").stdout.split())
        for command, flag in (("report", "--output"), ("kernel", "--head-dim"), ("topo", "--cpus"), ("generate", "--input")):
            done = run(command, QUIRE_COMPLETE="")
            self.assertEqual((done.returncode, done.stderr), (0, ""), command)
            self.assertIn(flag, done.stdout.split())

    def test_the_presets_that_exist_are_offered(self):
        offered = run("bench", QUIRE_COMPLETE="--model").stdout.split()
        named, more = re.search("is not one of (.*) and ([0-9]+) more", run("check", "--model", "nothing").stderr).groups()
        self.assertEqual(offered[:len(named.split(", "))], named.split(", "))
        self.assertEqual(len(offered), len(named.split(", ")) + int(more))

    def test_bash_completes(self):
        script = f"""
            source {SOURCE}/cli/completion/quire.bash
            compopt() {{ :; }}
            COMP_WORDS=({QUIRE} bench --profile po); COMP_CWORD=3
            _quire {QUIRE}; echo "${{COMPREPLY[@]}}"
            COMP_WORDS=({QUIRE} bench --model tinyl); COMP_CWORD=3
            _quire {QUIRE}; echo "${{COMPREPLY[@]}}"
            COMP_WORDS=({QUIRE} report --); COMP_CWORD=2
            _quire {QUIRE}; echo "${{COMPREPLY[@]}}"
            COMP_WORDS=({QUIRE} comp); COMP_CWORD=1
            _quire {QUIRE}; echo "${{COMPREPLY[@]}}"
            COMP_WORDS=({QUIRE} perp); COMP_CWORD=1
            _quire {QUIRE}; echo "${{COMPREPLY[@]}}"
            COMP_WORDS=({QUIRE} kernel att); COMP_CWORD=2
            _quire {QUIRE}; echo "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stdout.split(),
                         ["poisson", "tinyllama-1.1b", "--output", "compare", "perplexity", "attention"], done.stderr)

    def test_a_key_without_effect_is_said(self):
        for flags, key in ((["--profile", "concurrent", "--request-rate", "3"], "load.request_rate"),
                           (["--profile", "poisson", "--streams", "3"], "load.streams")):
            done = run("bench", "--dry-run", "--model", "tiny", *flags)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (0, 1), done.stderr)
            self.assertIn(f"{flags[2]}: {key} only applies to", done.stderr)
        trace = self.file("t.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n1,4,4\n2,4,4\n")
        done = run("bench", "--dry-run", "--model", "tiny", "--trace", trace, "--prompt-tokens", "9", "--request-rate", "2")
        self.assertEqual(done.stderr.count("warning"), 2, done.stderr)
        done = run("bench", "--dry-run", "--model", "tiny", "--profile", "poisson", "--request-rate", "2")
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_dry_run_plans_memory_and_time(self):
        done = run("bench", "--dry-run", "--model", "tiny", "--num-prompts", "10", "--prompt-tokens", "5",
                   "--output-tokens", "7")
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in ("KV cache", "10 requests, 50 prompt tokens, 70 output tokens", "at least", "no request was run"):
            self.assertIn(word, done.stdout)
        done = run("bench", "--dry-run", "--model", "tiny", "--profile", "poisson", "--duration", "30s",
                   "--repetitions", "3", "--set", 'run.warmup={mode="duration",min="4s"}')
        self.assertIn("all 106 to 196 s", done.stdout)  # 3 x (4 + 30) + 2 x 2; and 30 s of grace each
        done = run("bench", "--dry-run", "--model", "tiny", "--size", "900TiB")
        self.assertEqual(done.returncode, 2)
        self.assertIn("kv_cache", done.stderr)

    def test_the_default_benchmark_is_bounded_and_says_how_far_its_prompts_are(self):
        values = run("bench", "--print-config").stdout
        self.assertIn('duration = "120s" # default scenario\n', values)
        self.assertIn('duration = "7s" # --duration\n', run("bench", "--duration", "7s", "--print-config").stdout)
        tiny = ("bench", "--model", "tiny", "--duration", "1s", "--output-tokens", "2", "--set", "run.limits=false")
        self.assertRegex(run(*tiny, "--dry-run").stdout,
                         r"at least 0\.0*[1-9]\d* s each \(.*\), of which run.duration allows 1 s; in all at least 0\.0*[1-9]\d* s\n")
        self.assertNotIn("too long", run(*tiny, "--dry-run").stdout)
        self.assertIn("too long: not all requests can end within run.duration\n",
                      run(*tiny, "--num-prompts", "10000000", "--dry-run").stdout)
        done = run(*tiny, "--num-prompts", "100000", "--set", "output.progress=jsonl", "--set", "output.log_level=error")
        lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        self.assertGreater([line for line in lines if line["phase"] != "verifying"][-1]["prompt_tokens"], 128)
        self.assertIn("run of 1.0 s", done.stdout)

    def test_a_template_is_no_wish_for_anything(self):
        template = self.file("t.toml", run("config", "template").stdout)
        done = run("bench", template, "--model", "tiny", "--dry-run")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        done = run("bench", template, "--model", "tiny", "--dry-run", "--max-rate", "63")
        self.assertIn("--max-rate: capacity.max_rate is read by `quire sweep --capacity` only", done.stderr)

    def test_requests_that_the_cache_can_never_hold_are_said_before_any_work(self):
        small = ["bench", "--model", "tiny", "--set", "kv_cache.num_kv_blocks=2", "--set", "kv_cache.block_size=32",
                 "--num-prompts", "20", "--output-tokens", "8"]
        for flags in (["--dry-run"], []):
            done = run(*small, "--prompt-tokens", "90", *flags)
            self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
            self.assertIn("no request fits the KV cache: the longest has 98 tokens, the cache holds 64 (2 blocks of 32)",
                          done.stderr)
        done = run(*small, "--prompt-tokens", "10:110", "--dry-run")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r"warning: \d+ of 20 requests do not fit the KV cache")
        self.assertNotIn("requests", run(*small, "--prompt-tokens", "57", "--dry-run").stderr)  # 64 + 1: the last is not kept

    def test_requests_beyond_max_model_len_are_said_before_any_work(self):
        asked = ["bench", "--model", "tiny", "--num-prompts", "20", "--output-tokens", "2", "--prompt-tokens"]
        for flags in (["--dry-run"], []):
            done = run(*asked, "4096", *flags)
            self.assertIn("20 of 20 requests are shortened: prompt and output are beyond max_model_len 2048", done.stderr)
            self.assertNotIn("shortened", run(*asked, "2046", *flags).stderr)

    def test_check_and_dry_run_refuse_what_an_engine_refuses_with_its_message(self):
        requests = self.file("requests.jsonl", '{"prompt": [1, 2], "max_tokens": 2}\n')
        for size, possible in (("2", False), ("10", False), ("12", True), ("100", True), ("512", False)):
            flags = ("--model", "tiny", "--set", "kv_cache.size=8MiB", "--set", f"model.shape.head_dim={size}")
            done = [run(*command, *flags) for command in (("generate", "--input", requests), ("check",),
                                                          ("bench", "--dry-run", "--num-prompts", "1"))]
            refusals = [d.returncode and d.stderr.splitlines()[-1] for d in done]
            self.assertEqual(not refusals[0], possible, refusals[0])
            self.assertEqual(len(set(refusals)), 1, refusals)

    def test_a_dry_run_of_a_sweep_and_of_a_comparison(self):
        text = '[model]\npreset = "tiny"\n[load]\nprofile = "concurrent"\n[sweep]\n"load.streams" = [1, 2]\n'
        a = self.file("a.toml", text)
        self.assertIn("2 points", run("sweep", "--dry-run", a).stdout)
        self.assertIn("---- 2 of 2", run("compare", "--run", "--dry-run", a, a).stdout)
        self.assertEqual(run("compare", "--dry-run", a, a).returncode, 2)

    def test_the_schema_takes_what_the_tool_takes(self):
        try:
            import jsonschema
            import tomllib
        except ImportError:
            self.skipTest("python3-jsonschema is not there")
        schema = json.loads(run("config", "schema").stdout)
        jsonschema.Draft202012Validator.check_schema(schema)
        accept = jsonschema.Draft202012Validator(schema).is_valid
        self.assertTrue(accept(tomllib.loads(run("config", "template").stdout)))
        rich = '[workload]\nprompt_tokens = 7\n[[workload.mix]]\nweight = 2\noutput_tokens = {dist = "zipf", s = 1.1, max = 9}\n' \
               '[model.shape]\nnum_hidden_layers = 2\n[sweep]\n"load.streams" = "1-8"\n"load.burstiness" = [0.5]\n' \
               '[[tenant]]\nname = "a"\nweight = 2\n[output]\nlabel = {a = "b"}\npercentiles = [50]\n'
        self.assertTrue(accept(tomllib.loads(rich)))
        self.assertEqual(run("config", "print", self.file("rich.toml", rich)).returncode, 0)
        for wrong in ("[workload]\nprompt_token = 7\n", "[run]\nrepetitions = 0\n", "[load]\nprofile = 'x'\n",
                      "[kv_cache]\nblock_size = 33\n", "[[tenant]]\nnam = 'a'\n", "[nothing]\n", "[slo]\nttft = 0\n"):
            self.assertFalse(accept(tomllib.loads(wrong)), wrong)
            self.assertEqual(run("config", "print", self.file("wrong.toml", wrong)).returncode, 2, wrong)


if __name__ == "__main__":
    unittest.main()
