"""python -m quire.serve MODEL: answers OpenAI's HTTP interface with a model. docs/SERVING.md."""
import contextlib
import os
import sys

HEAP_TUNABLE = "glibc.malloc.hugetlb"
RESTARTED = "QUIRE_SERVE_RESTARTED"  # in the environment of the second start only


def start_with_huge_pages() -> None:
    """Starts this program again, as the same process, with a heap in huge pages; glibc reads its tunables at the start only. Each step
    of the engine evicts the tokenizer's tables from the caches, and with small pages nearly every lookup then walks the page table too.
    Once at most: glibc takes its tunables out of the environment of a program with more rights than its user's. Where the program
    cannot be started again, the pages stay small."""
    is_second = os.environ.pop(RESTARTED, None) is not None
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if is_second or HEAP_TUNABLE in tunables or not sys.executable or not _can_be_read_again():
        return
    environment = {**os.environ, RESTARTED: "1", "GLIBC_TUNABLES": f"{tunables}:{HEAP_TUNABLE}=1".lstrip(":")}
    with contextlib.suppress(OSError):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _can_be_read_again() -> bool:
    """The program: it is not when it came from standard input or a pipe."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return sys.argv[0] == "-c" if file is None else os.path.isfile(file)


def main() -> int:
    start_with_huge_pages()
    try:
        from .command import run
    except ModuleNotFoundError as missing:
        print(f"quire-serve: error: {missing}; the server's packages come with pip install './python[serve]'", file=sys.stderr)
        return 1
    return run()


if __name__ == "__main__":
    sys.exit(main())
