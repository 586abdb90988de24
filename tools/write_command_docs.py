#!/usr/bin/env python3
"""Writes what documents show of commands: the rows of docs/MODELS.md, and in docs/DECODING.md the block behind each
command. tools/write_command_docs.py BUILD/quire; a test runs it with --check, which writes nothing."""
import json
import pathlib
import re
import shlex
import subprocess
import sys

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"(```sh\n(?:build/release/)?quire ([^\n]+)\n```\n\n```\n)(.*?)(```\n)", re.DOTALL)


def quire(*arguments):
    return subprocess.check_output([sys.argv[1], *arguments], text=True)


def row(model):
    names = lambda key: ", ".join(f"`{name}`" for name in model[key])
    return (f"| `{model['model_type']}` | {model['kind']} | {names('classes')} | {'yes' if model['gguf'] else ''} | "
            f"{model['about']} | {names('presets')} |\n")


def models(page):
    rows = "".join(row(model) for model in json.loads(quire("models", "--json"))["models"])
    return re.sub(r"(\| model_type .*\n\|[-|]+\n)(\|.*\n)*", lambda match: match[1] + rows, page)


def decoding(page):
    return BLOCK.sub(lambda match: match[1] + quire(*shlex.split(match[2])) + match[4], page)


stale = []
for name, write in {"MODELS.md": models, "DECODING.md": decoding}.items():
    path = DOCS / name
    before = path.read_text()
    after = write(before)
    if after != before:
        stale.append(name)
    if after != before and "--check" not in sys.argv:
        path.write_text(after)
if stale and "--check" in sys.argv:
    sys.exit(f"docs/{', docs/'.join(stale)}: not what quire prints; run tools/write_command_docs.py BUILD/quire")
