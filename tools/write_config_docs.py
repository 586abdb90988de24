#!/usr/bin/env python3
"""Writes the rows of docs/CONFIGURATION.md from the table of keys: tools/write_config_docs.py BUILD/quire. A test compares."""
import pathlib
import re
import subprocess
import sys

# The members of a distribution are documented once, at workload.prompt_tokens.
REPEATED = ("workload.output_tokens.", "workload.encoder_tokens.", "workload.mix[].prompt_tokens.", "workload.mix[].output_tokens.")
ROW = re.compile(r"\| `([a-z_0-9.\[\]*]+)` \|")

page = pathlib.Path(__file__).parent.parent / "docs" / "CONFIGURATION.md"
rows = {}  # section -> its rows
for row in subprocess.check_output([sys.argv[1], "config", "markdown"], text=True).splitlines():
    name = ROW.match(row)[1]
    if not name.startswith(REPEATED):
        rows.setdefault(re.split(r"[.\[]", name)[0], []).append(row)

lines, section = [], None
for line in page.read_text().splitlines():
    heading = re.match(r"## \[?(\w+)\]?", line)
    if heading:
        section = "schema_version" if line == "## Top level" else heading[1]
    if ROW.match(line):
        lines += rows.pop(section, [])
    else:
        lines.append(line)
if rows:
    sys.exit(f"no table in {page} for: {' '.join(rows)}")
page.write_text("\n".join(lines) + "\n")
