#!/usr/bin/env python3
"""Drives a real server with clients of every bad habit, and says whether anything was lost: right answers, blocks,
requests, memory. Prints a table of what was done; exit status 1 if anything was wrong.

usage: serve_chaos.py [--duration S] [--connections N] [--seed N] [--model MODEL] [--set SECTION.KEY=VALUE]..."""
import argparse
import asyncio
import json
import pathlib
import random
import sys
import tempfile
import time
from collections import Counter

from serving import SMALL, Server, head, message

PATH = "/v1/completions"
PROMPTS = [[1 + i, 2, 3 + i] * (1 + 4 * i) for i in range(8)]
BROKEN = [b"", b"{", b"\xff\xfe", b"[" * 5000, b'{"prompt": NaN}', b'{"prompt": [1], "n": -1}', b'{"prompt": [1], "stop": 5}',
          b'{"prompt": [99999999]}', b'{"prompt": [1], "max_tokens": 1000000}', b'{"model": "none", "prompt": [1]}']


class Wrong(Exception):
    """The server did what it must not."""


class Client:
    def __init__(self, server, draw, expected):
        self.server, self.draw, self.expected = server, draw, expected

    async def open(self):
        return await asyncio.open_connection(*self.server.address, limit=1 << 20)

    async def answer(self, reader):
        status = int((await reader.readline()).split()[1])
        length, chunked = 0, False
        while (line := (await reader.readline()).strip().lower()):
            length = int(line[15:]) if line.startswith(b"content-length:") else length
            chunked |= line == b"transfer-encoding: chunked"
        if not chunked:
            return status, await reader.readexactly(length)
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        return status, body

    async def ask(self, data, reader=None, writer=None):
        reader, writer = (reader, writer) if writer else await self.open()
        try:
            writer.write(data)
            return await asyncio.wait_for(self.answer(reader), 120)
        finally:
            writer.close()

    def request(self, **fields):
        place = self.draw.randrange(len(PROMPTS))
        return place, {"prompt": PROMPTS[place], "max_tokens": 32, "temperature": 0, "return_token_ids": True, **fields}

    def long(self, stream=True):
        return message(PATH, {"prompt": self.draw.choice(PROMPTS), "max_tokens": 800, "n": self.draw.randrange(1, 4),
                              "logprobs": self.draw.randrange(0, 6), "ignore_eos": True, "stream": stream, "temperature": 1})

    # Each returns how it ended, for the table.

    async def whole(self):
        place, body = self.request()
        status, answer = await self.ask(message(PATH, body))
        if status in (429, 503):
            return "refused"
        if status != 200 or json.loads(answer)["choices"][0]["token_ids"] != self.expected[place]:
            raise Wrong(f"{status}: {answer[:300]!r}")
        return "right"

    async def stream(self):
        place, body = self.request(stream=True)
        status, answer = await self.ask(message(PATH, body))
        if status in (429, 503):
            return "refused"
        events = [event.removeprefix(b"data: ") for event in answer.split(b"\n\n") if event]
        tokens = sum((json.loads(event)["choices"][0]["token_ids"] for event in events[:-1]), [])
        if status != 200 or events[-1] != b"[DONE]" or tokens != self.expected[place]:
            raise Wrong(f"{status}: {answer[-300:]!r}")
        return "right"

    async def broken_body(self):
        status, answer = await self.ask(message(PATH, self.draw.choice(BROKEN)))
        if status not in (400, 404) or "message" not in json.loads(answer)["error"]:
            raise Wrong(f"{status}: {answer[:300]!r}")
        return f"{status}"

    async def not_http(self):
        status, answer = await self.ask(self.draw.randbytes(40) + b"\r\n\r\n")
        if status != 400:
            raise Wrong(f"{status}: {answer[:300]!r}")
        return "400"

    async def large_head(self):
        status, answer = await self.ask(head(PATH, 2, X="y" * 100_000))
        if status != 431:
            raise Wrong(f"{status}: {answer[:300]!r}")
        return "431"

    async def leaves_early(self):
        """In the middle of the answer, of the body, or of the head."""
        reader, writer = await self.open()
        data = self.long(self.draw.random() < 0.7)
        cut = self.draw.choice([len(data), len(data), len(data), self.draw.randrange(len(data))])
        writer.write(data[:cut])
        await asyncio.sleep(self.draw.random() * 0.3)
        if self.draw.random() < 0.3:
            writer.transport.abort()
        elif self.draw.random() < 0.3 and writer.can_write_eof():
            writer.write_eof()
            await asyncio.sleep(0.2)
        writer.close()
        return "left"

    async def reads_slowly(self):
        reader, writer = await self.open()
        writer.write(self.long())
        for _ in range(self.draw.randrange(5, 40)):
            if not await reader.read(self.draw.randrange(1, 2000)):
                break
            await asyncio.sleep(0.02)
        writer.close()
        return "left"

    async def never_reads(self):
        reader, writer = await self.open()
        writer.transport.pause_reading()
        writer.write(self.long())
        await asyncio.sleep(self.draw.random() * 2)
        writer.close()
        return "left"

    async def slow_body(self):
        reader, writer = await self.open()
        try:
            _, body = self.request()
            for byte in message(PATH, body)[:-1]:
                writer.write(bytes([byte]))
                if self.draw.random() < 0.05:
                    await asyncio.sleep(0.02)
            if self.draw.random() < 0.7:
                return "left"
            status, answer = await asyncio.wait_for(self.answer(reader), 120)
            if status != 408:
                raise Wrong(f"{status}: {answer[:300]!r}")
            return "408"
        finally:
            writer.close()

    HABITS = [whole, whole, stream, stream, stream, broken_body, not_http, large_head, leaves_early, leaves_early, leaves_early,
              reads_slowly, never_reads, slow_body]


async def _habits(client, until, counts, wrong):
    while time.monotonic() < until:
        habit = client.draw.choice(Client.HABITS)
        try:
            counts[habit.__name__, await habit(client)] += 1
        except Wrong as error:
            wrong.append(f"{habit.__name__}: {error}")
        except (OSError, asyncio.IncompleteReadError, IndexError, ValueError) as error:
            counts[habit.__name__, f"broken connection ({type(error).__name__})"] += 1


async def run(server, duration, connections, seed, report=lambda line: None):
    """What was done and how it ended, what was wrong, and memory in MiB before it, and after each tenth of the time."""
    expected = [server.complete(prompt=prompt, max_tokens=32, return_token_ids=True)["choices"][0]["token_ids"]
                for prompt in PROMPTS]
    counts, wrong, begin = Counter(), [], time.monotonic()
    tasks = [asyncio.ensure_future(_habits(Client(server, random.Random(f"{seed} {i}"), expected), begin + duration, counts, wrong))
             for i in range(connections)]
    memory = [server.resident_mib()]
    while pending := [task for task in tasks if not task.done()]:
        await asyncio.wait(pending, timeout=max(0.1, duration / 10))
        memory.append(server.resident_mib())
        report(f"{time.monotonic() - begin:7.0f} s  {counts.total():8d} requests  {len(wrong)} wrong  {memory[-1]:.0f} MiB")
    for task in tasks:
        task.result()
    return counts, wrong, memory


def finish(server):
    """What is left when all clients are gone: nothing may be."""
    left = []
    try:
        server.wait_until(server.is_idle, 30)
    except AssertionError:
        left.append("requests or blocks are left: " + " ".join(
            line for line in server.client.get("/metrics").text.splitlines() if line.startswith(("vllm:num", "quire_kv"))))
    server.client.close()
    if (status := server.end()) != 0:
        left.append(f"exit status {status}")
    if "Traceback" in server.text():
        left.append("a traceback in the log")
    return left


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=3600)
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    settings = [word for each in args.set for word in ("--set", each)]
    log = pathlib.Path(tempfile.mkdtemp(prefix="serve_chaos.")) / "log"
    server = Server(args.model, *SMALL, *settings, "--body-timeout", "5", "--stall-timeout", "5", "--log-level", "warning",
                    log=log)
    try:
        counts, wrong, memory = asyncio.run(run(server, args.duration, args.connections, args.seed, print))
        left = finish(server)
    finally:
        server.close()
    for (habit, end), count in sorted(counts.items()):
        print(f"{habit:14} {end:40} {count:9d}")
    print(f"{counts.total()} requests; memory {memory[0]:.1f} MiB before them, {memory[1]:.1f} MiB after a tenth of the time, "
          f"{memory[-1]:.1f} MiB at the end; log {log}")
    for line in (wrong[:20] + left) or ["nothing was wrong; the engine's check passed"]:
        print(line)
    return 1 if wrong or left else 0


if __name__ == "__main__":
    sys.exit(main())
