"""What Ray Serve's door does with replicas that die, and a replica's answers: without Ray's processes. Run by name where
ray[serve] is installed (docs/SERVING.md); tools/serving/ray_replicas.py has real replicas."""
import asyncio
import json

import pytest

pytest.importorskip("ray.serve")
from ray.exceptions import RayActorError  # noqa: E402
from ray.serve.exceptions import BackPressureError  # noqa: E402
from quire.ray import ATTEMPTS, Args, Door, Replica  # noqa: E402

BODY = {"prompt": [5, 6, 7], "max_tokens": 8, "temperature": 0}


class Messages:
    """What a handle of Ray gives: the messages, up to the point where the replica dies."""

    def __init__(self, messages, stop, error):
        self.messages, self.stop, self.error, self.is_cancelled = messages, stop, error, False

    async def __aiter__(self):
        count = 0
        async for message in self.messages:
            if count == self.stop:
                raise self.error
            count += 1
            yield message

    def cancel(self):
        self.is_cancelled = True


class Handle:
    """Replicas of which the first few die after so many messages."""

    def __init__(self, replica, stops, error=None):
        self.replica, self.stops, self.error, self.taken = replica, list(stops), error or RayActorError(), []
        self.answer = self

    def options(self, stream):
        assert stream
        return self

    def remote(self, scope, body):
        stop = self.stops.pop(0) if self.stops else None
        self.taken.append(Messages(self.replica.answer(scope, body), stop, self.error))
        return self.taken[-1]


@pytest.fixture(scope="module")
def replica():
    return Replica(Args(model="tiny", options={"kv_cache.num_kv_blocks": 64, "topology.threads": 1}))


def ask(replica, stops=(), path="/v1/completions", error=None, leave_after=None, **body):
    """Status, text of the answer, and the handle."""
    handle = Handle(replica, stops, error)

    async def whole():
        app, sent = Door(Args(model="tiny"), handle).__serve_build_asgi_app__(), []
        content = json.dumps({**BODY, **body}).encode()
        received, left = [{"type": "http.request", "body": content, "more_body": False}], asyncio.Event()

        async def receive():
            if received:
                return received.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)
            if len(sent) == leave_after:
                left.set()
        await app({"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
                   "http_version": "1.1", "scheme": "http", "root_path": "",
                   "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]},
                  receive, send)
        return sent
    sent = asyncio.run(asyncio.wait_for(whole(), 60))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode(), handle


def text(answer):
    return json.loads(answer)["choices"][0]["text"] if answer.startswith("{") else "".join(
        choice["text"] for line in answer.split("\n\n") if line.startswith("data: {")
        for choice in json.loads(line[6:]).get("choices", ()))


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_without_an_answer_goes_to_another_replica(replica, stream):
    status, whole, _ = ask(replica, stream=stream, return_tokens_as_token_ids=True)
    assert status == 200
    for stops in ([0], [1], [0, 1, 0]):
        status, again, handle = ask(replica, stops, stream=stream, return_tokens_as_token_ids=True)
        assert status == 200 and text(again) == text(whole) and len(handle.taken) == len(stops) + 1
        assert again.count("[DONE]") == stream
        assert all(messages.is_cancelled for messages in handle.taken)


def test_a_stream_that_has_begun_ends_with_an_error_event(replica):
    status, answer, handle = ask(replica, [2], stream=True)
    *events, last, done = [line[6:] for line in answer.strip().split("\n\n")]
    assert status == 200 and len(events) == 1 and done == "[DONE]" and len(handle.taken) == 1
    assert json.loads(last)["error"]["code"] == "replica_lost" and "Send it again" in json.loads(last)["error"]["message"]


def test_no_replica_is_left(replica):
    status, answer, handle = ask(replica, [0] * 10)
    assert status == 503 and json.loads(answer)["error"]["code"] == "replica_lost" and len(handle.taken) == ATTEMPTS


def test_all_replicas_are_full(replica):
    status, answer, _ = ask(replica, [0], error=BackPressureError(1, 1))
    assert status == 429 and json.loads(answer)["error"]["code"] == "queue_full"


def test_errors_are_the_servers(replica):
    status, answer, _ = ask(replica, temperature=-1)
    assert status == 400 and json.loads(answer)["error"]["param"] == "temperature"
    assert ask(replica, path="/nowhere")[0] == 404


def test_a_client_that_leaves_ends_its_request(replica):
    _, _, handle = ask(replica, stream=True, max_tokens=400, ignore_eos=True, leave_after=3)
    assert handle.taken[0].is_cancelled
