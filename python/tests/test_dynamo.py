"""The worker of NVIDIA Dynamo, driven as its runtime does. Run by name where ai-dynamo is installed (docs/SERVING.md);
tools/serving/dynamo_replicas.py has frontend, router and several workers."""
import asyncio
import json
import time

import pytest

pytest.importorskip("dynamo.common.backend")
from dynamo.llm.exceptions import EngineShutdown, InvalidArgument, WorkerUnavailable  # noqa: E402
import quire  # noqa: E402
from quire.dynamo import QuireEngine  # noqa: E402
from tokenizer_files import TEMPLATE, byte_level, save  # noqa: E402

PROMPT = list(range(3, 45))


class Slow:
    """A grammar that allows everything and takes its time, so that a request is not over before the test comes to it."""

    async def grammar(self, wishes):
        return self

    def mask(self):
        return self

    def fill(self, row, allowed):
        time.sleep(0.002)


class Context:
    """Of a request."""

    def __init__(self, name):
        self.name = name

    def id(self):
        return self.name


@pytest.fixture
def folder(tmp_path):
    folder = save(byte_level(), tmp_path / "tokenizer", chat_template=TEMPLATE, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


def run(folder, test, *more):
    async def whole():
        engine, config = await QuireEngine.from_args(
            ["--model", "tiny", "--tokenizer", str(folder), "--set", "kv_cache.num_kv_blocks=64", "--set", "topology.threads=1",
             "--set", "model.shape.vocab_size=512", *more])
        try:
            started = await engine.start(1)
            await test(engine, config, started)
        finally:
            await engine.cleanup()
            await engine.cleanup()
    asyncio.run(asyncio.wait_for(whole(), 60))


async def collect(engine, name="r", **request):
    return [chunk async for chunk in engine.generate({"token_ids": PROMPT, **request}, Context(name))]


def stops(**fields):
    return {"stop_conditions": fields}


def test_chunks_are_what_the_engine_generates(folder):
    async def test(engine, config, started):
        assert started.model == config.model_name == str(folder) and started.llm.kv_cache_block_size > 0
        assert started.llm.max_num_seqs > 0 and await engine.is_quiescent()
        chunks = await collect(engine, sampling_options={"temperature": 0}, output_options={"logprobs": 2, "prompt_logprobs": 1},
                               **stops(max_tokens=9, ignore_eos=True))
        assert sum((chunk["token_ids"] for chunk in chunks), []) == expected.token_ids
        assert sum((chunk["log_probs"] for chunk in chunks), []) == [
            entry[token].logprob for entry, token in zip(expected.logprobs, expected.token_ids)]
        last = chunks[-1]
        assert last["finish_reason"] == "length" and all("finish_reason" not in chunk for chunk in chunks[:-1])
        assert last["completion_usage"]["total_tokens"] == len(PROMPT) + 9
        assert len(last["engine_data"]["prompt_logprobs"]) == len(PROMPT)
        [again] = (await collect(engine, **stops(max_tokens=1)))[-1:]
        assert again["completion_usage"]["prompt_tokens_details"]["cached_tokens"] > 0
        salted = await collect(engine, routing={"cache_salt": "a" * 1000}, **stops(max_tokens=1))
        assert salted[-1]["completion_usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        # A worker that died: another goes on with what the client has already.
        token_ids = PROMPT + expected.token_ids[:4]
        rest = await collect(engine, token_ids=token_ids, sampling_options={"temperature": 0},
                             **stops(max_tokens=5, ignore_eos=True))
        assert sum((chunk["token_ids"] for chunk in rest), []) == expected.token_ids[4:]
    with quire.LLM("tiny", options={"kv_cache.num_kv_blocks": 64, "topology.threads": 1, "model.shape.vocab_size": 512}) as llm:
        [result] = llm.generate([PROMPT], quire.SamplingParams(max_tokens=9, temperature=0, logprobs=2, ignore_eos=True))
        expected = result.outputs[0]
    run(folder, test)


def test_refusals(folder):
    async def test(engine, config, started):
        for request, problem in (({"token_ids": [5] * 100_000}, "100000 tokens; this model needs"),
                                 (stops(max_tokens=100_000), "max_tokens"), ({"sampling_options": {"n": 2}}, "one sequence"),
                                 ({"sampling_options": {"temperature": -1.0}}, "temperature"),
                                 ({"sampling_options": {"temperature": "x"}}, "temperature"),
                                 ({"sampling_options": {"structure": 1}}, "structure: is not supported"),
                                 ({"sampling_options": {"guided_decoding": {"regex": "[a"}}}, "guided_regex")):
            with pytest.raises(InvalidArgument, match=problem):
                await collect(engine, **request)
        regex = await collect(engine, sampling_options={"guided_decoding": {"regex": "(the ){3}"}}, **stops(max_tokens=50))
        ids = sum((chunk["token_ids"] for chunk in regex), [])
        assert engine._engine.tokenizer.decode(ids) == "the the the " and regex[-1]["finish_reason"] == "stop"
        while not await engine.is_quiescent():
            await asyncio.sleep(0.01)
    run(folder, test)


def test_an_aborted_request_ends(folder):
    async def test(engine, config, started):
        engine._grammars = Slow()

        async def long(name):
            return await collect(engine, name, **stops(max_tokens=400, ignore_eos=True))
        tasks = [asyncio.ensure_future(long(name)) for name in "abab"]
        while await engine.is_quiescent():
            await asyncio.sleep(0)
            assert not any(task.done() for task in tasks), tasks
        await engine.abort(Context("a"))
        await engine.abort(Context("unknown"))
        ends = [chunks[-1]["finish_reason"] for chunks in await asyncio.gather(*tasks)]
        assert ends == ["cancelled", "length", "cancelled", "length"]
    run(folder, test)


def test_a_full_queue_and_the_end(folder):
    async def test(engine, config, started):
        async def ask(i):
            return await collect(engine, str(i), **stops(max_tokens=200, ignore_eos=True))
        tasks = [asyncio.ensure_future(ask(i)) for i in range(20)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        full = [r for r in results if isinstance(r, WorkerUnavailable)]
        assert full and all("max_num_queued_reqs" in str(error) for error in full)
        assert all(r[-1]["finish_reason"] == "length" for r in results if not isinstance(r, Exception))
        engine._grammars = Slow()
        running = asyncio.ensure_future(ask(0))
        await asyncio.sleep(0)
        await engine.cleanup()
        assert (await running)[-1]["finish_reason"] == "length"
        with pytest.raises(EngineShutdown):
            await ask(1)
    run(folder, test, "--set", "scheduler.max_num_queued_reqs=2", "--set", "scheduler.max_num_seqs=2")
