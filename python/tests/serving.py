"""A real server process for tests, and plain sockets to be rude to it."""
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time

import httpx

SMALL = ["--set", "kv_cache.num_kv_blocks=64", "--set", "topology.threads=1"]


class Server:
    """`python -m quire.serve`, on a port that is free."""

    def __init__(self, *arguments, log):
        self.log = log
        with open(log, "w") as file:
            self.process = subprocess.Popen([sys.executable, "-m", "quire.serve", "--port", "0", *arguments], stderr=file,
                                            stdout=file, cwd=log.parent)
        deadline = time.monotonic() + 120
        while not (found := re.search(r"is served at https?://([^ :]+):(\d+)", self.text())):
            assert self.process.poll() is None and time.monotonic() < deadline, self.text()
            time.sleep(0.05)
        self.address = found[1], int(found[2])
        self.url = f"http://{found[1]}:{found[2]}"
        self.client = httpx.Client(base_url=self.url, timeout=60)
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, self.text()
            time.sleep(0.02)

    def text(self):
        return self.log.read_text()

    def _answers(self):
        with contextlib.suppress(httpx.HTTPError):
            return self.client.get("/health").status_code in (200, 401)

    def post(self, path, body, **options):
        return self.client.post(path, json=body, **options)

    def complete(self, **body):
        answer = self.post("/v1/completions", {"max_tokens": 8, "temperature": 0, **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def chat(self, **body):
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "temperature": 0, **body}
        answer = self.post("/v1/chat/completions", body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def events(self, path, body):
        """The bodies of a stream, without the last, [DONE]."""
        with self.client.stream("POST", path, json={**body, "stream": True}) as answer:
            assert answer.status_code == 200, answer.read()
            lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
        assert lines.pop() == "[DONE]"
        return [json.loads(line) for line in lines]

    def metric(self, name, **labels):
        """The sum of a metric's samples with these labels."""
        total = 0.0
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith((name + "{", name + " ")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rpartition(" ")[2])
        return total

    def is_idle(self):
        return not any(map(self.metric, ("vllm:num_requests_running", "vllm:num_requests_waiting", "quire_requests_paused",
                                         "quire_kv_blocks_used")))

    def wait_until(self, condition, seconds=10.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come about: " + self.text()[-2000:]
            time.sleep(0.02)

    def connect(self):
        connection = socket.create_connection(self.address, timeout=60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def end(self, timeout=60):
        """SIGTERM; the exit status. The engine checks itself before the process ends."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def resident_mib(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1]) / 1024

    def close(self):
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def refusal(*arguments):
    """What a command line that is wrong is told."""
    done = subprocess.run([sys.executable, "-m", "quire.serve", "--port", "0", *arguments], capture_output=True, text=True,
                          timeout=60, cwd="/")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def head(path, length, **more):
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {length}",
             *(f"{name}: {value}" for name, value in more.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def message(path, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(path, len(data)) + data


def read_answer(connection):
    """Status and body of an answer, read to the end of the connection or of its length."""
    data = b""
    while True:
        before, found, rest = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", before, re.I)
        if found and length and len(rest) >= int(length[1]):
            break
        more = connection.recv(65536)
        if not more:
            break
        data += more
    before, _, rest = data.partition(b"\r\n\r\n")
    return int(before.split()[1]), json.loads(rest)
