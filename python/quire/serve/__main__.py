"""python -m quire.serve MODEL: answers OpenAI's HTTP interface with a model. docs/SERVING.md."""
import os
import sys

HEAP_TUNABLE = "glibc.malloc.hugetlb"


def start_with_huge_pages() -> None:
    """Starts this program again, as the same process, with a heap in huge pages; glibc reads its tunables at the start only. Each step
    of the engine evicts the tokenizer's tables from the caches, and with small pages nearly every lookup then walks the page table too."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if HEAP_TUNABLE not in tunables:
        os.environ["GLIBC_TUNABLES"] = f"{tunables}:{HEAP_TUNABLE}=1".lstrip(":")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


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
