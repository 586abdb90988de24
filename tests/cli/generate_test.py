#!/usr/bin/env python3
"""`quire generate` from outside: golden models, bad lines, signals, pipes, exit status.

usage: generate_test.py QUIRE MODELS [unittest options]"""
import collections
import fcntl
import math
import os
import pathlib
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json

QUIRE, MODELS = sys.argv[1], sys.argv[2]
EXACT = ["--set", "model.weight_dtype=f32", "--set", "kv_cache.dtype=f32"]
SMALL = ["--set", "kv_cache.num_kv_blocks=64"]  # what the embedded models need, not half of the machine
ENCODERS = ("umt5", "bart", "mbart", "m2m100", "marian", "whisper")
TOLERANCE = 2e-4  # of the spread of the reference logits


def run(command, *arguments, text="", timeout=60):
    return subprocess.run([QUIRE, command, *arguments], input=text.encode(), capture_output=True, timeout=timeout)


def quire(*arguments, text=""):
    """Of `quire generate`: stdout lines as objects, exit status, stderr."""
    done = run("generate", *arguments, text=text)
    return [json.loads(line) for line in done.stdout.decode().splitlines()], done.returncode, done.stderr.decode()


def lines_of(*requests):
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in requests)


def generate(*requests, model="tiny", arguments=()):
    return quire("--model", model, *SMALL, *arguments, text=lines_of(*requests))


def golden_cases(name):
    with open(os.path.join(MODELS, name, "expected.json")) as file:
        return json.load(file)["cases"]


def golden_request(number, case):
    sources = {key: case[key] for key in ("encoder_input", "encoder_features", "prompt") if key in case}
    return {"id": str(number), **sources, "max_tokens": case["max_tokens"], "ignore_eos": True, "temperature": 0,
            "logits": "first,last"}


def catches_sigint(process):
    """Returns once it does, which takes a busy machine a while; before, the signal would be the end."""
    mask = 0
    while process.poll() is None and not mask & 1 << signal.SIGINT - 1:
        time.sleep(0.01)
        for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                mask = int(line.split()[1], 16)


class Goldens(unittest.TestCase):
    def compare(self, name, *arguments):
        cases = golden_cases(name)
        requests = [golden_request(i, case) for i, case in enumerate(cases)]
        answers, status, errors = quire("--model", os.path.join(MODELS, name), *EXACT, *arguments,
                                        text=lines_of(*requests))
        self.assertEqual(status, 0, errors)
        self.assertEqual(len(answers), len(cases))
        answers = {answer["id"]: answer for answer in answers}
        for i, case in enumerate(cases):
            answer = answers[str(i)]
            self.assertEqual(answer["tokens"], case["tokens"], f"{name} case {i}")
            self.assertEqual(answer["finish_reason"], "length")
            for key in ("first_logits", "last_logits"):
                reference = case[key]
                mean = sum(reference) / len(reference)
                spread = math.sqrt(sum((x - mean) ** 2 for x in reference) / len(reference))
                self.assertEqual(len(answer[key]), len(reference))
                worst = max(abs(x - y) for x, y in zip(answer[key], reference))
                self.assertLessEqual(worst, TOLERANCE * spread, f"{name} case {i} {key}")

    def test_decoder_models_agree_with_their_reference(self):
        for name in ("llama3-gqa", "mistral-swa", "qwen2-bias", "qwen3-qknorm"):
            with self.subTest(name):
                self.compare(name, *SMALL)

    def test_encoder_decoder_models_agree_with_their_reference(self):
        for name in ("t5-relu", "t5-gated", *ENCODERS):
            with self.subTest(name):
                self.compare(name, "--set", "kv_cache.num_kv_blocks=256")


class Lines(unittest.TestCase):
    def test_bad_lines_are_answered_and_the_others_go_on(self):
        bad = ['{"id": "b1"', '[]', '{"id": "b2", "prompt": [1], "top_p": 2.0}', '{"id": "b3", "prompt": []}',
               '{"id": "b4"}', '{"id": "b5", "prompt": [256]}', '{"id": "b6", "prompt": [-1]}',
               '{"id": "b7", "prompt": [1], "unknown": 1}', '{"id": "b8", "prompt": [1], "encoder_input": [1]}',
               json.dumps({"id": "b9", "prompt": [1] * 3000}), '{"id": "b10", "prompt": [1], "n": 100000}',
               '{"id": "b11", "prompt": [1], "max_tokens": 0}', '{"id": "b\\u0000", "prompt": [1]}']
        good = [{"id": f"g{i}", "prompt": [i + 1, 2], "max_tokens": 3, "ignore_eos": True} for i in range(len(bad))]
        mixed = [line for pair in zip(good, bad) for line in pair]
        answers, status, _ = generate(*mixed)
        self.assertEqual(status, 1)
        self.assertEqual(len(answers), 2 * len(bad))
        well = {a["id"]: a for a in answers if a["finish_reason"] != "error"}
        self.assertEqual(sorted(well), sorted(g["id"] for g in good))
        self.assertTrue(all(len(a["tokens"]) == 3 for a in well.values()))
        refused = {a["line"]: a for a in answers if a["finish_reason"] == "error"}
        self.assertEqual(sorted(refused), [2 * i + 2 for i in range(len(bad))])
        for answer in refused.values():
            self.assertTrue(answer["error"]["message"])
            self.assertTrue(answer["error"]["status"].startswith("ERR_"))
        self.assertIsNone(refused[2]["id"])
        self.assertEqual(refused[6]["id"], "b2")
        self.assertEqual(refused[6]["error"]["field"], "top_p")
        self.assertEqual(refused[6]["error"]["message"], "2 is above the maximum 1")
        fields = {a["id"]: a["error"].get("field") for a in refused.values()}
        for id in ("b3", "b4", "b5", "b6"):
            self.assertEqual(fields[id], "prompt", id)
        self.assertEqual((fields["b8"], fields["b10"], fields["b11"]), ("encoder_input", "n", "max_tokens"))

    def test_a_bad_line_does_not_change_the_others(self):
        request = {"id": "w", "prompt": [7, 8, 9], "max_tokens": 8, "ignore_eos": True, "logits": True}
        (alone,), status, _ = generate(request)
        self.assertEqual(status, 0)
        answers, _, _ = generate('{"prompt": [1], "min_p": 7}', request, "nonsense")
        witness = next(a for a in answers if a["id"] == "w")
        for key in ("tokens", "first_logits", "last_logits"):
            self.assertEqual(witness[key], alone[key])

    def test_line_ends_blank_lines_and_a_byte_order_mark_do_not_matter(self):
        text = '\ufeff{"prompt": [1], "max_tokens": 1}\r\n\r\n   \n{"prompt": [1], "max_tokens": 1}'
        answers, status, errors = quire("--model", "tiny", *SMALL, text=text)
        self.assertEqual(status, 0, errors)
        self.assertEqual(sorted(a["id"] for a in answers), ["1", "4"])

    def test_a_line_of_16_mib_takes_a_small_multiple_of_its_length(self):
        """Whatever it is made of, and it is answered with what is wrong with it."""
        with open(QUIRE, "rb") as tool:
            if b"__asan_init" in tool.read():
                self.skipTest("a sanitizer keeps freed memory")
        process = subprocess.Popen([QUIRE, "generate", "--model", "tiny", *SMALL], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        peaks = []
        for line, message in ((b'{"prompt": [1], "max_tokens": 1}', None),
                              (b'{"id": "a", "prompt":[' + b"1," * (8 * 1024 * 1024 - 20) + b"1]}", "8388589 tokens"),
                              (b'{"prompt":[' + b"{}," * 5592400 + b"{}]}", "more than 65536 bytes besides token ids"),
                              (b'{"x":[' + b"[]," * 5592400 + b"[]]}", "more than 65536 bytes besides token ids"),
                              (b'{"id":"' + b"a" * (16 << 20) + b'"}', "the line is longer than 16777216 bytes")):
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            if message:
                self.assertIn(message, answer["error"]["message"])
            with open(f"/proc/{process.pid}/status") as status:
                peaks.append(int(re.search(r"VmHWM:\s*(\d+) kB", status.read())[1]) >> 10)
        self.assertLess(peaks[-1] - peaks[0], 8 * 16, peaks)
        process.stdin.close()
        process.wait(60)
        process.stdout.close()

    def test_an_empty_input_is_done_at_once(self):
        self.assertEqual(generate()[:2], ([], 0))

    def test_an_encoder_decoder_model_needs_an_encoder_input(self):
        answers, status, _ = generate({"prompt": [0]}, {"encoder_input": [5, 6], "max_tokens": 2, "ignore_eos": True},
                                      model=os.path.join(MODELS, "t5-relu"))
        self.assertEqual(status, 1)
        self.assertEqual(sorted(a["finish_reason"] for a in answers), ["error", "length"])
        self.assertEqual(next(a for a in answers if "tokens" in a)["num_encoder_tokens"], 2)


    def test_limits_are_said_in_words(self):
        t5 = os.path.join(MODELS, "t5-relu")
        cases = [("tiny", {"prompt": []}, "prompt", "0 tokens; this model needs 1 to 511 (max_model_len 512 - 1)"),
                 ("tiny", {}, "prompt", "0 tokens; this model needs 1 to 511"),
                 ("tiny", {"prompt": [1], "encoder_input": [1]}, "encoder_input", "given, but this model has no encoder"),
                 ("tiny", {"prompt": [1], "encoder_input": []}, "encoder_input", "given, but this model has no encoder"),
                 (t5, {"prompt": [0]}, "encoder_input", "missing; this model needs 1 to 16 tokens "
                                                        "(scheduler.max_num_encoder_input_tokens)"),
                 (t5, {"encoder_input": [3] * 17}, "encoder_input", "17 tokens; this model needs 1 to 16 tokens"),
                 ("tiny", {"prompt": [1], "beam_width": 5}, "beam_width", "scheduler.max_num_seqs"),
                 ("tiny", {"prompt": [1], "allowed_token_ids": [3], "banned_token_ids": [4, 3]}, "allowed_token_ids",
                  "every id is also in banned")]
        for model, request, field, words in cases:
            limits = ["--set", "model.max_model_len=512", "--set", "scheduler.max_num_seqs=4"]
            if model == t5:
                limits += ["--set", "scheduler.max_num_encoder_input_tokens=16"]
            (answer,), status, _ = generate(request, model=model, arguments=limits)
            is_long = "17 tokens" in words
            self.assertEqual((status, answer["error"]["status"], answer["error"]["field"]),
                             (1, "ERR_TOO_LONG" if is_long else "ERR_INVALID", field))
            self.assertIn(words, answer["error"]["message"])

    def test_a_default_of_max_tokens_is_clipped_to_what_fits(self):
        short = ["--set", "model.max_model_len=2048"]
        cases = [(short, {"prompt": [5] * 2000}, 48),  # behind the prompt
                 (short, {"prompt": [5]}, 128),
                 (short, {"prompt": [5], "min_tokens": 200}, 200),
                 (["--set", "kv_cache.num_kv_blocks=4"], {"prompt": [5] * 40}, 4 * 32 - 40 + 1)]  # in the KV cache
        for arguments, request, tokens in cases:
            (answer,), status, errors = generate({**request, "ignore_eos": True}, arguments=arguments)
            self.assertEqual((status, len(answer["tokens"])), (0, tokens), errors)
        for arguments, request, words in [(short, {"prompt": [5] * 2000, "max_tokens": 49}, "49 is not in 1..48"),
                                          (["--set", "kv_cache.num_kv_blocks=4"], {"prompt": [5] * 40, "max_tokens": 90},
                                           "max_tokens <= 89 would fit")]:
            (answer,), status, _ = generate(request, arguments=arguments)
            self.assertEqual(status, 1)
            self.assertIn(words, answer["error"]["message"])
            self.assertNotIn("128", answer["error"]["message"])

    def test_logits_that_are_not_finite_fail_the_request_alone(self):
        name, bad = "mistral-swa", 7
        good = {"id": "good", "prompt": [1, 2, 3], "max_tokens": 2, "ignore_eos": True}
        with tempfile.TemporaryDirectory() as folder:
            target = os.path.join(folder, "nan")
            shutil.copytree(os.path.join(MODELS, name), target)
            path = os.path.join(target, "model.safetensors")
            os.chmod(path, 0o600)
            with open(path, "r+b") as file:
                size = int.from_bytes(file.read(8), "little")
                table = json.loads(file.read(size))["model.embed_tokens.weight"]
                begin, end = table["data_offsets"]
                row = (end - begin) // table["shape"][0]
                file.seek(8 + size + begin + bad * row)
                file.write(b"\xff" * row)
            answers, status, errors = generate({"id": "bad", "prompt": [1, bad], "max_tokens": 2}, good, model=target,
                                               arguments=["--set", "model.check_tensors=false"])
        self.assertEqual(status, 1)
        answer = {a["id"]: a for a in answers}
        self.assertEqual(answer["bad"]["finish_reason"], "error")
        self.assertEqual(answer["bad"]["error"], {"status": "ERR_EXECUTION",
                                                  "message": "the logits of this request are not finite"})
        self.assertIn("2 answered, 1 of them failed, 0 bad lines", errors)
        (alone,), _, _ = generate(good, model=os.path.join(MODELS, name))
        self.assertEqual(answer["good"]["tokens"], alone["tokens"])

    def test_the_summary_counts_cross_blocks(self):
        request = {"encoder_input": [5, 6, 7], "max_tokens": 4, "ignore_eos": True}
        _, status, errors = generate(request, request, model=os.path.join(MODELS, "t5-relu"))
        self.assertEqual(status, 0, errors)
        self.assertIn("1 encoder run, 1 saved by sharing, at most 1 cross block held", errors)


class Fields(unittest.TestCase):
    def test_several_sequences_come_as_outputs(self):
        (answer,), status, errors = generate({"id": 5, "prompt": [1, 2], "n": 3, "max_tokens": 4, "ignore_eos": True,
                                              "temperature": 1.0, "seed": 3})
        self.assertEqual(status, 0, errors)
        self.assertEqual(answer["id"], 5)
        self.assertEqual([o["index"] for o in answer["outputs"]], [0, 1, 2])
        self.assertGreater(len({tuple(o["tokens"]) for o in answer["outputs"]}), 1)
        self.assertNotIn("tokens", answer)

    def test_beams_come_best_first_as_many_as_asked_for(self):
        request = {"prompt": [1, 2], "beam_width": 4, "max_tokens": 4, "ignore_eos": True}
        (best,), status, errors = generate(request)
        self.assertEqual(status, 0, errors)
        (two,), _, _ = generate({**request, "n": 2})
        self.assertEqual(len(two["outputs"]), 2)
        self.assertEqual(two["outputs"][0]["tokens"], best["tokens"])
        self.assertEqual(two["outputs"][0]["score"], best["score"])
        self.assertGreaterEqual(best["score"], two["outputs"][1]["score"])

    def test_all_logits_choose_the_greedy_tokens(self):
        (answer,), _, _ = generate({"prompt": [1, 2], "max_tokens": 5, "ignore_eos": True, "logits": "all"})
        self.assertEqual(len(answer["logits"]), 5)
        for token, row in zip(answer["tokens"], answer["logits"]):
            self.assertEqual(row.index(max(row)), token)

    def test_first_and_last_are_of_all(self):
        request = {"prompt": [1, 2], "max_tokens": 5, "ignore_eos": True}
        (every,), _, _ = generate({**request, "logits": "all"})
        (some,), _, _ = generate({**request, "logits": "first,last"})
        (last,), _, _ = generate({**request, "logits": "last"})
        self.assertEqual(some["first_logits"], every["logits"][0])
        self.assertEqual(some["last_logits"], every["logits"][-1])
        self.assertNotIn("first_logits", last)
        self.assertNotIn("logits", some)

    def test_logprobs_are_of_the_chosen_token_and_the_best(self):
        (answer,), _, _ = generate({"prompt": [1, 2], "max_tokens": 3, "ignore_eos": True, "logprobs": 2,
                                    "logits": "all"})
        for token, logprob, top, row in zip(answer["tokens"], answer["logprobs"], answer["top_logprobs"],
                                            answer["logits"]):
            total = math.log(sum(math.exp(x) for x in row))
            self.assertAlmostEqual(logprob, row[token] - total, places=4)
            self.assertEqual(top[0][0], token)
            self.assertAlmostEqual(top[0][1], logprob, places=5)
            self.assertEqual(len(top), 2)

    def test_the_same_seed_gives_the_same_tokens(self):
        request = {"prompt": [1, 2], "max_tokens": 16, "ignore_eos": True, "temperature": 1.0}
        answers, _, _ = generate({**request, "id": "a", "seed": 9}, {**request, "id": "b", "seed": 9},
                                 {**request, "id": "c", "seed": 10})
        tokens = {a["id"]: a["tokens"] for a in answers}
        self.assertEqual(tokens["a"], tokens["b"])
        self.assertNotEqual(tokens["a"], tokens["c"])

    def test_a_stop_id_ends_and_stays_in_the_output(self):
        request = {"prompt": [1, 2], "max_tokens": 6, "ignore_eos": True}
        (free,), _, _ = generate(request)
        stop = free["tokens"][3]
        (stopped,), _, _ = generate({**request, "stop_token_ids": [stop]})
        self.assertEqual(stopped["finish_reason"], "stop")
        self.assertEqual(stopped["tokens"], free["tokens"][:free["tokens"].index(stop) + 1])

    def test_defaults_come_from_the_configuration(self):
        (answer,), _, _ = generate({"prompt": [1]}, arguments=["--max-tokens", "2", "--set", "generate.logits=first"])
        self.assertLessEqual(len(answer["tokens"]), 2)
        self.assertEqual(len(answer["first_logits"]), 256)


class Pace(unittest.TestCase):
    def test_requests_wait_for_their_arrival(self):
        requests = [{"id": str(ms), "prompt": [1], "max_tokens": 1, "arrival_ms": ms} for ms in (0, 300)]
        begin = time.monotonic()
        answers, status, _ = generate(*requests, arguments=["--pace", "arrival"])
        self.assertGreaterEqual(time.monotonic() - begin, 0.3)
        self.assertEqual((status, [a["id"] for a in answers]), (0, ["0", "300"]))

    def test_a_decreasing_arrival_is_refused(self):
        requests = [{"prompt": [1], "max_tokens": 1, "arrival_ms": ms} for ms in (5, 4, 6)]
        answers, status, _ = generate(*requests)
        self.assertEqual(status, 1)
        (refused,) = [a for a in answers if a["finish_reason"] == "error"]
        self.assertEqual((refused["line"], refused["error"]["field"]), (2, "arrival_ms"))

    def test_a_timeout_ends_a_request(self):
        (answer,), status, _ = generate({"prompt": [1], "max_tokens": 2000, "ignore_eos": True, "timeout_ms": 1})
        self.assertEqual((status, answer["finish_reason"]), (0, "timeout"))


class Process(unittest.TestCase):
    def start(self, **pipes):
        arguments = [QUIRE, "generate", "--model", "tiny", *SMALL, "--set", "model.max_model_len=2048"]
        return subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE, **pipes)

    @staticmethod
    def long_requests(count):
        return lines_of(*({"id": str(i), "prompt": [i], "max_tokens": 1000, "ignore_eos": True}
                          for i in range(count))).encode()

    def test_answers_come_while_the_input_is_still_open(self):
        process = self.start(stdout=subprocess.PIPE)
        process.stdin.write(b'{"id": "x", "prompt": [1], "max_tokens": 2}\n')
        process.stdin.flush()
        self.assertEqual(json.loads(process.stdout.readline())["id"], "x")
        process.stdin.close()
        self.assertEqual(process.wait(20), 0)
        process.stdout.close()
        process.stderr.close()

    def test_an_interrupt_cancels_what_runs_and_writes_whole_lines(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self.interrupt(number)

    def interrupt(self, number):
        process = self.start(stdout=subprocess.PIPE)
        process.stdin.write(self.long_requests(30) + b"nonsense\n")
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline())]
        while answers[-1]["finish_reason"] != "error":  # lines are taken in their order: all before it run by now
            answers.append(json.loads(process.stdout.readline()))
        process.send_signal(number)
        rest = process.stdout.read()
        self.assertEqual(process.wait(20), 130)
        answers += [json.loads(line) for line in rest.splitlines()]
        reasons = collections.Counter(answer["finish_reason"] for answer in answers)
        self.assertGreater(reasons["cancelled"], 0)
        self.assertIn(f"quire: {len(answers) - reasons['cancelled'] - 1} answered, 0 of them failed, "
                      f"{reasons['cancelled']} cancelled, 1 bad line, ", process.stderr.read().decode())
        process.stdin.close()
        process.stdout.close()
        process.stderr.close()

    def stalled(self, flags=0):
        """A process whose answers have filled the smallest pipe, and the end from which nobody reads."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        fcntl.fcntl(writer, fcntl.F_SETFL, os.O_WRONLY | flags)
        process = self.start(stdout=writer)
        os.close(writer)
        process.stdin.write(lines_of(*({"prompt": [i + 1], "max_tokens": 1, "logits": True} for i in range(8))).encode())
        process.stdin.close()
        deadline = time.monotonic() + 60
        while struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"0000"))[0] < 4096 and process.poll() is None:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        return process, reader

    @staticmethod
    def is_pending(pid):
        with open(f"/proc/{pid}/status") as status:
            return any(int(line.split()[1], 16) for line in status if re.match("S(ig|hd)Pnd", line))

    def test_a_non_blocking_pipe_loses_no_answer(self):
        process, reader = self.stalled(os.O_NONBLOCK)
        with open(reader, "rb", closefd=False) as answers:
            lines = answers.read().splitlines()
        self.assertEqual(process.wait(20), 0, process.stderr.read())
        self.assertEqual(sorted(int(json.loads(line)["id"]) for line in lines), list(range(1, 9)))
        process.stderr.close()

    def test_signals_end_the_run_although_the_reader_stands_still(self):
        for numbers in ([signal.SIGTERM], [signal.SIGINT], [signal.SIGINT, signal.SIGTERM],
                        [signal.SIGTERM, signal.SIGINT], [signal.SIGINT, signal.SIGINT]):
            process, _ = self.stalled()
            for number in numbers:
                process.send_signal(number)
                while process.poll() is None and self.is_pending(process.pid):  # two of a kind would become one
                    time.sleep(0.01)
            self.assertEqual(process.wait(30), 130, numbers)
            errors = process.stderr.read().decode()
            if len(numbers) == 1:
                self.assertIn("stdout: writing: the reader took nothing for 2 s after the interrupt", errors)
                self.assertIn(" answered, 0 of them failed", errors)
            else:
                self.assertEqual(errors.splitlines()[-1], "quire: interrupted")
            process.stderr.close()

    def test_a_file_at_its_size_limit_keeps_whole_lines_and_the_summary_is_printed(self):
        requests = lines_of(*({"prompt": [i + 1], "max_tokens": 1, "logits": True} for i in range(8)))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "answers.jsonl")
            for arguments, mode in ((["-o", path], None), ([], "wb"), ([], "ab")):
                with open(os.devnull if mode is None else path, mode or "wb") as out:
                    done = subprocess.run([QUIRE, "generate", "--model", "tiny", *SMALL, *arguments], timeout=60,
                                          input=requests.encode(), stdout=out, stderr=subprocess.PIPE,
                                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)))
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(b"writing: File too large", done.stderr)
                self.assertIn(b"bad lines", done.stderr)
                with open(path) as file:
                    count = len([json.loads(line) for line in file])
                    self.assertIn(count, (1, 2, 3))
                    written = 0 if mode == "ab" else count  # the file is full already
                    self.assertIn(f"quire: {written} answered, 0 of them failed, ".encode(), done.stderr)
                    self.assertIn(b"could not be written", done.stderr)
                    self.assertTrue(file.read() == "" and os.path.getsize(path) < 20000)

    def test_little_address_space_is_an_error_and_not_a_crash(self):
        for kib in (80000, 150000, 250000):
            command = f"ulimit -v {kib}; exec '{QUIRE}' generate --model '{os.path.join(MODELS, 'qwen2-bias')}' --threads 1"
            done = subprocess.run(["bash", "-c", command], input=b"", capture_output=True, timeout=60)
            if b"Sanitizer" in done.stderr:
                self.skipTest("a sanitizer needs terabytes")
            if b"error while loading shared libraries" in done.stderr and kib < 150000:
                continue  # less than the libraries of an instrumented build take
            self.assertIn(done.returncode, (0, 1), done.stderr)

    def test_an_interrupt_while_loading_ends_at_once(self):
        for command in (["generate"], ["bench"]):
            process = subprocess.Popen([QUIRE, *command, "--model", "tinyllama-1.1b", *SMALL], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            catches_sigint(process)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            self.assertEqual((process.returncode, out), (130, b""), err)
            self.assertIn(b"interrupted", err)

    def test_a_full_disk_under_standard_output_is_said(self):
        for command in (["--version"], ["topo"], ["config", "template"], ["bench", "--help"], ["kernel", "barrier", "--help"],
                        ["report", "--usage"], ["bench", "--help=streams"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([QUIRE, *command], stdout=full, stderr=subprocess.PIPE, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"standard output", done.stderr)

    def test_a_closed_standard_descriptor_is_no_other_file(self):
        base = f"'{QUIRE}' generate --model '{os.path.join(MODELS, 'qwen2-bias')}' {' '.join(SMALL)}"
        done = subprocess.run(["sh", "-c", base + " <&-"], capture_output=True, timeout=60)
        self.assertEqual((done.stdout, done.returncode), (b"", 1), done.stderr)
        self.assertIn(b"reading line 1", done.stderr)
        self.assertIn(b"0 answered, 0 of them failed, 0 bad lines", done.stderr)
        with tempfile.TemporaryDirectory() as folder:
            target = os.path.join(folder, "out.jsonl")
            request = b'{"id": "x", "prompt": [1], "max_tokens": 1}\n'
            done = subprocess.run(["sh", "-c", f"{base} -o '{target}' 2>&-"], input=request, timeout=60)
            self.assertEqual(done.returncode, 0)
            with open(target) as file:
                self.assertEqual([json.loads(line)["id"] for line in file], ["x"])
            done = subprocess.run(["sh", "-c", base + " >&-"], input=request, capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"stdout: writing", done.stderr)

    def test_input_that_cannot_be_read_is_named(self):
        done = run("generate", "--model", "tiny", *SMALL, "-i", "/tmp")
        self.assertEqual((done.stdout, done.returncode), (b"", 1))
        self.assertIn(b"/tmp: reading line 1: Is a directory", done.stderr)

    def test_a_closed_pipe_ends_the_run_with_its_summary(self):
        process = self.start(stdout=subprocess.PIPE)
        process.stdout.close()
        process.stdin.write(b'{"id": "x", "prompt": [1], "max_tokens": 1}\n' + self.long_requests(30))
        process.stdin.close()
        errors = process.stderr.read().decode()
        self.assertEqual(process.wait(20), 1)
        self.assertIn("Broken pipe", errors)
        self.assertIn("quire: 0 answered, 0 of them failed, ", errors)
        process.stderr.close()

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_a_full_disk_is_an_error(self):
        answers, status, errors = generate({"prompt": [1], "max_tokens": 1}, arguments=["--output", "/dev/full"])
        self.assertEqual((answers, status), ([], 1))
        self.assertIn("/dev/full", errors)

    def test_every_name_of_a_file_is_that_file(self):
        names = [*(b"o%cx" % byte for byte in (1, 9, 10, 13, 34, 39, 61, 92, 127, 128, 255)), "\u00e9".encode(),
                 "\u2028".encode(), b"o\xed\xa0\x80", b'a"b\\c', b"1", b"true", b"[1]", b"{}", b'"q"', b"'q'", b"'''q",
                 b"1979-05-27", b"nan", b"0x10", b" lead", b"trail ", b"#c", b"--", b"\xef\xbb\xbfbom", b'"\xff"', b"\\u0041"]
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                done = subprocess.run([os.fsencode(os.path.abspath(QUIRE)), b"generate", b"--model", b"tiny",
                                       *(word.encode() for word in SMALL), b"--output=" + name], cwd=folder,
                                      input=b'{"prompt": [1], "max_tokens": 1}\n', capture_output=True, timeout=60)
                self.assertEqual(os.listdir(os.fsencode(folder)), [name], done.stderr)

    def test_files_are_read_and_written(self):
        with tempfile.TemporaryDirectory() as folder:
            source, target = os.path.join(folder, "in.jsonl"), os.path.join(folder, "out.jsonl")
            with open(source, "w") as file:
                file.write(lines_of(*({"prompt": [i], "max_tokens": 2, "ignore_eos": True} for i in range(50))))
            answers, status, _ = quire("--model", "tiny", *SMALL, "-i", source, "-o", target)
            self.assertEqual((answers, status), ([], 0))
            with open(target) as file:
                self.assertEqual(len([json.loads(line) for line in file]), 50)


class Usage(unittest.TestCase):
    def check(self, arguments, status, *words, command="generate"):
        done = run(command, *arguments)
        text = done.stderr.decode() + done.stdout.decode()
        self.assertEqual(done.returncode, status, text)
        for word in words:
            self.assertIn(word, text)

    def test_usage_and_configuration_errors_exit_with_two(self):
        self.check(["--no-such-flag"], 2, "no-such-flag")
        self.check([], 2, "model")
        self.check(["--model", "no-such-preset"], 2, "no-such-preset", "tinyllama-1.1b")
        self.check(["--model", "tiny", "--set", "scheduler.max_num_sqs=4"], 2, "max_num_sqs", "max_num_seqs")
        self.check(["--model", "tiny", "--set", "scheduler.max_num_seqs=0"], 2, "max_num_seqs")
        self.check(["--model", "tiny", "--set", "nonsense"], 2, "nonsense")
        self.check(["--model", "tiny", "a.toml", "b.toml"], 2, "b.toml")
        self.check([], 2, "unknown command", command="generat")

    def test_missing_files_exit_with_one(self):
        self.check(["--model", "/nonexistent/model"], 1, "/nonexistent/model/config.json")
        self.check(["--model", "tiny", "--input", "/nonexistent/in"], 1, "/nonexistent/in")
        self.check(["--model", "tiny", "--output", "/nonexistent/out"], 1, "/nonexistent/out")

    def test_a_truncated_model_names_file_and_tensor(self):
        with tempfile.TemporaryDirectory() as folder:
            target = os.path.join(folder, "cut")
            shutil.copytree(os.path.join(MODELS, "qwen2-bias"), target)
            weights = os.path.join(target, "model.safetensors")
            os.chmod(weights, 0o600)
            os.truncate(weights, os.path.getsize(weights) - 1)
            self.check(["--model", target], 1, "cut/model.safetensors: tensor")

    def test_an_unknown_instruction_set_is_refused_everywhere(self):
        for command, arguments in (("generate", ["--model", "tiny", *SMALL]), ("check", ["--model", "tiny", *SMALL]),
                                   ("topo", [])):
            done = subprocess.run([QUIRE, command, *arguments], input=b"", capture_output=True, timeout=60,
                                  env={**os.environ, "QUIRE_ISA": "nonsense"})
            self.assertEqual(done.returncode, 2, command)
            self.assertIn(b'QUIRE_ISA: "nonsense" is not one of auto | amx | avx512_bf16 | avx512_vnni | avx512 | avx2 | scalar', done.stderr)

    def test_check_and_generate_agree_on_the_dtype_of_the_cache(self):
        for dtype in ("f32", "bf16", "int8"):
            arguments = ["--model", "tiny", *SMALL, "--set", f"kv_cache.dtype={dtype}"]
            self.check(arguments, run("generate", *arguments).returncode, command="check")

    def test_keys_that_do_not_exist_are_an_error(self):
        self.check(["keys", "max_num_seqs"], 0, "scheduler.max_num_seqs", command="config")
        self.check(["keys", "zzzz"], 1, "zzzz", command="config")

    def test_help_and_version(self):
        self.check([], 0, "generate", "Exit status", command="--help")
        self.check([], 0, "quire ", command="--version")
        for command in ("generate", "topo", "check", "config"):
            self.check(["--help"], 0, "Usage: quire " + command, command=command)

    def test_print_config_shows_where_values_come_from(self):
        self.check(["--model", "tiny", "--print-config"], 0, "tiny", "--model", command="check")
        self.check(["print", "--set", "scheduler.max_num_seqs=7"], 0, "max_num_seqs = 7", "--set", command="config")
        self.check(["template"], 0, "[scheduler]", "max_num_seqs", command="config")

    def test_a_template_can_be_read_back(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "quire.toml")
            with open(path, "w") as file:
                file.write(subprocess.run([QUIRE, "config", "template"], capture_output=True, text=True).stdout)
            self.check(["print", "--config", path], 0, command="config")

    def test_the_affinity_of_the_start_counts_whatever_openmp_is_told(self):
        cpus = sorted(os.sched_getaffinity(0))
        for cpu in {cpus[0], cpus[-1]}:
            for value in (f"{cpus[0]}-{cpus[-1]}", str(cpus[0]), str(cpus[-1])):
                done = subprocess.run([QUIRE, "topo"], capture_output=True, text=True, timeout=60,
                                      env={**os.environ, "GOMP_CPU_AFFINITY": value},
                                      preexec_fn=lambda: os.sched_setaffinity(0, [cpu]))
                self.assertRegex(done.stdout, rf"(?m)^allowed +CPUs {cpu},", value)

    def test_topo_and_check_describe(self):
        self.check([], 0, "placement", "kernels", command="topo")
        self.check(["--synthetic", "pack:2 node:1 core:4 pu:2"], 0, "2 packages", "8 threads on 2 nodes",
                   command="topo")
        self.check(["--threads", "1"], 0, "placement  1 thread on 1 node,", command="topo")
        self.check(["--model", "tiny", "--threads", "1", *SMALL], 0, ", 1 thread on 1 node\n", command="check")
        self.check(["--synthetic", "nonsense"], 2, "nonsense", command="topo")
        self.check(["--model", "tiny", *SMALL], 0, "weights", "KV cache", "ok", command="check")
        self.check(["--model", "gemma-3-1b", *SMALL], 0, ", 4096 bytes each in the layers without a window",
                   " blocks of 22 layers, 22528 bytes a token, seen through a window of 512 tokens", command="check")
        self.check(["--model", "tiny", "--set", "kv_cache.size=900TiB"], 2, command="check")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
