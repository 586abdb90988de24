#!/usr/bin/env python3
"""What the README shows of the virtual clock is what the tool prints, digit for digit. readme_test.py QUIRE"""
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

QUIRE = sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]


class Readme(unittest.TestCase):
    def test_the_simulated_sweep_gives_the_table_shown(self):
        shown = re.search(r"quire sweep (bench/scenarios/\S+\.toml).*?```\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([QUIRE, "sweep", str(ROOT / shown[1]), "-o", "s.jsonl"], cwd=folder, capture_output=True,
                                  text=True, timeout=280)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, shown[2])


if __name__ == "__main__":
    unittest.main()
