"""What the prefix cache has, as the engine tells it and as a router hears it."""
import asyncio
import random
import threading
import time

import pytest

import quire
from conftest import MODELS, is_free
from quire import SamplingParams

TWO = SamplingParams(max_tokens=2, ignore_eos=True)


class Mirror:
    """The blocks that are there, to whoever applies the events in order: hash -> (parent's hash, token ids)."""

    def __init__(self):
        self.blocks, self.removed = {}, 0

    def apply(self, event):
        if event.kind == "stored":
            assert event.block_hash not in self.blocks
            assert event.parent_hash is None or event.parent_hash > 0
            self.blocks[event.block_hash] = (event.parent_hash, tuple(event.token_ids))
        elif event.kind == "removed":
            del self.blocks[event.block_hash]
            self.removed += 1
        else:
            self.blocks.clear()

    def take(self, engine):
        while events := engine.cache_events(7):
            for event in events:
                self.apply(event)

    def found(self, prompt, size):
        """How many tokens of a prompt a router expects to be cached; its last token is always computed."""
        at, parent, by_content = 0, None, {content: name for name, content in self.blocks.items()}
        while (name := by_content.get((parent, tuple(prompt[at:at + size])))) is not None and at + size < len(prompt):
            at, parent = at + size, name
        return at


def words(seed, count):
    draw = random.Random(seed)
    return [draw.randrange(3, 200) for _ in range(count)]


def cached(result):
    return result.outputs[0].metrics.cached_tokens


def test_events_tell_what_the_prefix_cache_has():
    with quire.LLM("tiny", num_kv_blocks=24, cache_events=True) as llm:
        size, mirror, hits = llm.stats()["block_size"], Mirror(), 0
        for i in range(120):
            prompt = words(i % 5, size * 2) + words(i, 1 + i % (2 * size))
            mirror.take(llm)
            assert len(mirror.blocks) == llm.stats()["blocks_cached"], llm.stats()
            expected = mirror.found(prompt, size)
            [result] = llm.generate([prompt], TWO)
            assert cached(result) == expected
            hits += expected > 0
            assert is_free(llm)
        assert hits > 20 and mirror.removed > 20
        llm.flush_cache()
        deadline = time.monotonic() + 10
        while mirror.blocks:
            llm.generate([[1]], TWO)  # a flush takes effect before a step
            mirror.take(llm)
            assert time.monotonic() < deadline


def test_events_begin_anew():
    with quire.LLM("tiny", num_kv_blocks=64, cache_events=True) as llm:
        llm.generate([words(i, 40) for i in range(5)], TWO)
        first, again = Mirror(), Mirror()
        first.take(llm)
        assert first.blocks and llm.cache_events() == []
        llm.restart_cache_events()
        events = llm.cache_events()
        assert events[0].kind == "cleared"
        for event in events:
            again.apply(event)
        assert again.blocks == first.blocks


def test_events_that_cannot_be():
    with quire.LLM("tiny", num_kv_blocks=64) as llm:
        with pytest.raises(quire.QuireError, match="cache_events: is off"):
            llm.cache_events()
    with pytest.raises(quire.QuireError, match="enable_prefix_caching is false"):
        quire.LLM("tiny", num_kv_blocks=64, enable_prefix_caching=False, cache_events=True)


def test_an_engine_may_be_closed_while_somebody_asks():
    for _ in range(5):
        llm, ends = quire.LLM("tiny", num_kv_blocks=64, cache_events=True), []

        def ask():
            try:
                while True:
                    llm.cache_events()
                    llm.restart_cache_events()
            except quire.EngineClosed as error:
                ends.append(error)
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        llm.generate([words(i, 40) for i in range(5)], TWO)
        llm.close()
        for thread in threads:
            thread.join(10)
        assert len(ends) == 3


# ---- over ZeroMQ ----

zmq = pytest.importorskip("zmq")
msgspec = pytest.importorskip("msgspec")
from quire.kv_events import KvEventPublisher, KvEventsConfig, is_bound, read_config, schema  # noqa: E402


class Event(msgspec.Struct, array_like=True, tag=True):
    """As vLLM's subscribers declare them."""


class BlockStored(Event):
    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None


class BlockRemoved(Event):
    block_hashes: list[int]
    medium: str | None


class AllBlocksCleared(Event):
    pass


class Batch(msgspec.Struct, array_like=True):
    ts: float
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]
    data_parallel_rank: int | None = None


class Subscriber:
    """A router's side: applies what comes, and notes gaps."""

    def __init__(self, endpoint, topic=""):
        self.socket = zmq.Context.instance().socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self.socket.connect(endpoint)
        self.mirror, self.next, self.messages, self.cleared = Mirror(), None, [], 0

    def take(self, milliseconds=200):
        """All that comes, until nothing does for so long."""
        while self.socket.poll(milliseconds):
            self.accept(*self.socket.recv_multipart())
        return self

    def accept(self, topic, number, payload):
        number = int.from_bytes(number, "big")
        assert self.next in (None, number)
        self.next = number + 1
        self.messages.append((topic, number, payload))
        batch = msgspec.msgpack.decode(payload, type=Batch)
        assert abs(batch.ts - time.time()) < 60 and batch.data_parallel_rank == 0
        for event in batch.events:
            self.apply(event)

    def apply(self, event):
        if isinstance(event, AllBlocksCleared):
            self.cleared += 1
            self.mirror.apply(quire.CacheEvent("cleared"))
        elif isinstance(event, BlockRemoved):
            for name in event.block_hashes:
                self.mirror.apply(quire.CacheEvent("removed", name))
        else:
            parent, size = event.parent_block_hash, event.block_size
            self.size = size
            assert len(event.token_ids) == size * len(event.block_hashes)
            for i, name in enumerate(event.block_hashes):
                self.mirror.apply(quire.CacheEvent("stored", name, parent, event.token_ids[i * size:(i + 1) * size]))
                parent = name

    def close(self):
        self.socket.close()


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/events"


def test_a_router_knows_what_is_cached(endpoint):
    async def whole():
        async with quire.AsyncEngine("tiny", num_kv_blocks=24, cache_events=True) as engine:
            publisher = KvEventPublisher(engine, KvEventsConfig(endpoint=endpoint, topic="kv"))
            try:
                await use(engine)
            finally:
                publisher.close()

    async def answer(engine, prompt):
        return [output async for output in engine.generate(prompt, TWO)][-1]

    async def use(engine):
        router, size, hits = Subscriber(endpoint, "kv"), engine.stats()["block_size"], 0
        for i in range(60):
            prompt = words(i % 5, size * 2) + words(i, 1 + i % (2 * size))
            await asyncio.to_thread(router.take, 100)
            end = time.monotonic() + 10
            while len(router.mirror.blocks) != engine.stats()["blocks_cached"] and time.monotonic() < end:
                await asyncio.to_thread(router.take, 100)  # a busy machine sends them late
            expected = router.mirror.found(prompt, size)
            hits += expected > 0
            assert cached(await answer(engine, prompt)) == expected
        await asyncio.to_thread(router.take)
        assert hits > 10 and len(router.mirror.blocks) == engine.stats()["blocks_cached"] > 0
        assert {topic for topic, _, _ in router.messages} == {b"kv"}
        late = await asyncio.to_thread(Subscriber(endpoint).take)
        assert late.cleared > 0 and late.mirror.blocks == router.mirror.blocks
        await asyncio.to_thread(router.take)
        assert late.mirror.blocks == router.mirror.blocks
        router.close()
        late.close()
    asyncio.run(whole())


def test_messages_come_again_from_the_replay_endpoint(endpoint, tmp_path):
    replay = f"ipc://{tmp_path}/replay"
    config = KvEventsConfig(endpoint=endpoint, replay_endpoint=replay, buffer_steps=4)
    with quire.LLM("tiny", num_kv_blocks=64, cache_events=True) as llm:
        publisher, router = KvEventPublisher(llm, config), Subscriber(endpoint)
        for i in range(6):
            llm.generate([words(i, 40)], TWO)
            router.take()
        assert len(router.messages) >= 6

        def ask(frame):
            client = zmq.Context.instance().socket(zmq.DEALER)
            client.setsockopt(zmq.LINGER, 0)
            client.connect(replay)
            client.send_multipart([b"", frame])
            answers = []
            while client.poll(2000 if len(frame) == 8 else 200):
                answers.append(tuple(client.recv_multipart()[1:]))
                if answers[-1][0] == b"\xff" * 8:
                    break
            client.close()
            return answers

        last = router.next - 1
        kept = [(number.to_bytes(8, "big"), payload) for _, number, payload in router.messages]
        end = (b"\xff" * 8, b"")
        assert ask(last.to_bytes(8, "big")) == [*kept[-1:], end]
        assert ask(bytes(8)) == [*kept[-4:], end]
        assert ask((last + 1).to_bytes(8, "big")) == [end]
        assert ask(b"5") == [] and ask(bytes(10_000)) == [] and ask((last + 1).to_bytes(8, "big")) == [end]
        publisher.close()
        router.close()


def test_a_chain_is_one_event():
    def stored(name, parent):
        return quire.CacheEvent("stored", name, parent, [name, name])
    events = [stored(1, None), stored(2, 1), stored(3, None), stored(4, 1), quire.CacheEvent("removed", 4),
              quire.CacheEvent("removed", 3), stored(5, 3), quire.CacheEvent("cleared")]
    assert schema(events, 2) == [
        ["BlockStored", [1, 2], None, [1, 1, 2, 2], 2, None, "GPU"], ["BlockStored", [3], None, [3, 3], 2, None, "GPU"],
        ["BlockStored", [4], 1, [4, 4], 2, None, "GPU"], ["BlockRemoved", [4, 3], "GPU"],
        ["BlockStored", [5], 3, [5, 5], 2, None, "GPU"], ["AllBlocksCleared"]]


def test_the_configuration_is_vllms():
    assert read_config(None) is read_config("{}") is None
    assert read_config('{"enable_kv_cache_events": true, "publisher": "null"}') is None
    config = read_config('{"enable_kv_cache_events": true, "publisher": "zmq", "endpoint": "tcp://*:5600", "topic": "kv@x"}')
    assert (config.endpoint, config.topic) == ("tcp://*:5600", "kv@x")
    for text, problem in (("x", "malformed"), ('{"endpoints": 1}', "endpoints"), ('{"hwm": 0}', "hwm"),
                          ('{"endpoint": 5}', "endpoint")):
        with pytest.raises(quire.QuireError, match=f"--kv-events-config: .*{problem}"):
            read_config(text)
    assert all(map(is_bound, ("tcp://*:1", "tcp://127.0.0.1:1", "tcp://[::1]:1", "ipc:///x", "inproc://x")))
    assert not is_bound("tcp://router:5557") and not is_bound("tcp://10.1.27.0:1")


def test_endpoints_that_cannot_be_had():
    with quire.LLM("tiny", num_kv_blocks=64, cache_events=True) as llm:
        for endpoint in ("tcp://127.0.0.1", "nonsense", "tcp://127.0.0.1:99999", "tcp://127.0.0.1:x"):
            with pytest.raises(quire.QuireError, match=f"KV events: {endpoint}: "):
                KvEventPublisher(llm, KvEventsConfig(endpoint=endpoint))
        with zmq.Context.instance().socket(zmq.PUB) as other:
            port = other.bind_to_random_port("tcp://127.0.0.1")
            with pytest.raises(quire.QuireError, match="Address already in use"):
                KvEventPublisher(llm, KvEventsConfig(endpoint=f"tcp://127.0.0.1:{port}"))


def test_a_server_publishes(tmp_path):
    pytest.importorskip("starlette")
    from serving import SMALL, Server, refusal
    endpoint = f"ipc://{tmp_path}/events"
    config = '{"enable_kv_cache_events": true, "endpoint": "%s", "topic": "kv@here@tiny"}' % endpoint
    server = Server("tiny", *SMALL, "--kv-events-config", config, log=tmp_path / "log")
    try:
        router, prompt = Subscriber(endpoint, "kv@"), words(1, 70)
        server.complete(prompt=prompt)
        router.take(500)
        answer = server.complete(prompt=prompt)
        found = router.mirror.found(prompt, router.size)
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == found == 64
        router.close()
        assert server.end() == 0, server.text()
    finally:
        server.close()
    assert "--kv-events-config: " in refusal("tiny", "--kv-events-config", "5557")
    assert "model with an encoder" in refusal(str(MODELS / "t5-gated"), *SMALL, "--kv-events-config", config)
