"""Streams of OpenAI completions, how they ended, tables of that, and what scripts that test with them share."""
import asyncio
import collections
import contextlib
import json
import os
import random
import signal
import socket
import sys
import time

import httpx

PREFIXES = ["Notes on the history of " + subject + ". " + "They begin long before anybody wrote them down, "
            "with stories that were told in the evening and changed a little every time. " * 6
            for subject in ("bridges", "clocks", "lighthouses", "printing", "glass")]


class Answer:
    """What a client saw of one request."""

    def __init__(self):
        self.status, self.text, self.events, self.finish, self.error, self.usage = None, "", 0, None, None, {}
        self.is_done = False  # [DONE] came

    @property
    def end(self):
        if self.status != 200:
            return f"refused: {self.status}"
        if self.error is not None:
            return "error event" if self.is_done else "error event, no [DONE]"
        return "complete" if self.is_done and self.finish else "broken off without a word"


async def stream(client, model, prompt, answer=None, **body):
    answer, body = answer or Answer(), {"model": model, "prompt": prompt, "stream": True, "temperature": 0, **body}
    if body["stream"]:
        body["stream_options"] = {"include_usage": True}
    try:
        async with client.stream("POST", "/v1/completions", json=body) as response:
            answer.status = response.status_code
            if response.status_code != 200:
                answer.error = (await response.aread()).decode("utf-8", "replace")
                return answer
            if not body["stream"]:
                whole = json.loads(await response.aread())
                answer.text, answer.finish = whole["choices"][0]["text"], whole["choices"][0]["finish_reason"]
                answer.usage, answer.is_done = whole["usage"], True
                return answer
            async for line in response.aiter_lines():
                _take(answer, line)
    except httpx.HTTPError as error:
        answer.status = answer.status or f"no answer ({type(error).__name__})"
    return answer


def _take(answer, line):
    kind, _, data = line.partition(":")
    if kind == "event" and data.strip() == "error":
        answer.error = "event: error"
    if kind != "data":
        return
    if data.strip() == "[DONE]":
        answer.is_done = True
        return
    event = json.loads(data)
    if "error" in event:
        answer.error = event["error"]
        return
    answer.usage = event.get("usage") or answer.usage
    for choice in event.get("choices") or ():
        answer.text += choice.get("text") or ""
        answer.events += 1
        answer.finish = choice.get("finish_reason") or answer.finish


def cached(answer):
    return ((answer.usage or {}).get("prompt_tokens_details") or {}).get("cached_tokens") or 0


async def loaded(client, model, count, max_tokens, then=None, **body):
    """`count` requests at once. In the middle, when each stream has had 8 events, or of whole answers after 1 s, `then()` is
    called, and its result comes too."""
    answers = [Answer() for _ in range(count)]
    tasks = [asyncio.ensure_future(stream(client, model, f"{PREFIXES[i % len(PREFIXES)]} Part {i}:", answer, ignore_eos=True,
                                          max_tokens=max_tokens, **body)) for i, answer in enumerate(answers)]
    result = None
    if then is not None:
        while body.get("stream", True) and any(answer.events < 8 for answer in answers):
            if any(answer.is_done or answer.error for answer in answers):
                raise SystemExit(f"the load is over too early: {ends(answers)}")
            await asyncio.sleep(0.01)
        if not body.get("stream", True):
            await asyncio.sleep(1)
        result = await then()
    await asyncio.gather(*tasks)
    return answers, result


def ends(answers):
    counts = collections.Counter(answer.end for answer in answers)
    return ", ".join(f"{count} {end}" for end, count in sorted(counts.items()))


def table(head, rows):
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths)) + " |", flush=True)
    print(flush=True)


def free_port():
    """Below those that connections get, and below 32768, which Dynamo takes for the end of ports."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            port = random.randrange(10000, 32000)
            probe.bind(("127.0.0.1", port))
            return port


async def until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {seconds} s")
        await asyncio.sleep(0.2)


def kill(pid):
    os.kill(pid, signal.SIGKILL)


# ---- a script of tests ----

def verdict(held):
    """Prints which tests held, by their names; the script's exit status."""
    print("\n".join(f"{name}: {'held' if value else 'did NOT hold'}" for name, value in held.items()))
    return 0 if all(held.values()) else 1


def run_script(main, usage):
    """Ends with main(MODEL), the script's only argument."""
    if len(sys.argv) != 2:
        sys.exit(usage)
    sys.exit(asyncio.run(main(sys.argv[1])))
