#!/usr/bin/env python3
"""Two workers of quire behind NVIDIA Dynamo's frontend on this machine, without etcd and NATS: the router's prefix hits, a
worker that is killed under load, one that is told to end. Prints tables; the exit status is 0 if what must hold held.

usage: dynamo_replicas.py MODEL.gguf    (in an environment with quire[serve], ai-dynamo and httpx: docs/SERVING.md)"""
import asyncio
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import httpx
from load import PREFIXES, cached, ends, free_port, kill, loaded, run_script, stream, table, until, verdict

TOKENS, STREAMS = 200, 8


class Cluster:
    """A frontend and workers. `async with`."""

    def __init__(self, model, folder, *frontend, workers=2):
        self.model, self.folder, self.frontend, self.count = model, pathlib.Path(folder), frontend, workers
        self.folder.mkdir()
        (self.folder / "kv").mkdir()
        self.port, self.processes = free_port(), []
        loopback = dict.fromkeys(("DYN_HTTP_HOST", "DYN_TCP_RPC_HOST", "DYN_TCP_RESPONSE_STREAM_HOST",
                                  "DYN_EVENT_PLANE_HOST"), "127.0.0.1")
        self.environment = {**os.environ, **loopback, "DYN_DISCOVERY_BACKEND": "file", "DYN_FILE_KV": str(self.folder / "kv"),
                            "DYN_REQUEST_PLANE": "tcp", "DYN_EVENT_PLANE": "zmq", "HF_HUB_OFFLINE": "1"}

    def start(self, name, *command, **environment):
        with open(self.folder / f"{name}.log", "w") as log:
            process = subprocess.Popen([sys.executable, "-m", *command], stdout=log, stderr=log, cwd=self.folder,
                                       env={**self.environment, **environment})
        self.processes.append(process)
        return process

    async def __aenter__(self):
        self.start("frontend", "dynamo.frontend", "--http-port", str(self.port), *self.frontend)
        self.ports = [free_port() for _ in range(self.count)]
        self.workers = [self.start(f"worker{i}", "quire.dynamo", "--model", self.model, "--served-model-name", "m",
                                   "--set", f"topology.cpus={i % os.cpu_count()}", "--set", "kv_cache.num_kv_blocks=512",
                                   DYN_SYSTEM_PORT=str(port), DYN_SYSTEM_HOST="127.0.0.1")
                        for i, port in enumerate(self.ports)]
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=300)
        try:
            await until(self._is_up, 120, f"{self.folder}: the workers are not served")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _is_up(self):
        for process in self.processes:
            if process.poll() is not None:
                raise SystemExit(f"{process.args}: ended with {process.returncode}, see {self.folder}")
        try:
            models = (await self.client.get("/v1/models")).json()["data"]
        except httpx.HTTPError:
            return False
        ready = sum("Serving m on" in (self.folder / f"worker{i}.log").read_text() for i in range(self.count))
        return bool(models) and ready == self.count

    async def __aexit__(self, *_):
        await self.client.aclose()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def ask(self, prompt, **body):
        return stream(self.client, "m", prompt, **body)

    async def metric(self, name, **labels):
        """Its sum over the workers."""
        total = 0.0
        for port in self.ports:
            for line in (await self.client.get(f"http://127.0.0.1:{port}/metrics")).text.splitlines():
                if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
                    total += float(line.rpartition(" ")[2])
        return total


async def hits(model, folder):
    rows = []
    for mode in ("round-robin", "kv"):
        async with Cluster(model, f"{folder}/hits-{mode}", "--router-mode", mode) as cluster:
            await asyncio.sleep(2)
            count = tokens = 0
            for turn in range(4):
                for prefix in PREFIXES:
                    answer = await cluster.ask(f"{prefix} Part {turn}:", max_tokens=4)
                    assert answer.end == "complete", answer.error
                    count, tokens = count + (cached(answer) > 0), tokens + cached(answer)
                    await asyncio.sleep(0.1)
            rows.append([mode, f"{count} of 20", tokens])
    table(["router", "requests with a cached prefix", "cached tokens"], rows)
    return [row[1] for row in rows] == ["10 of 20", "15 of 20"]


async def kills(model, folder):
    rows, holds, expected = [], True, None
    for limit in (0, 3):
        async with Cluster(model, f"{folder}/kill-{limit}", "--router-mode", "round-robin", "--migration-limit",
                           str(limit)) as cluster:
            if expected is None:
                expected = [a.text for a in (await loaded(cluster.client, "m", STREAMS, TOKENS))[0]]

            async def then():
                kill(cluster.workers[0].pid)
                begin = time.monotonic()
                late = [await cluster.ask(f"{PREFIXES[i % 5]} Late {i}:", max_tokens=4) for i in range(10)]
                return late, time.monotonic() - begin
            answers, (late, _) = await loaded(cluster.client, "m", STREAMS, TOKENS, then)
            same = sum(a.text == text for a, text in zip(answers, expected) if a.end == "complete")
            rows.append([limit, ends(answers), same, ends(late)])
            holds &= ends(answers) == f"{STREAMS} complete" and same == STREAMS if limit else \
                all(a.end in ("complete", "error event", "error event, no [DONE]") for a in answers)
    table(["migration limit", f"{STREAMS} streams, one of two workers killed", "complete and as without the kill",
           "10 requests after it"], rows)
    return holds


async def clients(model, folder):
    """What is wrong with a request is said, and a client that goes away frees its blocks."""
    rows = []
    async with Cluster(model, f"{folder}/clients", "--router-mode", "kv") as cluster:
        for what, body in (("a prompt of 9000 tokens", {"prompt": [5] * 9000}), ("n = 2", {"n": 2, "temperature": 1}),
                           ("max_tokens = 100000", {"max_tokens": 100000}),
                           ("a grammar that is none", {"guided_regex": "[a"})):
            answer = await cluster.ask(**{"prompt": "The capital of France is", "max_tokens": 4, **body})
            rows.append([what, answer.end, str(answer.error)[:110]])
        table(["request", "end", "error"], rows)

        async def leave(i):
            async with cluster.client.stream("POST", "/v1/completions", json={
                    "model": "m", "prompt": PREFIXES[i % 5], "max_tokens": 4000, "ignore_eos": True, "stream": True}) as answer:
                async for _ in answer.aiter_lines():
                    return
        await asyncio.gather(*map(leave, range(STREAMS)))
        begin = time.monotonic()

        async def is_idle():
            return await cluster.metric("vllm:num_requests_running") + await cluster.metric("vllm:num_requests_waiting") == 0
        await until(is_idle, 20, "the requests of clients that left still run")
        aborted = await cluster.metric("vllm:request_success_total", finished_reason="abort")
        table([f"{STREAMS} clients that left: requests aborted", "idle after"],
              [[int(aborted), f"{time.monotonic() - begin:.1f} s"]])
        return all(row[1] in ("refused: 400", "error event") for row in rows) and aborted == STREAMS


async def drains(model, folder):
    async with Cluster(model, f"{folder}/drain", "--router-mode", "round-robin") as cluster:
        worker = cluster.workers[0]

        async def then():
            worker.send_signal(signal.SIGTERM)
            begin = time.monotonic()
            late = [await cluster.ask(f"{PREFIXES[i % 5]} Late {i}:", max_tokens=4) for i in range(10)]
            await asyncio.to_thread(worker.wait, 120)
            return late, time.monotonic() - begin
        answers, (late, took) = await loaded(cluster.client, "m", STREAMS, 3 * TOKENS, then)
        table([f"{STREAMS} streams, SIGTERM to one of two workers", "10 requests after it", "worker's exit status", "after"],
              [[ends(answers), ends(late), worker.returncode, f"{took:.1f} s"]])
        return ends(answers) == f"{STREAMS} complete" and ends(late) == "10 complete" and worker.returncode == 0


async def main(model):
    with tempfile.TemporaryDirectory(prefix="quire-dynamo-replicas-") as folder:
        try:
            held = {test.__name__: await test(os.path.abspath(model), folder) for test in (hits, kills, clients, drains)}
        finally:
            if "KEEP" in os.environ:  # the logs
                shutil.copytree(folder, os.environ["KEEP"])
    return verdict(held)


if __name__ == "__main__":
    run_script(main, __doc__)
