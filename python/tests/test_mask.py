"""The mask hook: a Python object for each request says which tokens may follow."""
import array

import pytest

import quire
from conftest import SMALL, is_free
from quire import SamplingParams


class Only:
    """One token, chosen by what stands before."""

    def __init__(self, choose):
        self.choose, self.rows = choose, []

    def fill(self, row, allowed):
        token = self.choose(row)
        self.rows.append((row.sequence, list(row.tokens), row.prompt_count, row.drafts))
        words = array.array("I", bytes(4 * len(allowed)))
        words[token // 32] = 1 << token % 32
        allowed[:] = words


def test_a_mask_chooses(llm):
    mask = Only(lambda row: 10 + len(row.tokens) - row.prompt_count)
    masked, free = llm.generate([[1, 2], [1, 2]], [SamplingParams(max_tokens=4, mask=mask), SamplingParams(max_tokens=4)])
    assert masked.outputs[0].token_ids == [10, 11, 12, 13]
    assert mask.rows == [(0, [1, 2] + list(range(10, 10 + i)), 2, 0) for i in range(4)]
    assert free.outputs[0].token_ids == llm.generate([1, 2], SamplingParams(max_tokens=4))[0].outputs[0].token_ids


def test_each_sequence_has_its_number(llm):
    mask = Only(lambda row: 20 + row.sequence)
    [result] = llm.generate([1, 2], SamplingParams(max_tokens=3, n=3, mask=mask))
    assert [output.token_ids for output in result.outputs] == [[20] * 3, [21] * 3, [22] * 3]


def test_many_masked_requests_at_once(llm):
    params = [SamplingParams(max_tokens=16, mask=Only(lambda row, i=i: 100 + i)) for i in range(40)]
    for i, result in enumerate(llm.generate([[i + 1] for i in range(40)], params)):
        assert result.outputs[0].token_ids == [100 + i] * 16


def test_drafts_are_seen_as_such():
    """The looked-up tokens repeat a pattern that the mask forces."""
    mask = Only(lambda row: 30 + len(row.tokens) % 2)
    with quire.LLM("tiny", num_speculative_tokens=3, speculative_adaptive=False, **SMALL) as llm:
        [result] = llm.generate([1, 30, 31, 30, 31, 30, 31], SamplingParams(max_tokens=12, mask=mask))
    assert result.outputs[0].token_ids == [31 if i % 2 == 0 else 30 for i in range(12)]
    assert any(drafts > 0 for *_, drafts in mask.rows) and result.outputs[0].metrics.drafts_accepted > 0


def test_an_exception_ends_the_request_and_is_the_cause(llm):
    def fail(row):
        if len(row.tokens) - row.prompt_count == 2:
            raise KeyError("no such state")
        return 5
    bad, good = llm.generate([[1, 2], [3, 4]], [SamplingParams(max_tokens=6, mask=Only(fail)), SamplingParams(max_tokens=6)])
    output = bad.outputs[0]
    assert output.finish_reason == "error" and output.token_ids == [5, 5] and output.error.status == "ERR_EXECUTION"
    assert "no such state" in output.error.message and isinstance(output.error.__cause__, KeyError)
    assert good.outputs[0].finish_reason == "length" and is_free(llm)


def test_no_token_left_is_an_error(llm):
    class Nothing:
        def fill(self, row, allowed):
            allowed[:] = array.array("I", bytes(4 * len(allowed)))
    output = llm.generate([1, 2], SamplingParams(max_tokens=6, mask=Nothing()))[0].outputs[0]
    assert output.finish_reason == "error" and output.error.status == "ERR_EXECUTION" and output.error.__cause__ is None


def test_a_mask_that_is_none_is_an_error_too(llm):
    output = llm.generate([1, 2], SamplingParams(max_tokens=6, mask=object()))[0].outputs[0]
    assert isinstance(output.error.__cause__, AttributeError)
