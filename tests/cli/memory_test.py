#!/usr/bin/env python3
"""When an allocation fails while the tool starts, once or from then on, it says so in one line and ends with status 1, or
does without that memory and answers as ever.

usage: memory_test.py QUIRE PRELOADED    PRELOADED: the module that is built of fail_malloc.c"""
import os
import subprocess
import sys
import tempfile

QUIRE, PRELOADED = sys.argv[1:3]
MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "models", "qwen3-qknorm")
# With the number of allocations to try: more than it makes, or than it makes before hwloc's, whose failure hwloc does not
# survive (docs/EMBEDDING.md).
COMMANDS = {("config", "schema"): 8000, ("config", "template"): 7000, ("check", "--model", MODEL): 6500}


def run(command, number, everything):
    names = {"LD_PRELOAD": PRELOADED, "FAIL_MALLOC": str(number), **({"FAIL_MALLOC_ALL": "1"} if everything else {})}
    return subprocess.run([QUIRE, *command], env={**os.environ, **names}, capture_output=True, text=True, timeout=60)


def errors(done):
    return [line for line in done.stderr.splitlines() if not line.startswith(("quire: info: ", "quire: warning: "))]


refused = 0
for command, limit in COMMANDS.items():
    expected = run(command, 10 ** 9, False)
    assert expected.returncode == 0, expected
    for number in [0, 1, 2, 3, 10, 100, 500, 1293, *range(1500, limit, 397)]:
        for everything in False, True:
            done = run(command, number, everything)
            where = f"{command}, allocation {number}{' and all after' if everything else ''}: status {done.returncode}: {done.stderr}"
            if done.returncode == 0:
                assert done.stdout == expected.stdout, where
                continue
            assert done.returncode == 1 and len(errors(done)) == 1, where
            assert errors(done)[0].startswith("quire: error: ") and "memory" in errors(done)[0], where
            refused += 1
assert refused > 70, refused

# The error about a malformed file needs memory too: around the allocations before it is printed, each one.
with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
    file.write("[load]\nrequest_rate = = 3\n")
    file.flush()
    command = ["config", "print", file.name]
    low, high = 0, 8000  # with all after `high` failing it is printed
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if run(command, middle, True).returncode == 2 else (middle, high)
    assert ":2:16: " in run(command, 10 ** 9, False).stderr
    for number in range(high - 60, high + 1):
        for everything in False, True:
            done = run(command, number, everything)
            assert done.returncode in (1, 2) and len(errors(done)) == 1, f"allocation {number}: {done}"
            assert ":2:16: " in done.stderr or "memory" in done.stderr, f"allocation {number}: {done}"
