#!/usr/bin/env python3
"""Ends sweeps, benchmarks and long generates at random moments, by SIGKILL and others, and takes them up again: no result is
lost or there twice, every file is one that `quire report` takes, and answers are those of a run that nobody ended.

usage: resume.py short|long QUIRE [SEED]"""
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

LONG, QUIRE = sys.argv[1] == "long", str(pathlib.Path(sys.argv[2]).resolve())
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else time.time_ns() % 1000000
SIGNALS = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
QUICK = ["--set", "run.limits=false", "--set", "run.verify_fraction=0", "--set", "run.cooldown=0s", "--set",
         'run.warmup={mode="none"}', "--set", "kv_cache.num_kv_blocks=100", "--threads", "1"]
SWEEP = """
[model]
preset = "tiny"
[workload]
prompt_tokens = 16
output_tokens = 8
num_prompts = 20
[load]
profile = "concurrent"
[sweep]
"load.streams" = "1-12"
"""


def run(*arguments, **options):
    return subprocess.run([QUIRE, *arguments], capture_output=True, timeout=300, **options)


def ended(number, whole_time, *arguments, **options):
    """Runs the tool and sends it a signal after a random part of the time that it takes; its exit status."""
    tool = subprocess.Popen([QUIRE, *arguments], stderr=subprocess.DEVNULL, **options)
    try:
        return tool.wait(random.random() * whole_time)
    except subprocess.TimeoutExpired:
        tool.send_signal(number)
        return tool.wait(300)


def timed(function):
    begin = time.monotonic()
    done = function()
    assert done.returncode == 0, done.stderr.decode()
    return time.monotonic() - begin


def whole_lines(path):
    """Without one that was being written."""
    text = path.read_bytes() if path.exists() else b""
    return text[:text.rfind(b"\n") + 1].splitlines(True)


def check_report(path):
    done = run("report", path.name, "-o", "page.html", cwd=path.parent)
    assert done.returncode == 0, done.stderr.decode()


def sweeps(folder, rounds):
    file = folder / "points.jsonl"
    (folder / "sweep.toml").write_text(SWEEP)
    arguments = ["sweep", "sweep.toml", *QUICK, "-o", file.name]
    whole_time = timed(lambda: run(*arguments, cwd=folder))
    for i in range(rounds):
        file.unlink(missing_ok=True)
        resumed, kept = [], []
        for _ in range(random.randrange(1, 4)):  # it is ended again while it is resumed
            ended(random.choice(SIGNALS), whole_time, *arguments, *resumed, cwd=folder, stdout=subprocess.DEVNULL)
            lines = whole_lines(file)
            assert lines[:len(kept)] == kept, "a resumed sweep changed a line"
            kept, resumed = lines, ["--resume"]
            if lines and random.random() < 0.5:  # the disk was full, or the machine ended
                file.write_bytes(b"".join(lines) + lines[0][:random.randrange(1, len(lines[0]))])
        done = run(*arguments, "--resume", cwd=folder)
        assert done.returncode == 0, done.stderr.decode()
        lines = whole_lines(file)
        assert lines[:len(kept)] == kept and file.read_bytes() == b"".join(lines), "not whole lines, or some are lost"
        points = [json.loads(line) for line in lines]
        done_points = [point["config_hash"] for point in points if not point["partial"]]
        assert len(done_points) == len(set(done_points)) == 12, f"{len(done_points)} of 12 points"
        check_report(file)


def benches(folder, rounds):
    old = run("bench", "--model", "tiny", *QUICK, "--num-prompts", "5", "-o", "r.json", "-o", "r.requests.jsonl", cwd=folder)
    assert old.returncode == 0, old.stderr.decode()
    arguments = ["bench", "--model", "tiny", *QUICK, "--num-prompts", "200", "--prompt-tokens", "16", "--output-tokens", "8",
                 "-o", "r.json", "-o", "r.requests.jsonl", "-o", "r.steps.jsonl", "-o", "r.html", "-o", "r.prom"]
    before = json.loads((folder / "r.json").read_text())
    whole_time = timed(lambda: run(*arguments, cwd=folder))
    (folder / "r.json").write_text(json.dumps(before))
    for i in range(rounds):
        number = random.choice(SIGNALS)
        status = ended(number, whole_time, *arguments, cwd=folder, stdout=subprocess.DEVNULL)
        result = json.loads((folder / "r.json").read_text())
        assert status in (0, 130, -number), status
        assert result == before or status != -signal.SIGKILL or not result["partial"]
        for name in ("r.requests.jsonl", "r.steps.jsonl"):
            if (folder / name).exists():
                assert all(json.loads(line) for line in (folder / name).read_text().splitlines())
        check_report(folder / "r.json")
        before = result
    again = run(*arguments, cwd=folder)
    assert again.returncode == 0, again.stderr.decode()
    assert not list(folder.glob("*.partial"))


def generates(folder, rounds):
    requests = {str(i): {"id": str(i), "prompt": [i % 250 + 1, 2], "max_tokens": 16 + i % 50, "ignore_eos": True,
                         "temperature": i % 3 / 2, "seed": i, "logprobs": 2} for i in range(400)}
    command = ["generate", "--model", "tiny", "--set", "kv_cache.num_kv_blocks=64", "--threads", "1", "-i", "in.jsonl"]

    def write_input(ids):
        (folder / "in.jsonl").write_text("".join(json.dumps(requests[id]) + "\n" for id in ids))

    def answers(path):
        found = [json.loads(line) for line in whole_lines(path)]
        return {a["id"]: (a["tokens"], a["logprobs"], a["top_logprobs"]) for a in found
                if a["finish_reason"] != "cancelled"}, len(found)

    write_input(requests)
    whole_time = timed(lambda: run(*command, "-o", "whole.jsonl", cwd=folder))
    reference, _ = answers(folder / "whole.jsonl")
    assert len(reference) == len(requests)
    done, signals, file = {}, 0, folder / "part.jsonl"
    while signals < rounds:
        done = {} if len(done) == len(requests) else done
        write_input(id for id in requests if id not in done)
        number = random.choice(SIGNALS)
        file.unlink(missing_ok=True)  # one that ends early may not get to replacing the last round's
        signals += ended(number, whole_time / 2, *command, "-o", file.name, cwd=folder) != 0
        new, lines = answers(file) if file.exists() else ({}, 0)
        assert lines <= len(requests) and not set(new) & set(done), "a request was answered twice"
        assert all(reference[id] == answer for id, answer in new.items()), "an answer differs"
        done.update(new)
    return signals


def main():
    random.seed(SEED)
    counts = {"sweeps": 40, "benches": 82, "generates": 125} if LONG else {"sweeps": 2, "benches": 3, "generates": 4}
    for name, rounds in counts.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                globals()[name](pathlib.Path(folder), rounds)
            except (AssertionError, ValueError) as why:
                sys.exit(f"FAILED: {name}, seed {SEED}: {why}")
        print(f"{name}: {rounds} ended and taken up again", flush=True)


main()
