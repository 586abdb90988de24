"""A small server with OpenAI's interface for tests: /v1/models and streamed /v1/completions, and all that can go wrong."""
import http.server
import json
import socket
import threading
import time

OPENAI = {"model", "prompt", "max_tokens", "stream", "stream_options", "temperature", "top_p", "seed", "n", "user", "logprobs",
          "logit_bias", "presence_penalty", "frequency_penalty", "stop"}


class Server:
    """with Server(option=...) as server: server.url; server.bodies are the requests so far, those of the probe too.

    models: what it lists. key: the one it takes. text_only, openai_only: refuses token ids, vLLM's members. per_chunk: tokens
    in a chunk. usage, ids: tells them. cached: prompt tokens it says were cached. gap, ttft: seconds. vocabulary: refuses ids from this on. stop_after: ends each
    answer early. models_page: the reply of /v1/models in place of a list; completions_page: that of /v1/completions. endless: answers have
    this status, and go on until the client leaves. fault: a function of the number of the request
    (0, 1, ... without the probe's) and its body that names what goes wrong with it, or None."""

    def __init__(self, models=("mock",), key=None, text_only=False, openai_only=False, per_chunk=1, usage=True, ids=True,
                 continuous=True, cached=None, gap=0.002, ttft=0.004, stop_after=None, models_page=None, completions_page=None, fault=None, entry=None, vocabulary=None, endless=None):
        vars(self).update(locals())
        self.bodies, self.connections, self.closed, self.lock = [], set(), 0, threading.Lock()
        self.count = self.running = self.most = 0

    def __enter__(self):
        http.server.ThreadingHTTPServer.request_queue_size = 128
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"mock": self}))
        self.http.daemon_threads, self.http.handle_error = True, lambda *_: None  # clients go away in tests
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, server_version, sys_version, disable_nagle_algorithm = "HTTP/1.1", "mock/1", "", True

    def log_message(self, *_):
        pass

    def reply(self, status, text, kind="application/json"):
        data = (text if isinstance(text, str) else json.dumps(text)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message):
        self.reply(status, {"error": {"message": message, "type": "x", "code": status}})

    def is_allowed(self):
        with self.mock.lock:
            self.mock.connections.add(self.client_address)
        if self.mock.key in (None, self.headers.get("Authorization", "").removeprefix("Bearer ")):
            return True
        self.refuse(401, "Invalid API key")
        return False

    def do_GET(self):
        mock = self.mock
        if not self.is_allowed():
            return
        if self.path != "/v1/models":
            self.reply(404, "<html>no such page</html>", "text/html")
        elif mock.models_page is not None:
            self.reply(*mock.models_page)
        else:
            self.reply(200, {"object": "list", "data": [{"id": m, "object": "model", **(mock.entry or {})} for m in mock.models]})

    def do_POST(self):
        mock = self.mock
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.is_allowed():
            return
        is_probe = body["max_tokens"] == 2 and (body["prompt"][:3] == [1, 2, 3] or body["prompt"].count(" ") == 3)
        with mock.lock:
            mock.bodies.append(body)
            number = mock.count
            mock.count += not is_probe
            mock.running += 1
            mock.most = max(mock.most, mock.running)
        try:
            self.complete(body, mock.fault(number, body) if mock.fault and not is_probe else None)
        except (BrokenPipeError, ConnectionResetError):
            mock.closed += 1
            self.close_connection = True
        finally:
            with mock.lock:
                mock.running -= 1

    def complete(self, body, fault):
        mock, ids = self.mock, not isinstance(body["prompt"], str)
        if mock.completions_page is not None:
            return self.reply(*mock.completions_page)
        if body["model"] not in mock.models:
            return self.refuse(404, f"The model {body['model']} does not exist")
        if ids and mock.text_only:
            return self.refuse(400, "prompt: a string is expected")
        if mock.openai_only and (set(body) - OPENAI or "continuous_usage_stats" in body["stream_options"]):
            return self.refuse(400, f"Unrecognized request argument: {min(set(body) - OPENAI, default='')}")
        if ids and mock.vocabulary and max(body["prompt"]) >= mock.vocabulary:
            return self.refuse(400, f"an id is not below {mock.vocabulary}")
        if mock.endless:
            self.send_response(mock.endless)
            self.end_headers()
            while True:
                self.wfile.write(b"x" * 1024)
                time.sleep(0.01)
        if fault == "429":
            return self.refuse(429, "too many requests")
        if fault and fault.startswith("400"):
            return self.refuse(400, "this prompt is too long" + fault[3:])
        if fault == "500":
            return self.reply(500, "Internal Server Error", "text/plain")
        if fault == "json":
            return self.reply(200, {"choices": []})
        if fault == "drop":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        time.sleep(mock.ttft)
        self.stream(body, fault, len(body["prompt"]) if ids else body["prompt"].count(" ") + 1)

    def write(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def event(self, value):
        self.write(f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n")

    def stream(self, body, fault, prompt_tokens):
        mock = self.mock
        total = min(body["max_tokens"], mock.stop_after or body["max_tokens"])
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 0}
        if mock.cached is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": mock.cached}
        for at in range(0, total, mock.per_chunk):
            count = min(mock.per_chunk, total - at)
            usage["completion_tokens"] = at + count
            reason = None if at + count < total else "length" if total == body["max_tokens"] else "stop"
            choice = {"index": 0, "text": " w" * count, "finish_reason": reason}
            if mock.ids and body.get("return_token_ids"):
                choice["token_ids"] = [7] * count
            chunk = {"object": "text_completion", "choices": [choice]}
            if mock.continuous and mock.usage and body["stream_options"].get("continuous_usage_stats"):
                chunk["usage"] = usage
            self.event(chunk)
            if fault and at == 0:
                if fault == "break":
                    self.close_connection = True
                    return self.connection.shutdown(socket.SHUT_RDWR)
                if fault == "end":  # a whole reply, but half an answer
                    self.close_connection = True
                    return self.wfile.write(b"0\r\n\r\n")
                if fault == "garbage":
                    self.event("{half of a")
                if fault == "told":
                    self.event({"error": {"message": "the engine died"}})
                if fault == "told long":
                    self.event({"error": {"message": "x" + "\u20ac" * 100}})
                if fault == "hang":
                    time.sleep(3)
                if fault == "comments":  # as some servers keep a connection open
                    for _ in range(60):
                        self.write(": ping\n\n")
                        time.sleep(0.05)
            time.sleep(mock.gap)
        if mock.usage and body["stream_options"].get("include_usage"):
            self.event({"object": "text_completion", "choices": [], "usage": usage})
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")
