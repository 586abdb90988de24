"""What the prefix cache has, published as vLLM does it: llm-d, Dynamo and vLLM's router then send a request where most of its
prompt is cached. Messages over ZeroMQ of three frames: topic, number (8 bytes, big-endian, from 0), and msgpack of
[time, [event, ...], rank]. docs/SERVING.md."""
from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
import zmq

from ._core import Owner
from .request import CacheEvent, EngineClosed, QuireError

log = logging.getLogger("quire")
PERIOD_S = 0.02
BATCH = 256  # events of the engine in a message, at most
FRAME_BYTES = 4096  # of what a subscriber may send
REQUESTS = 100  # of subscribers, taken in a period
END = (-1).to_bytes(8, "big", signed=True)
MEDIUM = "GPU"  # the fastest that there is; vLLM on a CPU says so, too

Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]


class KvEventsConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """vLLM's --kv-events-config."""

    enable_kv_cache_events: bool = False
    publisher: Literal["zmq", "null"] | None = None
    endpoint: str = "tcp://127.0.0.1:5557"  # vLLM's default is open to every host
    replay_endpoint: str | None = None
    buffer_steps: Count = 10_000  # messages that are kept for replay
    hwm: Count = 100_000  # messages that wait for a slow subscriber, before it loses some
    max_queue_size: Count = 100_000  # of no use here: the engine keeps differences, and no queue
    topic: str = ""


def read_config(text: str | None) -> KvEventsConfig | None:
    """None: nothing is to be published. Raises QuireError."""
    if text is None:
        return None
    try:
        config = msgspec.json.decode(text, type=KvEventsConfig)
    except msgspec.DecodeError as error:
        raise QuireError("ERR_INVALID", f"--kv-events-config: {error}") from None
    return config if config.enable_kv_cache_events and config.publisher != "null" else None


def schema(events: Iterable[CacheEvent], block_size: int) -> list[list[Any]]:
    """vLLM's BlockStored, BlockRemoved and AllBlocksCleared, as arrays; a chain of blocks is one BlockStored."""
    result: list[list[Any]] = []
    end = None  # of the chain in the last of them
    for event in events:
        if event.kind == "stored":
            if end is not None and event.parent_hash == end:
                result[-1][1].append(event.block_hash)
                result[-1][3].extend(event.token_ids)
            else:  # ..., no LoRA, medium
                result.append(["BlockStored", [event.block_hash], event.parent_hash, list(event.token_ids), block_size,
                               None, MEDIUM])
            end = event.block_hash
            continue
        end = None
        if event.kind == "cleared":
            result.append(["AllBlocksCleared"])
        elif result and result[-1][0] == "BlockRemoved":
            result[-1][1].append(event.block_hash)
        else:
            result.append(["BlockRemoved", [event.block_hash], MEDIUM])
    return result


def is_bound(endpoint: str) -> bool:
    """By vLLM's rule ("*", IPv6, ipc, inproc), and on this host's own addresses: subscribers connect. To others it
    connects itself."""
    host = endpoint.partition("://")[2]
    return ("*" in endpoint or "::" in endpoint or endpoint.startswith(("ipc://", "inproc://"))
            or host.startswith(("127.", "localhost:", "0.0.0.0:")))


class KvEventPublisher:
    """Publishes the prefix cache of an engine with cache_events=True, in a thread, until close(). A subscriber that joins
    makes it tell everything anew, behind AllBlocksCleared. Raises QuireError."""

    def __init__(self, engine: Owner, config: KvEventsConfig):
        if engine.model_info.encoder_layers > 0:
            raise QuireError("ERR_UNSUPPORTED", "KV events: of a model with an encoder, tokens do not say what a block has")
        self._engine, self._topic = engine, config.topic.encode()
        self._block_size = engine.stats()["block_size"]
        self._number = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=config.buffer_steps if config.replay_endpoint else 0)
        self._stopping = threading.Event()
        with contextlib.ExitStack() as opened:
            self._publish = opened.enter_context(_open(zmq.XPUB, config.endpoint, config.hwm))
            self._publish.setsockopt(zmq.XPUB_VERBOSE, 1)  # tells of each that joins
            self._replay = None
            if config.replay_endpoint is not None:
                self._replay = opened.enter_context(_open(zmq.ROUTER, config.replay_endpoint, config.hwm))
            self._sockets = opened.pop_all()
        self._thread = threading.Thread(target=self._run, daemon=True, name="quire kv events")
        self._thread.start()

    def close(self) -> None:
        """Before the engine's."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with self._sockets:
            try:
                while not self._stopping.wait(PERIOD_S):
                    if self._somebody_joined():
                        self._engine.restart_cache_events()
                    self._publish_all()
                    self._answer_replays()
            except EngineClosed:
                pass
            except Exception:
                log.exception("KV events are not published any more")

    def _somebody_joined(self) -> bool:
        joined = False
        for _ in range(REQUESTS):
            if not self._publish.poll(0):
                break
            message = self._publish.recv()
            joined |= message[:1] == b"\1" and self._topic.startswith(message[1:])
        return joined

    def _publish_all(self) -> None:
        while not self._stopping.is_set():
            events = self._engine.cache_events(BATCH)
            if events:
                payload = msgspec.msgpack.encode([time.time(), schema(events, self._block_size), 0])
                self._publish.send_multipart([self._topic, self._number.to_bytes(8, "big"), payload])
                self._kept.append((self._number, payload))
                self._number += 1
            if len(events) < BATCH:
                break

    def _answer_replays(self) -> None:
        """A request has the number from which on messages are wanted; the answer ends with -1. Never blocks: what a
        client does not take is dropped."""
        for _ in range(REQUESTS):
            if self._replay is None or not self._replay.poll(0):
                break
            client, *request = self._replay.recv_multipart()
            if len(request) != 2 or len(request[1]) != 8:
                log.warning("KV events: a replay request is not an empty frame and 8 bytes; ignored")
                continue
            first = int.from_bytes(request[1], "big")
            for number, payload in self._kept:
                if number >= first:
                    self._replay.send_multipart([client, b"", number.to_bytes(8, "big"), payload])
            self._replay.send_multipart([client, b"", END, b""])


def _open(kind: int, endpoint: str, hwm: int) -> zmq.Socket[bytes]:
    port = endpoint.rpartition(":")[2]
    if endpoint.startswith("tcp://") and not (port in ("*", "0") or port.isdecimal() and int(port) < 1 << 16):
        raise QuireError("ERR_INVALID", f"KV events: {endpoint}: expected tcp://HOST:PORT")
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    try:
        socket.setsockopt(zmq.LINGER, 500)
        socket.setsockopt(zmq.MAXMSGSIZE, FRAME_BYTES)
        socket.set_hwm(hwm)
        if kind == zmq.ROUTER or is_bound(endpoint):
            socket.bind(endpoint)
        else:
            socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise QuireError("ERR_IO", f"KV events: {endpoint}: {error.strerror}") from None
    return socket
