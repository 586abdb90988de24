#!/usr/bin/env python3
"""Copies the public headers, without comments, to tests/api/headers-0.1: what a program compiled against this release knows.
Run it when an unreleased interface changes; once 0.1.0 is released, tests/api/layout_test.py says what may not change."""
import pathlib
import re
import shutil

root = pathlib.Path(__file__).resolve().parent.parent
target = root / "tests/api/headers-0.1/quire"
shutil.rmtree(target, ignore_errors=True)
target.mkdir(parents=True)
for header in (root / "include/quire").glob("*.h"):
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    (target / header.name).write_text("\n".join(lines) + "\n")
