"""AsyncEngine: the same tokens as offline, ends of every kind, and nothing left behind."""
import asyncio
import gc
from contextlib import aclosing

import pytest

import quire
from conftest import SMALL, Slow, is_free
from quire import SamplingParams

LONG = SamplingParams(max_tokens=1000, ignore_eos=True, mask=Slow())


def run(test, **options):
    """Runs test(engine) in a loop of its own; afterwards nothing is used or broken."""
    async def whole():
        async with quire.AsyncEngine("tiny", **SMALL, **options) as engine:
            await test(engine)
            await all_free(engine)
    asyncio.run(asyncio.wait_for(whole(), 120))


async def all_free(engine):
    assert await asyncio.to_thread(is_free, engine)


async def collect(stream):
    """Whole sequences of a stream: {index: (tokens, finish_reason)}, and how many outputs there were."""
    tokens, reasons, count = {}, {}, 0
    async for output in stream:
        count += 1
        for part in output.outputs:
            tokens.setdefault(part.index, []).extend(part.token_ids)
            assert part.index not in reasons
            if part.finish_reason is not None:
                reasons[part.index] = part.finish_reason
        assert output.finished == (len(reasons) == len(tokens) and output.finished)
    return {index: (tokens[index], reasons[index]) for index in tokens}, count


def test_streams_are_what_generate_gives(llm):
    cases = [([i + 1, 2, 3], SamplingParams(max_tokens=10 + i, temperature=i % 3, seed=i, n=1 + i % 2)) for i in range(30)]
    expected = llm.generate([prompt for prompt, _ in cases], [params for _, params in cases])

    async def test(engine):
        found = await asyncio.gather(*[collect(engine.generate(*case)) for case in cases])
        for (sequences, _), result in zip(found, expected):
            assert sequences == {o.index: (o.token_ids, o.finish_reason) for o in result.outputs}
    run(test)


def test_tokens_come_as_they_are_made():
    async def test(engine):
        params = SamplingParams(max_tokens=50, ignore_eos=True, mask=Slow())
        sequences, count = await collect(engine.generate([1, 2], params))
        assert len(sequences[0][0]) == 50 and count > 10
    run(test)


def test_a_slow_reader_gets_several_at_once():
    async def test(engine):
        stream = engine.generate([1, 2], SamplingParams(max_tokens=60, ignore_eos=True))
        first = await anext(stream)
        await all_free(engine)
        second = await anext(stream)
        assert len(first.outputs[0].token_ids) + len(second.outputs[0].token_ids) == 60 and second.finished
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    run(test)


def test_what_comes_with_tokens_streams_too(llm):
    params = SamplingParams(max_tokens=6, logprobs=2, prompt_logprobs=1)
    [expected] = llm.generate([5, 6, 7], params)

    async def test(engine):
        logprobs, prompt, metrics = [], [], None
        async for output in engine.generate([5, 6, 7], params, request_id="mine"):
            assert output.request_id == "mine" and output.prompt_token_ids == [5, 6, 7]
            assert output.outputs or output.prompt_logprobs[1:]
            prompt += output.prompt_logprobs or []
            for part in output.outputs:
                logprobs += part.logprobs
                assert len(part.logprobs) == len(part.token_ids)
                metrics = part.metrics or metrics
        assert logprobs == expected.outputs[0].logprobs and prompt == expected.prompt_logprobs
        assert metrics.output_tokens == 6
    run(test)


@pytest.mark.parametrize("how", ["break", "close", "cancel", "abort", "drop", "never started"])
def test_an_early_end_frees_the_blocks(how):
    async def test(engine):
        async def consume(stream):
            async for _ in stream:
                if how == "break":
                    break
        before = engine.stats()["requests_finished"]
        for i in range(20):
            stream = engine.generate([i + 1] * 40, LONG, request_id=f"r{i}")
            if how == "never started":
                del stream
                continue
            await anext(stream)
            if how == "close":
                async with aclosing(stream):
                    pass
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)
            elif how == "abort":
                engine.abort(f"r{i}")
                sequences, _ = await collect(stream)
                assert sequences[0][1] == "cancelled"
            elif how == "drop":
                del stream
                gc.collect()
            else:
                task = asyncio.create_task(consume(stream))
                del stream
                await asyncio.sleep(0)
                if how == "cancel":
                    task.cancel()
                await asyncio.wait([task])
        await all_free(engine)
        stats = engine.stats()
        assert stats["requests_finished"] - before == 20 and stats["finished_by"]["cancelled"] == 20
    run(test)


def test_others_go_on_when_one_is_cancelled(llm):
    expected = llm.generate([9, 9], SamplingParams(max_tokens=100, ignore_eos=True))[0].outputs[0].token_ids

    async def test(engine):
        task = asyncio.create_task(collect(engine.generate([9, 9], SamplingParams(max_tokens=100, ignore_eos=True))))
        for i in range(30):
            stream = engine.generate([i + 1], LONG)
            await anext(stream)
            del stream
        assert (await task)[0][0][0] == expected
    run(test)


def test_refusals_come_at_the_call():
    async def test(engine):
        with pytest.raises(quire.QuireError, match="top_p: 2"):
            engine.generate([1], SamplingParams(top_p=2))
        streams = []
        with pytest.raises(quire.QuireError) as caught:
            for _ in range(100):
                streams.append(engine.generate([1] * 30, LONG))
        assert caught.value.status == "ERR_FULL" and "max_num_queued_reqs" in caught.value.message
        streams.clear()
    run(test, max_num_queued_reqs=3, max_num_seqs=2, max_num_partial_prefills=1)


def test_an_id_is_used_once_at_a_time():
    async def test(engine):
        stream = engine.generate([1], LONG, request_id="a")
        with pytest.raises(quire.QuireError, match="'a' is that of an unfinished request"):
            engine.generate([1], LONG, request_id="a")
        await anext(stream)
        assert engine.explain("a")["reason"] in ("none", "order")
        engine.abort("a")
        await collect(stream)
        await collect(engine.generate([1], SamplingParams(max_tokens=2), request_id="a"))
        engine.abort("unknown")
        with pytest.raises(quire.QuireError) as caught:
            engine.explain("unknown")
        assert caught.value.status == "ERR_NOT_FOUND"
    run(test)


def test_a_stream_has_one_reader():
    async def test(engine):
        stream = engine.generate([1], LONG)
        await anext(stream)
        task = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task reads this stream"):
            while True:
                await anext(stream)
        task.cancel()
    run(test)


def test_a_failing_mask_raises_in_the_stream():
    class Broken:
        def fill(self, row, allowed):
            raise RuntimeError("grammar is gone")

    async def test(engine):
        with pytest.raises(quire.QuireError, match="grammar is gone") as caught:
            await collect(engine.generate([1], SamplingParams(max_tokens=3, mask=Broken())))
        assert isinstance(caught.value.__cause__, RuntimeError)
    run(test)


def test_a_reader_that_never_comes_loses_its_request():
    async def test(engine):
        stream = engine.generate([1], LONG)
        await anext(stream)
        await asyncio.sleep(0.2)
        await all_free(engine)
        with pytest.raises(quire.QuireError, match="took nothing for 0.05 s"):
            await collect(stream)
    run(test, consumer_timeout="50ms")


def test_draining_lets_requests_end():
    async def test(engine):
        task = asyncio.create_task(collect(engine.generate([1], SamplingParams(max_tokens=50, ignore_eos=True))))
        await asyncio.sleep(0)
        assert await engine.drain()
        with pytest.raises(quire.EngineClosed):
            engine.generate([1])
        sequences, _ = await task
        assert len(sequences[0][0]) == 50 and sequences[0][1] == "length"
    run(test)


def test_draining_cancels_at_its_deadline():
    async def test(engine):
        task = asyncio.create_task(collect(engine.generate([1], LONG)))
        await asyncio.sleep(0)
        assert not await engine.drain(0.02)
        sequences, _ = await task
        assert sequences[0][1] == "cancelled"
    run(test)


def test_closing_ends_open_streams():
    async def whole():
        engine = quire.AsyncEngine("tiny", **SMALL)
        task = asyncio.create_task(collect(engine.generate([1], LONG)))
        await asyncio.sleep(0.01)
        await engine.aclose()
        await engine.aclose()
        assert (await task)[0][0][1] == "cancelled"
        for call in (engine.stats, engine.check, lambda: engine.generate([1])):
            with pytest.raises(quire.EngineClosed):
                call()
    asyncio.run(asyncio.wait_for(whole(), 60))


def test_one_loop_after_another():
    engine = quire.AsyncEngine("tiny", **SMALL)

    async def use():
        return await collect(engine.generate([1, 2], SamplingParams(max_tokens=5, seed=1)))

    async def leave():
        await anext(engine.generate([1, 2], LONG))
        engine.generate([1, 2], LONG)

    first = asyncio.run(use())[0]
    asyncio.run(leave())
    assert asyncio.run(use())[0] == first

    async def other():
        await asyncio.to_thread(asyncio.run, use())
    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        async def both():
            await use()
            await other()
        asyncio.run(both())

    async def end():
        await all_free(engine)
        await engine.aclose()
    asyncio.run(end())


def test_requests_without_a_seed_differ():
    async def test(engine):
        params = SamplingParams(max_tokens=20, temperature=2.0)
        found = await asyncio.gather(*[collect(engine.generate([1], params)) for _ in range(4)])
        assert len({tuple(sequences[0][0]) for sequences, _ in found}) == 4
        all_found.append([sequences for sequences, _ in found])
    all_found = []
    for options in ({}, {}, {"seed": 3}, {"seed": 3}):
        run(test, **options)
    assert all_found[0] != all_found[1] and all_found[2] == all_found[3]


def test_events_of_many_requests_are_gathered(monkeypatch):
    """A pause behind those of 8 requests and more, in which nothing is lost."""
    monkeypatch.setattr("quire._core.GATHER_S", 0.25)

    async def test(engine):
        looks, take = [], engine._core.take_events

        def noting(timeout_ns):
            looks.append((asyncio.get_running_loop().time(), take(timeout_ns)))
            return looks[-1][1]

        engine._core.take_events = noting

        async def ids(first):
            found, _ = await collect(engine.generate([first, 2], SamplingParams(max_tokens=48, ignore_eos=True)))
            return found[0][0]

        many = await asyncio.gather(*[ids(i + 1) for i in range(10)])
        assert all(len(found) == 48 for found in many) and await ids(3) == many[2]  # which is looked for after a pause, too
        gaps = [after[0] - before[0] for before, after in zip(looks, looks[1:]) if len(before[1]) >= 8]
        assert gaps and min(gaps) > 0.2

    run(test)
