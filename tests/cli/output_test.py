#!/usr/bin/env python3
"""What `quire bench` puts out: the width of its table, full disks and closed pipes, an interrupt, and Prometheus text.

usage: output_test.py QUIRE [unittest options]"""
import collections
import fcntl
import os
import pathlib
import pty
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json

QUIRE = str(pathlib.Path(sys.argv[1]).resolve())
MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"
os.environ["QUIRE__RUN__LIMITS"] = "false"  # seconds, where nothing but test_steps_are_compared_with_the_limit needs them
TINY = ["bench", "--model", "tiny", "--set", "kv_cache.num_kv_blocks=256", "--prompt-tokens", "16"]
SHORT = [*TINY, "--num-prompts", "8", "--output-tokens", "4"]
ENDLESS = [*TINY, "--profile", "concurrent", "--streams", "4", "--num-prompts", "0", "--output-tokens", "64", "--duration", "1h", "--set",
           "run.warmup.mode=none"]


class Base(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)

    def run_tool(self, *arguments, **options):
        options.setdefault("stdout", subprocess.PIPE)
        done = subprocess.run([QUIRE, *arguments], cwd=self.path, stderr=subprocess.PIPE, timeout=120, **options)
        return done.returncode, (done.stdout or b"").decode(), done.stderr.decode()

    def assert_table(self, text):
        for word in ("throughput", "latency, ms", "TTFT", "requests:"):
            self.assertIn(word, text)


class Libraries(Base):
    def test_what_they_print_goes_to_standard_error(self):
        """oneDNN's verbose lines, which it prints on standard output."""
        requests = b'{"prompt": [1, 2, 3], "max_tokens": 2}\n' * 2
        for arguments, lines in ((["generate", "--model", "tiny", "--set", "kv_cache.num_kv_blocks=64"], 2),
                                 ([*SHORT, "-o", "-"], 0), ([*SHORT], None)):
            status, text, errors = self.run_tool(*arguments, "--weight-dtype", "f32", input=requests, env={**os.environ, "ONEDNN_VERBOSE": "1"})
            self.assertEqual(status, 0, errors)
            self.assertIn("onednn_verbose", errors)
            self.assertNotIn("onednn_verbose,", text)
            if lines is not None:
                self.assertEqual([type(json.loads(part)) for part in (text.splitlines() if lines else [text])],
                                 [dict] * (lines or 1))

    def test_help_and_completion_are_results(self):
        for arguments in (["--help"], ["--version"], ["bench", "--help"], ["kernel", "--help"], ["report", "--usage"],
                          ["bench", "--help=streams"], ["config", "keys"], ["topo"]):
            status, text, errors = self.run_tool(*arguments)
            self.assertEqual((status, errors), (0, ""))
            self.assertGreater(len(text), 20)


class Inputs(Base):
    """A file that is read is not written: not by another name, and before anything is truncated."""

    def assert_kept(self, name, what, *arguments, stdin=None):
        before = (self.path / name).read_bytes()
        status, _, errors = self.run_tool(*arguments, stdin=stdin)
        self.assertEqual((self.path / name).read_bytes(), before, arguments)
        self.assertEqual(status, 2, errors)
        self.assertIn(f"would overwrite {what}", errors)

    def test_requests(self):
        tiny = ["--model", "tiny", "--set", "kv_cache.num_kv_blocks=64"]
        (self.path / "r.requests.jsonl").write_text('{"prompt": [1, 2], "max_tokens": 1}\n')
        (self.path / "link.jsonl").symlink_to("r.requests.jsonl")
        os.link(self.path / "r.requests.jsonl", self.path / "hard.jsonl")
        for output in ("r.requests.jsonl", "./r.requests.jsonl", "link.jsonl", "hard.jsonl"):
            self.assert_kept("r.requests.jsonl", "the file that generate.input names", "generate", *tiny,
                             "-i", "r.requests.jsonl", "-o", output)
        with open(self.path / "r.requests.jsonl") as stdin:
            self.assert_kept("r.requests.jsonl", "the file that generate.input names", "generate", *tiny,
                             "-o", "r.requests.jsonl", stdin=stdin)
        self.assert_kept("r.requests.jsonl", "the file that workload.path names", "bench", *tiny,
                         "--requests", "r.requests.jsonl", "-o", "r.requests.jsonl")

    def test_standard_output_that_grows_the_input(self):
        (self.path / "r.jsonl").write_text('{"prompt": [1, 2], "max_tokens": 1}\n')
        with open(self.path / "r.jsonl", "a") as stdout:
            status, _, errors = self.run_tool("generate", "--model", "tiny", "-i", "r.jsonl", stdout=stdout)
        self.assertEqual(status, 2, errors)
        self.assertEqual(len((self.path / "r.jsonl").read_text().splitlines()), 1)

    def test_configuration_and_what_it_names(self):
        (self.path / "lengths.csv").write_text("prompt\n8\n")
        (self.path / "c.json").write_text(
            'model.preset = "tiny"\nload.profile = "poisson"\nworkload.num_prompts = 1\nsweep."load.request_rate" = [1, 2]\n'
            '[[workload.mix]]\nweight = 1\n'
            'prompt_tokens = {dist = "empirical", file = "lengths.csv", column = "prompt"}\n')
        (self.path / "trace.json").symlink_to("c.json")
        for command in (["bench", "c.json"], ["workload", "c.json"], ["sweep", "c.json", "--resume"]):
            self.assert_kept("c.json", "the configuration", *command, "-o", "c.json")
        self.assert_kept("c.json", "the configuration", "generate", "-c", "c.json", "-o", "trace.json")
        (self.path / "lengths.json").symlink_to("lengths.csv")
        for command in (["bench", "c.json"], ["compare", "--run", "c.json", "c.json"]):
            self.assert_kept("lengths.csv", "the file that workload.mix[0].prompt_tokens.file names", *command,
                             "-o", "lengths.json")

    def test_model_and_results(self):
        shutil.copytree(MODELS / "qwen2-bias", self.path / "model")
        self.assert_kept("model/config.json", "a file of the model", "bench", "--model", "model", "-o", "model/config.json")
        request = json.dumps({"prompt": [1, 2], "max_tokens": 1})
        for name in ("model.gguf", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"):
            (self.path / "model" / name).write_bytes(b"GGUF")
        for model, output in (("model", "model.gguf"), ("model/model.gguf", "model.gguf"),
                              ("model/m-00001-of-00002.gguf", "m-00002-of-00002.gguf")):
            (self.path / "in.jsonl").write_text(request)
            self.assert_kept(f"model/{output}", "a file of the model", "generate", "--model", model, "-i", "in.jsonl",
                             "-o", f"model/{output}")
        (self.path / "r.json").write_text("{}")
        (self.path / "r.html").symlink_to("r.json")
        self.assert_kept("r.json", "the result r.json", "report", "r.json", "-o", "r.html")


class Table(Base):
    def test_one_thread_on_one_node_is_singular(self):
        status, table, errors = self.run_tool(*SHORT, "--set", "topology.threads=1")
        self.assertEqual(status, 0, errors)
        self.assertIn("engine: 1 thread on 1 node, ", errors)
        self.assertIn("\n1 thread on 1 node, ", table)
        self.assertNotIn("1 threads", errors + table)

    def test_one_of_a_kind_is_singular(self):
        request = b'{"prompt": [1], "max_tokens": 1}\nnonsense\n'
        _, _, errors = self.run_tool("generate", "--model", "tiny", "--num-kv-blocks", "64", "--threads", "1", input=request)
        self.assertIn(" 1 bad line, 1 output token in ", errors)
        self.assertRegex(errors, "quire: 1 step, 1 prompt token computed, .*, 1 thread\n")
        _, text, errors = self.run_tool(*SHORT, "--num-prompts", "1")
        self.assertIn("requests: 1 request, needs", text + errors)
        _, text, _ = self.run_tool("workload", "--num-prompts", "1")
        self.assertIn("1 request, profile", text)

    def test_intervals_of_several_runs_are_those_of_the_mean_and_the_rest_says_that_it_is_run_1(self):
        for repetitions in (1, 3):
            status, table, errors = self.run_tool(*SHORT, "--set", "slo.ttft=1", "--repetitions", str(repetitions), "-o", "r.json")
            self.assertEqual(status, 0, errors)
            with open(self.path / "r.json") as file:
                result = json.load(file)
            means, run = result["aggregate"]["throughput"], result["runs"][0]
            for head, name, digits in (("output tokens/s", "output_tokens", 2), ("input tokens/s computed", "input_tokens", 2),
                                       ("requests/s", "requests", 3)):
                interval = means[name]["ci95"] if repetitions > 1 else run["throughput"][name]["ci95"]
                words = len(head.split())
                [row] = [line[words:] for line in map(str.split, table.splitlines()) if line[:words] == head.split()]
                for shown, value in zip(row, (means[name]["mean"], *interval), strict=True):
                    if value is None:
                        self.assertEqual(shown, "-")
                    else:
                        self.assertEqual(len(shown.partition(".")[2]), digits)
                        self.assertAlmostEqual(float(shown), value, delta=0.51 * 10 ** -digits)
            goodput = next(line for line in table.splitlines() if "goodput" in line)
            self.assertIn(f" {means['goodput']['mean']:.3f} ", goodput)
            self.assertEqual("in run 1" in goodput, repetitions > 1)
            self.assertEqual("of run 1 of 3\n" in table, repetitions > 1)

    def test_no_line_is_longer_than_100_columns(self):
        for arguments in ([*SHORT, "--set", "output.percentiles=[1,50,90,95,99]"],
                          [*SHORT, "--set", "slo.ttft=1", "--set", "slo.tpot=1"],
                          ["bench", "--model", "qwen3-0.6b", "--set", "model.shape.num_hidden_layers=1", "--set",
                           "kv_cache.num_kv_blocks=64", "--num-prompts", "4", "--output-tokens", "4"],
                          ["bench", "--model", "t5-small", "--set", "kv_cache.num_kv_blocks=256", "--num-prompts", "4",
                           "--encoder-tokens", "16", "--output-tokens", "4"]):
            status, table, errors = self.run_tool(*arguments)
            self.assertEqual(status, 0, errors)
            self.assert_table(table)
            self.assertEqual([line for line in table.splitlines() if len(line) > 100], [])
            self.assertNotIn("nan", table)


    def test_the_shares_of_the_time_add_up(self):
        for arguments in (SHORT, ["bench", "--model", "t5-small", "--set", "kv_cache.num_kv_blocks=256", "--num-prompts", "8",
                                  "--encoder-tokens", "64", "--output-tokens", "4"]):
            _, table, errors = self.run_tool(*arguments, "-o", "r.json")
            lines = table.splitlines()
            heads = [lines[i - 1].split() for i, line in enumerate(lines) if line.startswith("  share")]
            shares = [[float(x) for x in line.split()[1::2]] for line in lines if line.startswith("  share")]
            self.assertEqual([head[0] for head in heads], ["window", "steps"], errors)
            for head, row in zip(heads, shares):
                self.assertEqual(len(head) - 1, len(row))
                self.assertAlmostEqual(sum(row), 100, delta=0.05 * len(row) + 0.01)
                self.assertEqual("encoder" in head, "t5-small" in arguments)
            steps = json.loads((self.path / "r.json").read_text())["runs"][0]["steps"]
            busy = sum(steps["time_s"][kind] for kind in ("encoder", "prefill", "decode"))
            self.assertAlmostEqual(sum(steps["stage_s"].values()), busy, delta=1e-6 * busy)
            self.assertEqual(steps["stage_s"]["encoder"] > 0, "t5-small" in arguments)


    def test_the_counts_of_requests_add_up(self):
        for rate, warm_up in (("60", "none"), ("60", "duration"), ("30000", "duration")):
            status, table, errors = self.run_tool(*TINY, "--profile", "poisson", "--request-rate", rate, "--num-prompts", "0",
                                                  "--output-tokens", "64", "--duration", "1s", "--set", "run.grace=0s", "--set",
                                                  f"run.warmup={{mode=\"{warm_up}\",min=\"0.3s\"}}", "--set", "run.verify_fraction=0")
            self.assertEqual(status, 0, errors)
            line = " ".join(table[table.index("\nrequests: "):].split())
            came, ended = line.split(";")[0].split(": ")[1:]
            self.assertEqual(*(sum(int(word) for word in part.split() if word.isdigit()) for part in (came, ended)), line)
        self.assertIn(" from the warm-up: ", line)


class Progress(Base):
    def in_terminal(self, width):
        """What a terminal of this width gets on stderr, redrawn lines apart."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        tool = subprocess.Popen([QUIRE, *ENDLESS, "--set", "output.log_level=error", "--duration", "2s"],
                                cwd=self.path, stdout=subprocess.DEVNULL, stderr=theirs)
        os.close(theirs)
        shown = b""
        try:
            while more := os.read(ours, 4096):
                shown += more
        except OSError:  # the end, on Linux
            pass
        os.close(ours)
        self.assertEqual(tool.wait(60), 0)
        return [line for line in shown.decode().split("\r\033[K") if line]

    def test_a_terminal_gets_one_line_redrawn(self):
        lines = self.in_terminal(200)
        self.assertGreaterEqual(len(lines), 3)
        self.assertTrue(all("\n" not in line for line in lines), lines)
        for word in ("measuring", "done ", "tok/s", "KV ", "s left"):
            self.assertIn(word, lines[1])

    def test_a_narrow_terminal_is_not_wrapped(self):
        self.assertLessEqual(max(map(len, self.in_terminal(40))), 39)

    def test_elsewhere_there_are_no_control_characters(self):
        _, _, errors = self.run_tool(*SHORT)
        self.assertNotIn("\r", errors)
        self.assertNotIn("\033", errors)


class Markdown(Base):
    def test_the_columns_say_what_is_averaged(self):
        self.run_tool(*SHORT, "-o", "r.md", "-o", "r.json")
        head, _, row = (self.path / "r.md").read_text().splitlines()
        cells = dict(zip(head.strip("| ").split(" | "), row.strip("| ").split(" | ")))
        mean = json.loads((self.path / "r.json").read_text())["runs"][0]["latency"]["ttft"]["mean"]
        self.assertAlmostEqual(float(cells["mean TTFT ms"]), mean, delta=0.06)
        self.assertIn("mean TPOT ms", cells)


class Lost(Base):
    """The run is not lost: its summary reaches the terminal, and the exit status says what happened."""

    def test_stdout_on_a_full_disk(self):
        with open("/dev/full", "w") as full:
            status, _, errors = self.run_tool(*SHORT, stdout=full)
        self.assertEqual(status, 1)
        self.assert_table(errors)

    def test_json_on_a_full_disk(self):
        with open("/dev/full", "w") as full:
            status, _, errors = self.run_tool(*SHORT, "-o", "-", "-o", "r.csv", stdout=full)
        self.assertEqual(status, 1)
        self.assertIn("stdout: No space left on device", errors)
        self.assert_table(errors)
        self.assertTrue((self.path / "r.csv").exists())

    def test_stdout_is_a_non_blocking_pipe_that_is_full_at_first(self):
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        os.set_blocking(writer, False)
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        tool = subprocess.Popen([QUIRE, *SHORT, "-o", "-", "--set", "output.table=false"], cwd=self.path, stdout=writer,
                                stderr=subprocess.PIPE)
        os.close(writer)
        while struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"0000"))[0] < 4096 and tool.poll() is None:
            time.sleep(0.01)
        with open(reader, closefd=False) as stdout:
            text = stdout.read()
        _, errors = tool.communicate(timeout=60)
        self.assertEqual(tool.returncode, 0, errors)
        self.assertEqual(json.loads(text)["schema"], "quire.result/1")

    def test_stdout_is_a_closed_pipe(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        status, _, errors = self.run_tool(*SHORT, stdout=write_end)
        os.close(write_end)
        self.assertEqual(status, 1)
        self.assert_table(errors)

    def test_files_beyond_the_limit_leave_nothing_and_the_others_are_written(self):
        files = ["r.json", "r.steps.jsonl", "r.trace.json", "r.trace.json.gz", "r.html", "r.prom"]
        outputs = [word for name in files for word in ("-o", name)]
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        status, _, errors = self.run_tool(*SHORT, *outputs, "-o", "r.csv", preexec_fn=limit)
        self.assertEqual(status, 1)
        for name in files:
            self.assertIn(f"{name}: File too large", errors)
        self.assert_table(errors)
        self.assertEqual([path.name for path in self.path.iterdir()], ["r.csv"])

    def test_an_unwritable_folder_is_refused_before_the_run(self):
        status, table, errors = self.run_tool(*SHORT, "-o", "missing/r.json")
        self.assertEqual((status, table), (2, ""))
        self.assertIn("missing/r.json", errors)
        (self.path / "folder.json").mkdir()
        status, table, errors = self.run_tool(*SHORT, "-o", "folder.json")
        self.assertEqual((status, table), (2, ""))
        self.assertIn("folder.json: a folder", errors)

    def test_names_that_are_not_utf_8_reach_results_and_reports(self):
        folder, name = os.fsencode(self.path), b"m\x80"
        shutil.copytree(MODELS / "qwen2-bias", os.path.join(self.path, os.fsdecode(name)))
        done = subprocess.run([QUIRE, "bench", "--model", b"./" + name, "--num-prompts", "4", "--prompt-tokens", "8",
                               "--output-tokens", "4", "--set", "run.limits=false", "--set", "kv_cache.num_kv_blocks=64",
                               "-o", b"o\x80.json", "-o", b"o\x80.steps.jsonl", "-o", "x.vllm.json"], cwd=folder,
                              capture_output=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(os.listdir(folder)), [name, b"o\x80.json", b"o\x80.steps.jsonl", b"x.vllm.json"])
        with open(os.path.join(folder, b"o\x80.json")) as file:
            result = json.load(file)
        self.assertEqual((result["model"]["name"], result["config"]["model.path"]), ("m\\x80", "./m\\x80"))
        self.assertIn("o\\x80.json", result["context"]["command"])
        done = subprocess.run([QUIRE, "report", b"o\x80.json", "-o", "r.html"], cwd=folder, capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('"steps"', (self.path / "r.html").read_text().split('id="data"')[1])

    def test_a_symbolic_link_is_written_through(self):
        for name in ("r.json", "r.prom"):
            (self.path / "elsewhere").mkdir(exist_ok=True)
            (self.path / "elsewhere" / name).write_text("old")
            (self.path / name).symlink_to(f"elsewhere/{name}")
        (self.path / "r.csv").symlink_to("elsewhere/new.csv")  # that is not there yet
        status, _, errors = self.run_tool(*SHORT, "-o", "r.json", "-o", "r.prom", "-o", "r.csv")
        self.assertEqual(status, 0, errors)
        self.assertEqual(sorted(path.name for path in self.path.iterdir() if path.is_symlink()), ["r.csv", "r.json", "r.prom"])
        self.assertEqual(sorted(path.name for path in (self.path / "elsewhere").iterdir()), ["new.csv", "r.json", "r.prom"])
        self.assertEqual(json.loads((self.path / "elsewhere/r.json").read_text())["schema"], "quire.result/1")
        parse_exposition((self.path / "elsewhere/r.prom").read_text())
        self.assertIn("output_throughput", (self.path / "elsewhere/new.csv").read_text())
        status, _, errors = self.run_tool(*SHORT, "-o", "r.json", "-o", "elsewhere/r.json")
        self.assertEqual(status, 2)
        self.assertIn("given twice", errors)

    def test_a_fifo_is_written_into(self):
        for name in ("r.json", "r.prom"):
            os.mkfifo(self.path / name)
        got = {}
        readers = [threading.Thread(target=lambda name=name: got.update({name: (self.path / name).read_text()}),
                                    daemon=True)
                   for name in ("r.json", "r.prom")]
        for reader in readers:
            reader.start()
        status, _, errors = self.run_tool(*SHORT, "-o", "r.json", "-o", "r.prom")
        for reader in readers:
            reader.join(20)
        self.assertEqual(status, 0, errors)
        self.assertTrue(all(path.is_fifo() for path in self.path.iterdir()))
        self.assertEqual(json.loads(got["r.json"])["schema"], "quire.result/1")
        parse_exposition(got["r.prom"])

    def test_a_file_that_is_given_twice_is_refused(self):
        for files in (["-o", "-", "-o", "-"], ["-o", "r.json", "-o", "./r.json"],
                      ["-o", "r.json", "--set", f'output.files=["{self.path}/r.json"]']):
            status, table, errors = self.run_tool(*SHORT, *files)
            self.assertEqual((status, table), (2, ""), files)
            self.assertIn("given twice", errors)

    def test_variables_that_contradict_the_placement_are_warned_of(self):
        status, _, errors = self.run_tool(*SHORT, env={**os.environ, "OMP_NUM_THREADS": "7"})
        self.assertEqual(status, 0)
        self.assertIn("warning: OMP_NUM_THREADS is set, but [topology] decides", errors)


class Interrupted(Base):
    def test_an_interrupt_leaves_a_valid_partial_result(self):
        tool = subprocess.Popen([QUIRE, *ENDLESS, "--set", "output.progress=jsonl", "-o", "r.json", "-o",
                                 "r.requests.jsonl", "-o", "r.steps.jsonl", "-o", "r.html", "--set",
                                 "output.color=always"], cwd=self.path,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for line in tool.stderr:
            if line.startswith(b"{") and json.loads(line)["done"] >= 8:
                break
        tool.send_signal(signal.SIGINT)
        table, errors = tool.communicate(timeout=60)
        self.assertEqual(tool.returncode, 130, errors)
        self.assertIn("\033[1;31mINVALID\033[0m  the run was interrupted", table.decode())
        result = json.loads((self.path / "r.json").read_text())
        self.assertIs(result["partial"], True)
        self.assertEqual(result["validity"]["result"], "INVALID")
        self.assertGreaterEqual(result["runs"][0]["requests"]["completed"], 8)
        requests = [json.loads(line) for line in (self.path / "r.requests.jsonl").read_text().splitlines()]
        self.assertGreaterEqual(sum(line["finish_reason"] == "length" for line in requests), 8)
        ends = {line["e"] for line in requests}  # a closed loop: a request is due when one before it ended
        self.assertEqual([line["id"] for line in requests[4:] if line["a"] not in ends], [])
        self.assertIn("Interrupted: a partial result", (self.path / "r.html").read_text())
        self.assertEqual([path.name for path in self.path.iterdir() if path.name.endswith(".partial")], [])


def parse_exposition(text):
    """{family: (type, {(sample name, labels): value})}; an assertion error where the text breaks the format."""
    families, current = collections.OrderedDict(), None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            assert current not in families, f"{current} twice"
            families[current] = [None, {}]
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current and families[name][0] is None and kind in ("gauge", "counter", "histogram")
            families[name][0] = kind
        else:
            name, value = line.rsplit(" ", 1)
            labels = name[name.index("{"):] if "{" in name else ""
            base = name[:len(name) - len(labels)]
            suffixes = ("_bucket", "_sum", "_count") if families[current][0] == "histogram" else ("",)
            assert base in [current + suffix for suffix in suffixes], line
            families[current][1][base, labels] = float(value)
    return families


class Prometheus(Base):
    def test_the_counters_are_those_of_the_run(self):
        status, _, errors = self.run_tool(*SHORT, "--set", "run.verify_fraction=0", "-o", "r.prom", "-o", "r.json", "-o",
                                          "r.steps.jsonl")
        self.assertEqual(status, 0, errors)
        text = (self.path / "r.prom").read_text()
        families = parse_exposition(text)
        value = lambda name, labels="": families[name][1][name, labels]
        steps = (self.path / "r.steps.jsonl").read_text().splitlines()
        self.assertEqual(value("quire_generation_tokens_total"), 8 * 4)
        self.assertEqual(value("quire_prompt_tokens_total"), 8 * 16)
        self.assertEqual(value("quire_requests_total", '{finish_reason="length"}'), 8)
        self.assertEqual(value("quire_num_requests_running"), 0)
        counts = {name: family[1][name + "_count", ""] for name, family in families.items() if family[0] == "histogram"}
        self.assertEqual(counts, {
            "quire_time_to_first_token_seconds": 8, "quire_inter_token_latency_seconds": 8 * 3,
            "quire_time_per_output_token_seconds": 8, "quire_e2e_request_latency_seconds": 8,
            "quire_request_queue_time_seconds": 8, "quire_step_seconds": len(steps), "quire_step_rows": len(steps)})
        self.assertEqual(families["quire_step_rows"][1]["quire_step_rows_sum", ""],
                         sum(json.loads(line)["rows"] for line in steps))
        mean = json.loads((self.path / "r.json").read_text())["runs"][0]["latency"]["ttft"]["mean"]
        self.assertAlmostEqual(families["quire_time_to_first_token_seconds"][1]["quire_time_to_first_token_seconds_sum", ""],
                               8 * mean * 1e-3, delta=1e-6)

    def test_steps_are_compared_with_the_limit(self):
        big = ["bench", "--model", "qwen3-0.6b", "--set", "model.shape.num_hidden_layers=1", "--set", "kv_cache.num_kv_blocks=64"]
        for arguments, limits in ((big, True), (SHORT, True), (big, False)):
            _, _, errors = self.run_tool(*arguments, "--num-prompts", "4", "--prompt-tokens", "16", "--output-tokens", "4", "--set",
                                         f"run.limits={str(limits).lower()}", "-o", "r.prom", "-o", "r.json")
            families = parse_exposition((self.path / "r.prom").read_text())
            speed = json.loads((self.path / "r.json").read_text())["runs"][0]["speed_of_light"]
            self.assertEqual(limits, bool(speed) and speed["floor_s"] > 0)  # known for the smallest model, too
            if not limits:
                self.assertNotIn("quire_roofline_fraction", families, errors)
                continue
            self.assertGreater(families["quire_roofline_fraction"][1]["quire_roofline_fraction", ""], 0)
        self.assertIn("quire_cpu_throttled_periods_total", families)

    def test_buckets_are_cumulative_and_end_with_the_count(self):
        self.run_tool(*SHORT, "-o", "r.prom")
        for name, (kind, samples) in parse_exposition((self.path / "r.prom").read_text()).items():
            if kind != "histogram":
                continue
            buckets = [(labels, value) for (base, labels), value in samples.items() if base.endswith("_bucket")]
            bounds = [float(labels[5:-2].replace("+Inf", "inf")) for labels, _ in buckets]
            self.assertEqual(bounds, sorted(set(bounds)))
            self.assertEqual([v for _, v in buckets], sorted(v for _, v in buckets))
            self.assertEqual(buckets[-1], ('{le="+Inf"}', samples[name + "_count", ""]))

    def test_it_is_rewritten_while_the_run_lasts(self):
        tool = subprocess.Popen([QUIRE, *ENDLESS, "-o", "r.prom"], cwd=self.path, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
        seen, limit = [], time.monotonic() + 300
        while len(seen) < 2 and time.monotonic() < limit:
            time.sleep(0.2)
            if (self.path / "r.prom").exists():
                families = parse_exposition((self.path / "r.prom").read_text())
                tokens = families["quire_generation_tokens_total"][1]["quire_generation_tokens_total", ""]
                if tokens > 0 and tokens not in seen:
                    seen.append(tokens)
        tool.send_signal(signal.SIGINT)
        tool.wait(60)
        self.assertEqual(len(seen), 2)
        self.assertLess(seen[0], seen[1])

    def test_prometheus_own_parser_takes_it(self):
        try:
            from prometheus_client.parser import text_string_to_metric_families
        except ImportError:
            self.skipTest("python3-prometheus-client is not installed")
        self.run_tool(*SHORT, "-o", "r.prom")
        families = list(text_string_to_metric_families((self.path / "r.prom").read_text()))
        self.assertGreater(len(families), 20)
        self.assertEqual({f.type for f in families}, {"gauge", "counter", "histogram"})


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
