"""The server starts itself once more, for a heap in huge pages, and never twice."""
import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("starlette")
from quire.serve.__main__ import HEAP_TUNABLE, RESTARTED  # noqa: E402
from serving import SMALL, Server  # noqa: E402

HUGE = f"{HEAP_TUNABLE}=1"


def starts(arguments=None, before="", tunables=None, **options):
    """The last line that a program prints, and how often it was started."""
    program = "import os, sys\nprint('started', flush=True)\n" + before + textwrap.dedent("""
        from quire.serve.__main__ import RESTARTED, start_with_huge_pages
        start_with_huge_pages()
        print(os.environ.get("GLIBC_TUNABLES"), RESTARTED in os.environ)
        """)
    environment = {name: value for name, value in os.environ.items() if name not in ("GLIBC_TUNABLES", RESTARTED)}
    if tunables is not None:
        environment["GLIBC_TUNABLES"] = tunables
    if arguments is not None:
        options["input"] = program
    done = subprocess.run([sys.executable, *(arguments if arguments is not None else ["-c", program])], capture_output=True,
                          text=True, timeout=20, env=environment, **options)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert set(lines) == {"started"}
    return last, len(lines)


def test_it_starts_once_more_and_children_do_not_inherit_the_mark():
    assert starts() == (f"{HUGE} False", 2)
    assert starts(tunables="glibc.malloc.check=0") == (f"glibc.malloc.check=0:{HUGE} False", 2)


@pytest.mark.parametrize("value", [0, 1, 2])
def test_who_sets_the_tunable_is_obeyed(value):
    assert starts(tunables=f"{HEAP_TUNABLE}={value}") == (f"{HEAP_TUNABLE}={value} False", 1)


def test_a_variable_that_glibc_takes_away_starts_nothing_for_ever():
    assert starts(before="os.environ.pop('GLIBC_TUNABLES', None)\n") == ("None False", 2)


@pytest.mark.parametrize("executable", ["/no/such/python", "", None])
def test_without_a_second_start_it_goes_on(executable):
    assert starts(before=f"sys.executable = {executable!r}\n") == ("None False", 1)


@pytest.mark.parametrize("arguments", [[], ["-"], ["-", "tiny"], ["/dev/stdin"]])
def test_a_program_from_standard_input_is_not_read_again(arguments):
    assert starts(arguments) == ("None False", 1)


def test_the_server_has_its_heap_in_huge_pages(tmp_path, monkeypatch):
    for name in ("GLIBC_TUNABLES", RESTARTED):
        monkeypatch.delenv(name, raising=False)
    server = Server("tiny", *SMALL, log=tmp_path / "log")
    try:
        with open(f"/proc/{server.process.pid}/environ") as file:
            assert {f"GLIBC_TUNABLES={HUGE}", f"{RESTARTED}=1"} <= set(file.read().split("\0"))
    finally:
        server.close()
