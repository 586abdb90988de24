"""Engines that the tests share. The variable QUIRE names the command-line tool of the same clone: what it generates is what
the package must generate."""
import json
import os
import pathlib
import subprocess
import time

import pytest

import quire

SMALL = {"num_kv_blocks": 64}  # not half of the machine's memory
EXACT = {"dtype": "f32", "kv_cache_dtype": "f32"}
MODELS = pathlib.Path(__file__).resolve().parents[2] / "tests/models"


class Slow:
    """A mask that only takes its time, so that a request is not over before the test comes to it."""

    def fill(self, row, allowed):
        time.sleep(0.002)


def is_free(engine):
    """Nothing is in it. The last event comes a little before the counters."""
    for _ in range(1000):
        stats = engine.stats()
        if stats["requests_submitted"] == stats["requests_finished"] and stats["blocks_used"] == 0:
            return engine.check() is None
        time.sleep(0.002)
    return False


@pytest.fixture(scope="session")
def llm():
    with quire.LLM("tiny", max_logits_in_flight=64, **SMALL) as llm:
        yield llm
        assert is_free(llm)


@pytest.fixture(scope="session")
def tool():
    """Answers of `quire generate` to requests, in their order."""
    if "QUIRE" not in os.environ:
        pytest.skip("QUIRE does not name the command-line tool")

    def generate(requests, *arguments):
        lines = "".join(json.dumps({"id": i} | request) + "\n" for i, request in enumerate(requests))
        done = subprocess.run([os.environ["QUIRE"], "generate", *arguments], input=lines, capture_output=True, text=True,
                              timeout=600)
        answers = {answer["id"]: answer for answer in map(json.loads, done.stdout.splitlines())}
        assert len(answers) == len(requests), done.stderr
        return [answers[i] for i in range(len(requests))]

    return generate
