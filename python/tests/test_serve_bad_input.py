"""Bad input gets the right status and OpenAI's error JSON, and disturbs nobody."""
import asyncio
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

pytest.importorskip("starlette")
pytest.importorskip("tokenizers")
from quire.serve.gate import Gate  # noqa: E402
from quire.serve.http import HttpLimits  # noqa: E402
from quire.serve.tenants import Tenants  # noqa: E402
from serving import SMALL, Server, head, message, read_answer, refusal  # noqa: E402
from tokenizer_files import TEMPLATE, byte_level, save  # noqa: E402

COMPLETIONS = "/v1/completions"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(byte_level(), tmp_path_factory.mktemp("tokenizer"), chat_template=TEMPLATE)


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """Another client streams all the time; what it gets must not change."""
    server = Server("tiny", *SMALL, "--set", "model.shape.vocab_size=512", "--tokenizer", str(folder), "--max-body-bytes",
                    "2000000", "--header-timeout", "1", "--body-timeout", "1", "--stall-timeout", "1",
                    log=tmp_path_factory.mktemp("log") / "log")
    body = {"prompt": "other", "max_tokens": 50, "temperature": 0}
    expected, over, seen = server.complete(**body)["choices"][0]["text"], threading.Event(), []

    def other():
        while not over.is_set():
            seen.append("".join(event["choices"][0]["text"] for event in server.events(COMPLETIONS, body)))

    thread = threading.Thread(target=other)
    thread.start()
    yield server
    over.set()
    thread.join()
    assert set(seen) == {expected}
    assert "Traceback" not in server.text(), server.text()
    assert server.is_idle() and server.end() == 0
    server.close()


def check_error(answer, status, param=None, words=()):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["param"] == param
    assert "Traceback" not in answer.text and ".py" not in answer.text
    for word in words:
        assert word in error["message"]
    return error


@pytest.mark.parametrize("body, words", [
    (b"", ["not JSON"]), (b"{", ["not JSON"]), (b"nonsense", ["not JSON"]), (b'{"prompt": "\xff\xfe"}', ["not JSON"]),
    (b'{"prompt": [1], "temperature": NaN}', ["not JSON"]), (b'{"prompt": [1], "temperature": Infinity}', ["not JSON"]),
    (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", []), (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, []),
    (b"[]", ["object"]), (b"null", ["object"]), (b'"text"', ["object"]),
])
def test_bodies_that_are_no_request(server, body, words):
    answer = server.client.post(COMPLETIONS, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert all(word in error["message"] for word in words) and "Traceback" not in answer.text


@pytest.mark.parametrize("fields, param", [
    ({"prompt": None}, "prompt"), ({"prompt": {}}, "prompt"), ({"prompt": []}, "prompt"), ({"prompt": [[]]}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"), ({"prompt": [True]}, "prompt"), ({"prompt": [1.5]}, "prompt"),
    ({"prompt": [-1]}, "prompt"), ({"prompt": [10 ** 6]}, "prompt"), ({"prompt": [2 ** 40]}, "prompt"),
    ({"prompt": [[1]] * 2000}, "prompt"), ({"prompt": "\ud800"}, None),
    ({"n": -1}, "n"), ({"n": 0}, "n"), ({"n": 1.5}, "n"), ({"n": "1"}, "n"), ({"n": 10 ** 30}, "n"), ({"n": 100_000}, "n"),
    ({"max_tokens": -1}, "max_tokens"), ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": 10 ** 400}, None),
    ({"max_tokens": []}, "max_tokens"), ({"max_tokens": True}, "max_tokens"),
    ({"temperature": -0.1}, "temperature"), ({"temperature": 1e300}, "temperature"), ({"temperature": "hot"}, "temperature"),
    ({"top_p": 1.1}, "top_p"), ({"top_p": 0}, "top_p"), ({"top_k": -2}, "top_k"), ({"min_p": 2}, "min_p"),
    ({"repetition_penalty": 0.001}, "repetition_penalty"), ({"presence_penalty": 3}, "presence_penalty"),
    ({"stop": ["x"] * 10_000}, "stop"), ({"stop": [""]}, "stop"), ({"stop": ["x" * 5000]}, "stop"), ({"stop": [1]}, "stop"),
    ({"stop_token_ids": [1] * 1000}, "stop_token_ids"), ({"stop_token_ids": [-5]}, "stop_token_ids"),
    ({"logit_bias": {"x": 1}}, "logit_bias"), ({"logit_bias": {"1": 1000}}, "logit_bias"),
    ({"logit_bias": {str(i): 1 for i in range(500)}}, "logit_bias"), ({"allowed_token_ids": []}, "allowed_token_ids"),
    ({"logprobs": 1000}, "logprobs"), ({"logprobs": -1}, "logprobs"), ({"seed": 2 ** 70}, "seed"), ({"seed": "a"}, "seed"),
    ({"best_of": 5}, "best_of"), ({"suffix": "x"}, "suffix"), ({"priority": 10 ** 6}, "priority"),
    ({"min_tokens": 9, "max_tokens": 3}, "min_tokens"), ({"stream_options": {"x": 1}}, "x"), ({"surprise": 1}, "surprise"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"), ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"), ({"guided_regex": "("}, "guided_regex"),
    ({"guided_json": "{"}, "guided_json"), ({"guided_choice": []}, "guided_choice"),
    ({"guided_json": {"type": "strange"}}, "guided_json"),
    ({"guided_grammar": "start: start"}, "guided_grammar"), ({"guided_json": {"$ref": "#"}}, "guided_json"), ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
    ({"response_format": {"type": "xml"}}, "response_format"), ({"prompt": [[1]] * 1000, "n": 60, "max_tokens": 100}, "max_tokens"),
])
def test_fields_that_are_wrong(server, fields, param):
    body = {"prompt": [1, 2, 3], "max_tokens": 4, **fields}
    answer = server.client.post(COMPLETIONS, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"] or "").split("[")[0] == (param or error["param"] or ""), error
    assert error["message"] and len(error["message"]) < 2000 and "Traceback" not in answer.text


@pytest.mark.parametrize("fields, param", [
    ({"messages": []}, "messages"), ({"messages": [{}]}, "messages"), ({"messages": ["x"]}, "messages"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages"), ({"chat_template": "x"}, "chat_template"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
    ({"top_logprobs": 2}, "top_logprobs"), ({"modalities": ["audio"]}, "modalities"),
    ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
])
def test_chats_that_are_wrong(server, fields, param):
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2, **fields}
    answer = server.post("/v1/chat/completions", body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].split("[")[0] == param


def test_prompts_longer_than_the_model(server):
    for path, body in ((COMPLETIONS, {"prompt": [1] * 5000}),
                       ("/v1/chat/completions", {"messages": [{"role": "user", "content": "word " * 5000}]})):
        error = check_error(server.post(path, {**body, "max_tokens": 1}), 400, "prompt", ["tokens"])
        assert error["code"] == "context_length_exceeded"
    assert check_error(server.post(COMPLETIONS, {"prompt": [10 ** 6]}), 400, "prompt")["code"] is None


def test_template_variables_may_have_any_name(server):
    server.chat(chat_template_kwargs={"self": 1, "source": 2, "variables": 3, "name": 4})


def test_a_grammar_that_grows_too_large(server):
    body = {"prompt": [1], "max_tokens": 4, "guided_grammar": "start: " + " | ".join(f'"choice {i}"' for i in range(3000))}
    check_error(server.post(COMPLETIONS, body), 400, words=["grammar"])
    for large in ({"guided_regex": "a" * 300_000}, {"guided_choice": ["a" * 100] * 5000},
                  {"guided_json": {"enum": [f"value {i}" for i in range(20_000)]}}):
        [field] = large
        check_error(server.post(COMPLETIONS, {"prompt": [1], **large}), 400, field, [field, "characters, at most 65536"])


def chained(rule, first, last):
    """Rules that each name the next, as many as a grammar may have characters."""
    count = 65_400 // len(rule.format(20_000, 20_001))
    return first + "".join(rule.format(10_000 + i, 10_001 + i) for i in range(count)) + last.format(10_000 + count)


def test_long_chains_of_rules_are_read(server):
    """llguidance recurses along them; on a stack of usual size they ended the server."""
    for rule in ("r{}: r{}\n", 'r{}: r{} "x"\n', "r{}: (r{})?\n", "R{}: R{}\n"):
        grammar = chained(rule, f"start: {rule[0]}10000\n", rule[0] + '{}: "a"\n')
        status = server.post(COMPLETIONS, {"prompt": [1], "max_tokens": 1, "guided_grammar": grammar}, timeout=120).status_code
        assert status in (200, 400), status
    for rule in ('"r{}":{{"$ref":"#/$defs/r{}"}},', '"r{}":{{"items":{{"$ref":"#/$defs/r{}"}}}},',
                 '"r{}":{{"anyOf":[{{"$ref":"#/$defs/r{}"}}]}},'):
        schema = chained(rule, '{{"$ref":"#/$defs/r10000","$defs":{{'.format(), '"r{}":{{}}}}}}')
        status = server.post(COMPLETIONS, {"prompt": [1], "max_tokens": 1, "guided_json": schema}, timeout=120).status_code
        assert status in (200, 400), status
    server.complete(prompt=[1], max_tokens=1)


def test_a_message_is_cut(server):
    error = check_error(server.post(COMPLETIONS, {"prompt": [1], "x" * 100_000: 1}), 400)
    assert len(error["message"]) < 1100


def test_duplicate_stops_and_numbers_as_they_come_are_fine(server):
    server.complete(prompt=[1], stop=["x", "x"], temperature=1, top_k=-1, seed=-5, logprobs=None, n=None)


def test_an_unknown_model(server):
    error = check_error(server.post(COMPLETIONS, {"model": "gpt-9", "prompt": [1]}), 404, "model", ["gpt-9"])
    assert error["code"] == "model_not_found"
    assert server.client.get("/v1/models/gpt-9").status_code == 404


def test_paths_and_methods(server):
    check_error(server.client.get("/v2/nothing"), 404)
    assert server.client.get(COMPLETIONS).status_code == 405 and "error" in server.client.get(COMPLETIONS).json()


def test_a_prompt_that_never_fits(server):
    answer = server.post(COMPLETIONS, {"prompt": [1] * 100_000})
    assert answer.status_code == 400 and answer.json()["error"]["param"]


def test_headers_that_are_wrong(server):
    for headers in ({"content-type": "text/plain"}, {}, {"content-type": "application/json", "content-encoding": "gzip"}):
        check_error(server.client.post(COMPLETIONS, content=b"{}", headers=headers), 415)


def test_a_body_that_is_too_large(server):
    check_error(server.post(COMPLETIONS, {"prompt": "x" * 2_100_000}), 413, words=["2000000 bytes"])

    def parts():
        for _ in range(40):
            yield b"x" * 100_000
    answer = server.client.post(COMPLETIONS, content=parts(), headers={"content-type": "application/json"})
    check_error(answer, 413)


def test_after_a_refused_body_the_connection_goes_on(server):
    with server.connect() as connection:
        connection.sendall(head(COMPLETIONS, 2_000_001) + b"x")
        assert read_answer(connection)[0] == 413
        connection.sendall(b"x" * 2_000_000)
        for pause in (0.3, 2.5):
            time.sleep(pause)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_answer(connection) == (200, {"status": "ok"})


def test_a_refused_body_that_does_not_end_is_cut_off(server):
    with server.connect() as connection:
        connection.sendall(head(COMPLETIONS, 2_000_001) + b"x")
        assert read_answer(connection)[0] == 413
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() < started + 10:
                connection.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() < started + 5


@pytest.mark.parametrize("data", [b"GET /health HTTP/1.1\r\nX: " + b"x" * 1_000_000, head(COMPLETIONS, 0, X="x" * 100_000)])
def test_a_head_that_is_too_large(server, data):
    """Endless, or whole in one piece."""
    with server.connect() as connection:
        threading.Thread(target=lambda: _send_quietly(connection, data)).start()
        status, body = read_answer(connection)
    assert status == 431 and "65536 bytes" in body["error"]["message"]


def _send_quietly(connection, data):
    try:
        connection.sendall(data)
    except OSError:
        pass


@pytest.mark.parametrize("data", [b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n",
                                  b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"])
def test_what_is_not_http(server, data):
    with server.connect() as connection:
        connection.sendall(data)
        status, body = read_answer(connection)
    assert status == 400 and body["error"]["type"] == "invalid_request_error"


def test_a_slow_head_and_a_slow_body(server):
    for data, word in ((b"GET /health HT", "head"), (head(COMPLETIONS, 100) + b'{"prompt"', "body")):
        with server.connect() as connection:
            started = time.monotonic()
            connection.sendall(data)
            status, body = read_answer(connection)
            assert status == 408 and word in body["error"]["message"] and 0.8 < time.monotonic() - started < 5


def test_a_connection_without_a_request_is_closed_without_an_answer(server):
    with server.connect() as connection:
        started = time.monotonic()
        assert connection.recv(100) == b"" and 0.8 < time.monotonic() - started < 5


def test_a_head_that_comes_byte_by_byte_has_no_more_time(server):
    with server.connect() as connection:
        started = time.monotonic()
        try:
            while time.monotonic() - started < 5:
                connection.sendall(b"G" if time.monotonic() == started else b"x")
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() - started < 4.5


LONG = {"prompt": [1, 2, 3], "max_tokens": 1900, "ignore_eos": True, "n": 4, "logprobs": 20}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("end", ["close", "reset", "half-close"])
def test_a_client_that_goes_away_ends_its_request(server, stream, end):
    aborted = server.metric("vllm:request_success_total", finished_reason="abort")
    steps = server.metric("vllm:generation_tokens_total")
    connection = server.connect()
    connection.sendall(message(COMPLETIONS, {**LONG, "stream": stream}))
    server.wait_until(lambda: server.metric("vllm:generation_tokens_total") > steps + 100)
    if end == "half-close":
        connection.shutdown(socket.SHUT_WR)
    if end == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    if end != "half-close":
        connection.close()
    server.wait_until(lambda: server.metric("vllm:num_requests_running") <= 1, 3)  # the other client's
    connection.close()
    assert aborted <= server.metric("vllm:request_success_total", finished_reason="abort")


def test_a_client_that_never_reads_is_cut_off(server):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(server.address)
    connection.sendall(message(COMPLETIONS, {**LONG, "n": 8, "logprobs": 20, "stream": True}))
    server.wait_until(lambda: "took nothing for 1 s" in server.text(), 30)
    server.wait_until(lambda: server.metric("vllm:num_requests_running") <= 1)
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := connection.recv(1 << 16):
            data = data[-100:] + more
    assert b"[DONE]" not in data
    connection.close()


def test_a_full_queue_and_blocks_that_are_missing(folder, tmp_path):
    server = Server("tiny", "--set", "kv_cache.num_kv_blocks=8", "--set", "topology.threads=1", "--set",
                    "scheduler.max_num_seqs=1", "--set", "scheduler.max_num_queued_reqs=2", "--set",
                    "model.shape.vocab_size=512", "--tokenizer", str(folder), log=tmp_path / "log")
    try:
        answer = server.post(COMPLETIONS, {"prompt": [1] * 100, "max_tokens": 1500})
        error = check_error(answer, 400, "prompt", ["blocks"])
        assert error["code"] == "context_length_exceeded"
        filled = server.chat(max_tokens=None, ignore_eos=True)  # 8 blocks of 32 tokens; the last token is not stored
        assert filled["usage"]["total_tokens"] == 8 * 32 + 1 and filled["choices"][0]["finish_reason"] == "length"
        with server.connect() as first:
            first.sendall(message(COMPLETIONS, {"prompt": [1], "max_tokens": 200, "n": 1, "stream": True, "ignore_eos": True}))
            first.recv(100)
            answer = server.post(COMPLETIONS, {"prompt": [[1]] * 50, "max_tokens": 200})
            check_error(answer, 429)
            assert answer.headers["retry-after"] == "1"
        server.wait_until(server.is_idle)
        server.complete(prompt=[1, 2])
        assert server.end() == 0
    finally:
        server.close()


def test_keys(tmp_path):
    keys = tmp_path / "keys.toml"
    digest = "sha256:" + hashlib.sha256(b"secret-b").hexdigest()
    keys.write_text(f'[tenants]\nred = ["secret-a", "secret-c"]\nblue = "{digest}"\n')
    server = Server("tiny", *SMALL, "--api-keys", str(keys), log=tmp_path / "log")
    try:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret-a"}, {"authorization": "Bearer"}):
            for path in ("/health", "/metrics", "/v1/models", "/nothing"):
                answer = server.client.get(path, headers=headers)
                assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
            assert server.client.post(COMPLETIONS, content=b"not JSON", headers=headers).status_code == 401
        for key in ("secret-a", "secret-b", "secret-c"):
            headers = {"authorization": f"Bearer {key}"}
            assert server.post(COMPLETIONS, {"prompt": [1]}, headers=headers).status_code == 200
        prompt = {"prompt": list(range(1, 200)), "max_tokens": 1}

        def cached(key):
            usage = server.post(COMPLETIONS, prompt, headers={"authorization": f"Bearer {key}"}).json()["usage"]
            return usage["prompt_tokens_details"]["cached_tokens"]
        assert cached("secret-a") == 0 and cached("secret-c") > 0 and cached("secret-b") == 0  # another tenant's cache
    finally:
        server.close()


@pytest.mark.parametrize("content, words", [("[tenants]", "expected one table"), ("[tenants]\na = 1", "expected a key"),
                                            ('[tenants]\na = "k"\nb = "k"', "same key"), ("[", "keys.toml"),
                                            ('[tenants]\na = "sha256:zz"', "64 hexadecimal")])
def test_key_files_that_are_wrong(tmp_path, content, words):
    (tmp_path / "keys.toml").write_text(content)
    assert words in refusal("tiny", "--api-keys", str(tmp_path / "keys.toml"))


@pytest.mark.parametrize("arguments, words", [(["no-such-preset"], "no-such-preset"), (["tiny", "--port", "99999"], "99999"),
                                              (["tiny", "--set", "x.y=1"], "[x]: unknown section"), (["tiny", "--stall-timeout", "nan"], "--stall-timeout"), (["tiny", "--set", "y"], "SECTION.KEY"),
                                              (["tiny", "--tokenizer", "/nowhere"], "/nowhere"), ([], "model"),
                                              (["tiny", "--served-model-name", b"caf\xe9"], r"--served-model-name: 'caf\udce9' is not UTF-8"),
                                              (["tiny", "--ssl-keyfile", __file__], "--ssl-keyfile: there is no --ssl-certfile"),
                                              (["tiny", "--ssl-certfile", "/no/cert"], "--ssl-certfile: '/no/cert': No such file"),
                                              (["tiny", "--ssl-certfile", __file__, "--ssl-keyfile", "/no/key"], "--ssl-keyfile: '/no/key': No such file"),
                                              (["tiny", "--ssl-certfile", __file__], f"--ssl-certfile '{__file__}': ")])
def test_command_lines_that_are_wrong(arguments, words):
    told = refusal(*arguments)
    assert words in told and len([line for line in told.splitlines() if "error" in line]) == 1


def test_packages_that_are_missing_are_named():
    program = "import sys; sys.modules['starlette'] = None; from quire.serve.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 1 and "starlette" in done.stderr and "[serve]" in done.stderr and "Traceback" not in done.stderr


def test_sigterm_lets_requests_end(tmp_path):
    server = Server("tiny", *SMALL, log=tmp_path / "log")
    try:
        with server.connect() as connection:
            connection.sendall(message(COMPLETIONS, {"prompt": [1], "max_tokens": 1500, "ignore_eos": True, "stream": True}))
            data = connection.recv(1000)
            server.process.terminate()
            server.wait_until(lambda: server.client.get("/health").status_code == 503, 5)
            refused = server.post(COMPLETIONS, {"prompt": [1]})
            assert refused.status_code == 503 and refused.headers["retry-after"]
            while more := connection.recv(65536):
                data += more
        assert b"data: [DONE]" in data and b'"finish_reason":"length"' in data
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.text()
    finally:
        server.close()


def test_after_the_drain_timeout_requests_are_cancelled(tmp_path):
    server = Server("tiny", "--drain-timeout", "0.2", *SMALL, "--set", "kv_cache.num_kv_blocks=640", log=tmp_path / "log")
    try:
        with server.connect() as connection:
            connection.sendall(message(COMPLETIONS, {**LONG, "n": 16, "stream": True}))
            connection.recv(1000)
            assert server.end(20) == 0
        assert "were cancelled" in server.text()
    finally:
        server.close()


def test_the_tool_runs_the_server_that_is_in_the_path(tmp_path):
    if "QUIRE" not in os.environ:
        pytest.skip("QUIRE does not name the command-line tool")

    def run(**environment):
        return subprocess.run([os.environ["QUIRE"], "serve", "a model", "--port", "1"], capture_output=True, text=True,
                              timeout=60, env={"PATH": str(tmp_path), **environment})
    absent = run()
    assert absent.returncode == 2 and "Python package" in absent.stderr
    (tmp_path / "quire-serve").write_text('#!/bin/sh\necho "$0|$1|$2|$3"\n')
    (tmp_path / "quire-serve").chmod(0o755)
    assert run().stdout == f"{tmp_path}/quire-serve|a model|--port|1\n"
    assert run(QUIRE_COMPLETE="").stdout == ""  # completion of the command line starts nothing


def test_what_nobody_foresaw_is_an_error_that_tells_nothing(caplog):
    async def application(scope, receive, send):
        raise RuntimeError("secret of /home/user/model")

    async def ask():
        gate = Gate(application, Tenants(), HttpLimits(), lambda status: None)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://test") as client:
            return await client.get("/health")
    answer = asyncio.run(ask())
    check_error(answer, 500)
    assert "secret" not in answer.text and "secret" in caplog.text
