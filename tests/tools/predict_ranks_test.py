#!/usr/bin/env python3
"""tools/predict_ranks.py against numbers computed by hand. usage: predict_ranks_test.py SCRIPT"""
import subprocess
import sys
import unittest

SCRIPT = sys.argv.pop(1)


def table(*arguments):
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    return done.returncode, {tuple(row[:3]): row[3:] for row in rows}, done.stderr


class Prediction(unittest.TestCase):
    def test_one_sequence_is_bound_by_the_weights(self):
        _, rows, _ = table("--bandwidth", "1", "--peak", "1e9", "--latency", "0", "--rate", "1e9", "--context", "0")
        # 32 layers x (4096 x (4096 + 2048 + 4096) + 3 x 4096 x 14336) + 128256 x 4096 = 7.5046e9 parameters
        self.assertEqual(rows[("8B", "bf16", "1")][:4], ["15,009", "7,505", "3,752", "1,876"])
        self.assertEqual(rows[("8B", "int8", "64")][:2], ["7,505", "3,752"])

    def test_each_message_waits_once(self):
        _, rows, _ = table("--bandwidth", "1e9", "--peak", "1e9", "--latency", "1000", "--rate", "1e9")
        self.assertEqual(rows[("8B", "bf16", "1")][:4], ["0", "133", "133", "133"])  # 4 x 32 + 5
        self.assertEqual(rows[("70B", "bf16", "16")][:4], ["0", "325", "325", "325"])

    def test_bytes_cross_the_network(self):
        _, rows, _ = table("--bandwidth", "1e9", "--peak", "1e9", "--latency", "0", "--rate", "1")
        # half of 64 x (32 x (2 x (4096 + 14336) + 8 x 4096) + 4 x 4096) bytes
        self.assertEqual(rows[("8B", "bf16", "64")][1], "72")
        self.assertEqual(rows[("8B", "bf16", "64")][4], "100 %")

    def test_impossible_constants_are_refused(self):
        status, _, errors = table("--rate", "0")
        self.assertEqual(status, 2)
        self.assertIn("must be above 0", errors)


if __name__ == "__main__":
    unittest.main()
