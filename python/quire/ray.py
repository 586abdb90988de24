"""A deployment of Ray Serve with OpenAI's interface: `serve run quire.ray:app model=MODEL num_replicas=2`, or
`serve.run(quire.ray.app(Args(model=...)))`. docs/SERVING.md.

Clients talk to a door, which forwards to replicas and knows what was sent already: of a replica that dies, requests
that have no byte of their answer go to another, and streams end with an error event."""
# Annotations are evaluated here: Ray looks at that of app() to know what to make of its arguments.
import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

from pydantic import BaseModel
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from .async_engine import AsyncEngine
from .serve.app import make_app
from .serve.errors import ApiError, draining
from .serve.gate import Gate
from .serve.generation import Service
from .serve.http import HttpLimits
from .serve.metrics import Metrics
from .serve.tenants import Tenants, read_keys
from .text import Text, load_text

log = logging.getLogger("quire.ray")
ATTEMPTS = 4  # at as many replicas a request is tried that nothing was sent of
REPLICA_REQUESTS = 256  # at once; Ray's 5 would leave the batch empty, and the engine's own queue refuses with 429
DOOR_REQUESTS = 4096


class Args(BaseModel, extra="forbid"):  # type: ignore[misc,unused-ignore]
    """What `serve run quire.ray:app NAME=VALUE ...` and a configuration file of Ray Serve may say."""

    model: str  # a folder as Hugging Face publishes it, a GGUF file, or a preset
    served_model_name: str | None = None
    tokenizer: str | None = None
    config: str | None = None  # quire.toml
    options: dict[str, Any] = {}  # keys of it: {"scheduler.max_num_seqs": 32}
    cpus: list[str] = []  # topology.cpus of the first replica on a machine, of the second, ...
    api_keys: str | None = None  # as of quire-serve
    num_replicas: int = 1
    replica: dict[str, Any] = {}  # of Ray, for the replicas: ray_actor_options, max_replicas_per_node, autoscaling_config, ...
    door: dict[str, Any] = {}  # of Ray, for the door
    drain_timeout: float = 60.0  # how long a replica's requests may take when it is to end


def app(args: Args) -> serve.Application:
    options = {"graceful_shutdown_timeout_s": args.drain_timeout}
    of_replicas = {**options, "num_replicas": args.num_replicas, "max_ongoing_requests": REPLICA_REQUESTS, **args.replica}
    if "autoscaling_config" in of_replicas:
        del of_replicas["num_replicas"]
    replicas = serve.deployment(Replica).options(**of_replicas).bind(args)
    of_door = {**options, "name": "Door", "max_ongoing_requests": DOOR_REQUESTS, "ray_actor_options": {"num_cpus": 0},
               **args.door}
    return serve.deployment(serve.ingress()(Door)).options(**of_door).bind(args, replicas)


def _tenants(args: Args) -> Tenants:
    return read_keys(args.api_keys) if args.api_keys else Tenants()


class Replica:
    """A model, and the server's application without its sockets."""

    def __init__(self, args: Args):
        options = dict(args.options)
        if args.cpus:
            options["topology.cpus"] = args.cpus[serve.get_replica_context().rank.local_rank % len(args.cpus)]
        text = load_text(args.tokenizer) if args.tokenizer else None
        self._engine = AsyncEngine(args.model, config=args.config, tokenizer=text, options=options)
        text = self._engine.tokenizer if isinstance(self._engine.tokenizer, Text) else None
        name = args.served_model_name or self._engine.model_info.name
        service = Service(self._engine, text, [name], Metrics(name, self._engine.stats))
        self._app = make_app(service, _tenants(args), HttpLimits())

    async def answer(self, scope: dict[str, Any], body: bytes) -> AsyncGenerator[dict[str, Any], None]:
        """The messages of ASGI that answer a request. Ends it when nobody takes them any more."""
        requests = [{"type": "http.request", "body": body, "more_body": False}]
        messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(1)

        async def receive() -> Any:
            return requests.pop() if requests else await asyncio.Event().wait()

        async def work() -> None:
            await self._app(scope, receive, messages.put)  # raises nothing; when it is cancelled nobody reads
            await messages.put(None)

        task = asyncio.ensure_future(work())
        try:
            while (message := await messages.get()) is not None:
                yield message
        finally:
            task.cancel()

    async def check_health(self) -> None:
        """Ray replaces a replica whose engine does not answer."""
        self._engine.stats()


class Door:
    """Takes requests and forwards them. Has no model and no state, so that it has no reason to die."""

    def __init__(self, args: Args, replicas: Any):
        self._replicas = replicas.options(stream=True)
        self._gate = Gate(self._forward, _tenants(args), HttpLimits(), lambda status: None)

    def __serve_build_asgi_app__(self) -> Any:
        async def door(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await self._gate(scope, receive, send)
        return door

    async def _forward(self, scope: Any, receive: Any, send: Any) -> None:
        head = {key: scope[key] for key in ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "root_path",
                                            "query_string", "headers") if key in scope}
        body, answer = (await receive())["body"], _Answer(send)
        for attempt in range(ATTEMPTS):
            messages = self._replicas.answer.remote(head, body)
            try:
                async for message in messages:
                    await answer.take(message)
                return
            except BackPressureError:
                raise ApiError(429, "All replicas have as many requests as they take.", code="queue_full",
                               headers={"retry-after": "1"}) from None
            except DeploymentUnavailableError:
                raise draining() from None
            except (RayError, ReplicaUnavailableError) as error:
                log.warning("a replica was lost: %s", str(error).partition("\n")[0])
                if answer.has_begun:
                    return await answer.break_off()
            finally:
                messages.cancel()  # of a client that left; nothing if it has ended
        raise ApiError(503, f"{ATTEMPTS} replicas were lost while they worked on this request.", code="replica_lost")


class _Answer:
    """What of an answer has gone to the client. Its head waits for the first part of its body."""

    def __init__(self, send: Any):
        self._send = send
        self._head: dict[str, Any] | None = None
        self.has_begun = False

    async def take(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._head = message
            return
        if self._head is not None:
            head, self._head = self._head, None
            self._is_stream = (b"content-type", b"text/event-stream") in [(name, value.partition(b";")[0])
                                                                           for name, value in head["headers"]]
            self.has_begun = True
            await self._send(head)
        await self._send(message)

    async def break_off(self) -> None:
        lost = ApiError(503, "The replica that worked on this request was lost. Send it again.", code="replica_lost")
        if not self._is_stream:
            raise lost
        end = b"data: " + lost.content() + b"\n\ndata: [DONE]\n\n"
        await self._send({"type": "http.response.body", "body": end, "more_body": False})
