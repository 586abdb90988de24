#!/usr/bin/env python3
"""What the operating system may refuse: memory, descriptors, threads, file sizes, room on the disk, a reader; and signals
at random times. Whatever it is, the tool either gives the right answer or says in one line what is wrong, and ends: it
never dies of a signal that nobody sent, hangs, or answers wrongly.

usage: system.py short|long QUIRE [SEED]"""
import collections
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time

FORM, QUIRE = sys.argv[1], os.path.abspath(sys.argv[2])
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else 1
LONG = {"short": False, "long": True}[FORM]
MODEL = pathlib.Path(__file__).resolve().parent.parent / "models" / "qwen3-qknorm"
TIMEOUT = 120  # of one command; a hang is meant, not a slow machine
REQUESTS = [{"id": str(i), "prompt": [1 + i, 2, 3], "max_tokens": 4} for i in range(6)]
LINES = "".join(json.dumps(request) + "\n" for request in REQUESTS)
GENERATE = [QUIRE, "generate", "--model", str(MODEL), "--set", "kv_cache.num_kv_blocks=80"]
# A benchmark of a moment.
BENCH = [QUIRE, "bench", "--model", "tiny", "--num-prompts", "2", "--prompt-tokens", "8", "--output-tokens", "4", "--set",
         "run.duration=0s", "--set", "run.limits=false"]
NOBODY = 65534

counted = collections.Counter()  # (experiment, outcome)


def fail(experiment, what, done):
    sys.exit(f"system: {experiment}: {what}\nstatus {done.returncode}\nstdout: {done.stdout[-600:]!r}\n"
             f"stderr: {done.stderr[-1000:]!r}")


def run(command, limit=None, text=LINES, **how):
    """`limit` runs in the child before the command does."""
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT, preexec_fn=limit, **how)


def tokens_of(text):
    answers = [json.loads(line) for line in text.splitlines()]
    return {answer["id"]: answer["tokens"] for answer in answers if "error" not in answer}


EXPECTED = tokens_of(run(GENERATE).stdout)


def explained(done):
    """A failure with a reason; the last line that is none of the summary's."""
    return done.returncode in (1, 2) and any(line.startswith("quire: error: ") and len(line) > 20
                                             for line in done.stderr.splitlines())


def judge(experiment, done):
    """Of generate: every answer right, or the failure explained and no answer wrong."""
    try:
        tokens = tokens_of(done.stdout)
    except ValueError:
        return fail(experiment, "what it answered is not JSON lines", done)
    if any(EXPECTED[name] != of for name, of in tokens.items()):
        fail(experiment, "a wrong answer", done)
    if done.returncode == 0 and tokens == EXPECTED:
        counted[experiment, "answered"] += 1
    elif explained(done):
        counted[experiment, "refused"] += 1
    elif done.returncode == 127 and "error while loading shared libraries" in done.stderr:
        counted[experiment, "not even loaded"] += 1
    else:
        fail(experiment, "neither answered nor explained", done)


def limiting(kind, value):
    return lambda: resource.setrlimit(kind, (value, value))


# ---- limits of the process ----

def spread(low, high, short, long):
    count = long if LONG else short
    return [low + (high - low) * i // (count - 1) for i in range(count)]


def address_space():
    for size in spread(150 << 20, 900 << 20, 12, 372):
        judge("address space", run(GENERATE, limiting(resource.RLIMIT_AS, size)))


def descriptors():
    for number in spread(3, 40, 10, 38):
        judge("descriptors", run(GENERATE, limiting(resource.RLIMIT_NOFILE, number)))


def threads():
    """Root has no limit, so as nobody; without being root, the limit is one of all processes of this user."""
    if os.getuid() != 0:
        counted["threads", "not root: skipped"] += 1
        return
    with tempfile.TemporaryDirectory() as folder:  # where nobody may read
        os.chmod(folder, 0o755)
        tool = pathlib.Path(folder) / "quire"
        tool.write_bytes(pathlib.Path(QUIRE).read_bytes())
        tool.chmod(0o755)
        command = [str(tool), "generate", "--model", "tiny", "--set", "kv_cache.num_kv_blocks=80", "--set",
                   "topology.threads=2"]
        right = tokens_of(run(command, user=NOBODY, cwd="/").stdout)
        for number in spread(1, 8, 4, 8):
            done = run(command, limiting(resource.RLIMIT_NPROC, number), user=NOBODY, cwd="/")
            if done.returncode == 0 and tokens_of(done.stdout) == right:
                counted["threads", "answered"] += 1
            elif explained(done):
                counted["threads", "refused"] += 1
            else:
                fail("threads", f"neither answered nor explained with {number}", done)


def file_size():
    """Files of results that may not grow: an error of writing, and no half file under the name."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "r.json"
        command = [*BENCH, "-o", str(out)]
        for size in spread(0, 8192, 2, 9):
            done = run(command, limiting(resource.RLIMIT_FSIZE, size), text="")
            if not explained(done):
                fail("file size", f"not explained with {size} bytes", done)
            if out.exists():
                fail("file size", "a file that is not whole has the result's name", done)
            counted["file size", "refused"] += 1
        judge("file size", run(GENERATE, limiting(resource.RLIMIT_FSIZE, 0)))  # writes no file
        with open(pathlib.Path(folder) / "answers", "w") as answers:
            done = subprocess.run(GENERATE, input=LINES, stdout=answers, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT,
                                  preexec_fn=limiting(resource.RLIMIT_FSIZE, 100))
        done.stdout = ""
        if done.returncode != 1 or "File too large" not in done.stderr:
            fail("file size", "stdout took 100 bytes and nobody said so", done)
        counted["file size", "refused"] += 1


# ---- cgroups ----

def entering(folder):
    return lambda: (folder / "cgroup.procs").write_text(str(os.getpid()))


def cgroup_file(name, value):
    """The folder of a new cgroup with this limit, or None: none can be made here. v2's names; v1's beside them."""
    v1 = {"memory.max": ("memory", "memory.limit_in_bytes"), "cpu.max": ("cpu", "cpu.cfs_quota_us"),
          "cpuset.cpus": ("cpuset", "cpuset.cpus")}
    root = pathlib.Path("/sys/fs/cgroup")
    controller, old = v1[name]
    for place, file in (root, name), (root / controller, old):
        folder = place / f"quire-lane-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if (folder / "cpuset.mems").exists():  # v1 takes nobody in without
                (folder / "cpuset.mems").write_text("0")
            with open(folder / file, "r+") as limit:  # there, if the folder is a cgroup's
                limit.write(value)
            subprocess.run(["true"], preexec_fn=entering(folder))
            return folder
        except (OSError, subprocess.SubprocessError):
            folder.rmdir()
    return None


def cgroups():
    """A limit is kept to: what does not fit is refused beforehand, and nothing is killed for it."""
    sizes = [("memory.max", str(size)) for size in spread(60 << 20, 600 << 20, 3, 20)]
    for name, value in *sizes, ("cpu.max", "100000"), ("cpuset.cpus", "0"):
        folder = cgroup_file(name, value)
        if folder is None:
            counted["cgroup", f"{name}: none can be made here"] += 1
            continue
        try:
            judge("cgroup", run(GENERATE, entering(folder)))
        finally:
            for _ in range(50):
                try:
                    folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)


# ---- files ----

def full_disk():
    """stdout and files without room."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(GENERATE, input=LINES, stdout=full, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT)
        done.stdout = ""
        if done.returncode != 1 or "No space left" not in done.stderr:
            fail("full disk", "stdout took nothing and nobody said so", done)
        counted["full disk", "refused"] += 1
    for name in "x.json", "x.requests.jsonl", "x.steps.jsonl", "x.trace.json", "x.html":
        mount = "mount -t tmpfs -o size=4k none /mnt && cd /mnt && head -c 4096 /dev/zero > fill; exec \"$@\""
        bench("full disk", name, mount)


def read_only():
    bench("read-only", "x.json", "mount -t tmpfs -o ro none /mnt && cd /mnt && exec \"$@\"")


def bench(experiment, name, mount):
    """In a mount namespace of its own, where one can be made."""
    command = [*BENCH, "-o", name]
    inside = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*inside, "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True).returncode != 0:
        counted[experiment, "no mounts here: skipped"] += 1
        return
    done = run([*inside, "sh", "-c", mount, "sh", *command], text="")
    if not explained(done):
        fail(experiment, f"{name}: not explained", done)
    counted[experiment, "refused"] += 1


# ---- pipes and descriptors 0 to 2 ----

def closed():
    for number in 0, 1, 2:
        done = run(GENERATE, lambda: os.close(number))
        if done.returncode < 0 or done.returncode > 2:
            fail("closed", f"descriptor {number}", done)
        counted["closed", f"status {done.returncode}"] += 1
    for _ in range(20 if LONG else 2):  # the reader leaves
        read, write = os.pipe()
        process = subprocess.Popen(GENERATE, stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
        os.close(read)
        _, errors = process.communicate(LINES, timeout=TIMEOUT)
        if process.returncode != 1 or "error" not in errors:
            fail("closed", "a reader that left", subprocess.CompletedProcess([], process.returncode, "", errors))
        counted["closed", "reader left"] += 1


def non_blocking():
    """A reader that is slow, on a pipe that does not block: every answer arrives whole."""
    for _ in range(10 if LONG else 1):
        many = [{"id": str(i), "prompt": [1 + i % 6, 2, 3], "max_tokens": 4, "logits": "all"} for i in range(40)]
        read, write = os.pipe()
        os.set_blocking(write, False)
        process = subprocess.Popen(GENERATE, stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        process.stdin.write("".join(json.dumps(r) + "\n" for r in many).encode())
        process.stdin.close()
        got = b""
        while chunk := os.read(read, 20000):
            got += chunk
            time.sleep(0.002)
        os.close(read)
        process.wait(TIMEOUT)
        done = subprocess.CompletedProcess([], process.returncode, got.decode(), process.stderr.read().decode())
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        wrong = [a for a in answers if a.get("tokens") != EXPECTED[str(int(a["id"]) % 6)]]
        if done.returncode != 0 or len(answers) != len(many) or wrong:
            fail("non-blocking", f"{len(answers)} of {len(many)} answers, {len(wrong)} wrong", done)
        counted["non-blocking", "answered"] += 1


# ---- signals ----

def signals():
    """SIGINT and SIGTERM end in good order, at any time; SIGSTOP, SIGCONT and SIGWINCH change nothing."""
    draw = random.Random(SEED)
    long_lines = "".join(json.dumps({**r, "max_tokens": 60, "ignore_eos": True}) + "\n" for r in REQUESTS)
    with tempfile.TemporaryDirectory() as folder:
        sweep = pathlib.Path(folder) / "s.toml"
        sweep.write_text('[model]\npreset = "tiny"\n[workload]\nnum_prompts = 20\nprompt_tokens = 8\noutput_tokens = 8\n'
                         '[run]\nduration = "0s"\nlimits = false\n[load]\nprofile = "concurrent"\n'
                         '[sweep]\n"load.streams" = [1, 2, 4]\n')
        commands = {"generate": (GENERATE, long_lines, 125), "bench": ([*BENCH, "--num-prompts", "40", "-o", f"{folder}/b.json"], "", 61),
                    "sweep": ([QUIRE, "sweep", str(sweep), "-o", f"{folder}/s.jsonl"], "", 61)}
        for name, (command, text, number) in commands.items():
            begun = time.monotonic()
            subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT)
            whole = time.monotonic() - begun
            for _ in range(number if LONG else 6):
                pathlib.Path(folder, "s.jsonl").unlink(missing_ok=True)  # a sweep writes behind nothing
                signal_once(name, command, text, draw, whole)


def signal_once(name, command, text, draw, whole):
    sent = draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGWINCH, signal.SIGSTOP])
    after = draw.random() * whole
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdin.write(text)
    process.stdin.close()
    process.stdin = None
    time.sleep(after)
    process.send_signal(sent)
    if sent == signal.SIGSTOP:
        process.send_signal(signal.SIGCONT)
    try:
        out, errors = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    ends = sent in (signal.SIGINT, signal.SIGTERM)
    # 130 by the handler; before main has installed it, the system's own way
    allowed = {0, 130, -sent} if ends else {0}
    if process.returncode not in allowed:
        fail("signals", f"{name}, {sent.name} after {after:.3f} s", subprocess.CompletedProcess([], process.returncode, out, errors))
    counted["signals", f"{name}: {'ended' if process.returncode else 'went on'}"] += 1


def main():
    if not EXPECTED or len(EXPECTED) != len(REQUESTS):
        sys.exit("system: the model cannot be run at all")
    for experiment in address_space, descriptors, threads, file_size, cgroups, full_disk, read_only, closed, non_blocking, signals:
        begun = time.monotonic()
        experiment()
        name = experiment.__name__.replace("_", " ")
        outcomes = ", ".join(f"{number} {outcome}" for (of, outcome), number in sorted(counted.items())
                             if of.replace("-", " ") == name.rstrip("s") or of.replace("-", " ") == name)
        print(f"system: {name}: {outcomes} ({time.monotonic() - begun:.0f} s)", flush=True)
    print(f"system: seed {SEED}, {sum(counted.values())} commands, each right or with its reason")


main()
