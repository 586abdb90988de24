#!/usr/bin/env python3
"""Two replicas of quire in Ray Serve on this machine: how requests are spread, one replica killed under load, clients that
leave, a deployment that is told to end. Prints tables; the exit status is 0 if what must hold held.

usage: ray_replicas.py MODEL    (in an environment with quire[serve], ray[serve] and httpx: docs/SERVING.md)

Ray listens on all addresses; `unshare -n sh -c 'ip link set lo up; exec python ray_replicas.py MODEL'` keeps it in."""
import asyncio
import os
import time

import httpx
import ray
from load import PREFIXES, ends, free_port, kill, loaded, run_script, stream, table, until, verdict
from ray import serve

from quire.ray import Args, app

TOKENS, STREAMS, NAME = 300, 8, f"quire-{os.getpid()}"


def replicas():
    """Process ids of those that run."""
    found = []
    for entry in os.scandir("/proc"):
        try:
            with open(entry.path + "/cmdline", "rb") as file:
                if file.read().startswith(f"ray::ServeReplica:{NAME}:Replica".encode()):
                    found.append(int(entry.name))
        except (OSError, ValueError):
            pass
    return sorted(found)


class Cluster:
    """Ray, the deployment, and a client. `async with`."""

    def __init__(self, model):
        self.model = model

    def deploy(self, **more):
        serve.run(app(Args(model=self.model, served_model_name="m", num_replicas=2, cpus=["0", str(1 % os.cpu_count())],
                           options={"kv_cache.num_kv_blocks": 512}, replica={"ray_actor_options": {"num_cpus": 0.5}},
                           **more)), name=NAME, route_prefix="/")

    async def __aenter__(self):
        ray.init(num_cpus=4, include_dashboard=False, object_store_memory=100 << 20, _node_ip_address="127.0.0.1",
                 log_to_driver=False, logging_level="ERROR")
        port = free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        begin = time.monotonic()
        await asyncio.to_thread(self.deploy)
        print(f"two replicas, {time.monotonic() - begin:.1f} s after serve.run: {replicas()}\n", flush=True)
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=300)
        return self

    async def __aexit__(self, *_):
        await self.client.aclose()
        await asyncio.to_thread(serve.shutdown)
        ray.shutdown()

    def ask(self, prompt, **body):
        return stream(self.client, "m", prompt, **body)

    def load(self, then=None, **options):
        return loaded(self.client, "m", STREAMS, TOKENS, then, **options)

    async def late(self):
        return [await self.ask(f"{PREFIXES[i % 5]} Late {i}:", max_tokens=4) for i in range(10)]

    async def two_new(self, gone):
        async def there():
            return len(set(replicas()) - gone) == 2 and all(
                [(await self.client.get("/health")).status_code == 200 for _ in range(10)])
        await until(there, 120, "two replicas again")


async def kills(cluster):
    rows, holds = [], True
    expected = [answer.text for answer in (await cluster.load())[0]]
    for what, is_stream in (("streams", True), ("whole answers", False)):
        victim = replicas()[0]

        async def then():
            begin = time.monotonic()
            kill(victim)
            late = await cluster.late()
            await cluster.two_new({victim})
            return late, time.monotonic() - begin
        answers, (late, took) = await cluster.load(then, stream=is_stream)
        same = sum(a.text == text for a, text in zip(answers, expected) if a.end == "complete")
        untouched = sum(a.end == "complete" for a in answers)
        rows.append([f"{STREAMS} {what}", ends(answers), same, ends(late), f"{took:.1f} s"])
        holds &= same == untouched and ends(late) == "10 complete" and (
            all(a.end in ("complete", "error event") for a in answers) and untouched > 0 if is_stream else
            untouched == STREAMS)
    table(["one of two replicas killed", "ends", "as without the kill", "10 requests after it", "two again after"], rows)
    return holds


async def clients(cluster):
    rows = []
    for what, body in (("a prompt of 9000 tokens", {"prompt": [5] * 9000}), ("max_tokens = 100000", {"max_tokens": 100000}),
                       ("temperature = -1", {"temperature": -1})):
        answer = await cluster.ask(**{"prompt": "The capital of France is", "max_tokens": 4, **body})
        rows.append([what, answer.end, str(answer.error)[:110]])
    table(["request", "end", "error"], rows)

    async def leave(i):
        async with cluster.client.stream("POST", "/v1/completions", json={
                "prompt": PREFIXES[i % 5], "max_tokens": 4000, "ignore_eos": True, "stream": True}) as answer:
            async for _ in answer.aiter_lines():
                return
    await asyncio.gather(*map(leave, range(STREAMS)))
    begin = time.monotonic()

    async def are_idle():  # each time one of the replicas answers
        texts = [(await cluster.client.get("/metrics")).text for _ in range(10)]
        return all(line.endswith(" 0.0") for text in texts for line in text.splitlines()
                   if line.startswith(("vllm:num_requests_running{", "vllm:num_requests_waiting{")))
    await until(are_idle, 30, "the requests of clients that left still run")
    table([f"{STREAMS} clients that left: both replicas idle after"], [[f"{time.monotonic() - begin:.1f} s"]])
    return [row[1] for row in rows] == ["refused: 400"] * 3


async def updates(cluster):
    """A new version of the deployment: all replicas end and others come."""
    before = set(replicas())

    async def then():
        begin = time.monotonic()
        await asyncio.to_thread(cluster.deploy, drain_timeout=120.0)
        late = await cluster.late()
        await cluster.two_new(before)
        return late, time.monotonic() - begin
    answers, (late, took) = await cluster.load(then)
    table([f"{STREAMS} streams, a new version deployed", "10 requests after it", "two new replicas after"],
          [[ends(answers), ends(late), f"{took:.1f} s"]])
    return ends(answers) == f"{STREAMS} complete" and ends(late) == "10 complete"


async def main(model):
    async with Cluster(os.path.abspath(model)) as cluster:
        held = {test.__name__: await test(cluster) for test in (kills, clients, updates)}
    return verdict(held)


if __name__ == "__main__":
    run_script(main, __doc__)
