"""The perplexity of a text is the tool's for its token ids."""
import json
import os
import subprocess

import pytest
from conftest import EXACT, SMALL

import quire
from quire.perplexity import perplexity

IDS = [1 + 7 * i * i % 250 for i in range(500)]


class Letters:
    """A tokenizer of one token a character."""

    def encode(self, text, add_special_tokens=True):
        return [ord(letter) for letter in text]


def by_tool(tmp_path, *arguments):
    if "QUIRE" not in os.environ:
        pytest.skip("QUIRE does not name the command-line tool")
    (tmp_path / "ids").write_text(" ".join(map(str, IDS)))
    settings = ["--weight-dtype", "f32", "--kv-cache-dtype", "f32", "--set", "kv_cache.num_kv_blocks=64"]
    done = subprocess.run([os.environ["QUIRE"], "perplexity", tmp_path / "ids", "--model", "tiny", "--json", *settings, *arguments],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def llm():
    with quire.LLM("tiny", tokenizer=Letters(), **SMALL, **EXACT) as llm:
        yield llm


@pytest.mark.parametrize("size, bos", [(64, None), (101, None), (64, 3)])
def test_a_text_has_the_tools_perplexity(llm, tmp_path, size, bos):
    expected = by_tool(tmp_path, "--ctx-size", str(size), *(["--bos", str(bos)] if bos is not None else []))
    found = perplexity(llm, "".join(map(chr, IDS)), size, bos)
    assert found == perplexity(llm, IDS, size, bos)
    assert (found.chunks, found.tokens_scored) == (expected["chunks"], expected["tokens_scored"])
    assert found.nll == pytest.approx(expected["nll"], abs=1e-6)
    assert found.perplexity == pytest.approx(expected["perplexity"], rel=1e-6)
    assert found.standard_error == pytest.approx(expected["standard_error"], rel=1e-5)


@pytest.mark.parametrize("text, size, message", [
    (IDS[:20], 64, "text: 20 tokens are less than one chunk of ctx_size 64"), (IDS, 3, "ctx_size: 3 is not in 4.."),
    (IDS, 10**6, "ctx_size: 1000000 is not in 4.."), ([1, 2, 3, 99999], 4, "99999")])
def test_what_cannot_be_scored_is_named(llm, text, size, message):
    with pytest.raises(quire.QuireError, match=message):
        perplexity(llm, text, size)


def test_a_model_without_tokenizer_takes_token_ids():
    with quire.LLM("tiny", **SMALL) as llm, pytest.raises(quire.QuireError, match="text: is text, and there is no tokenizer .*: give token ids"):
        perplexity(llm, "a text")
