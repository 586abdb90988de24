"""python -m quire.serve MODEL: answers OpenAI's HTTP interface with a model. docs/SERVING.md."""
import sys


def main() -> int:
    try:
        from .command import run
    except ModuleNotFoundError as missing:
        print(f"quire-serve: error: {missing}; the server's packages come with pip install './python[serve]'", file=sys.stderr)
        return 1
    return run()


if __name__ == "__main__":
    sys.exit(main())
