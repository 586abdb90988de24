"""Calls of tools: told to the model by its template, found in what it wrote, and demanded."""
import json

import pytest

pytest.importorskip("starlette")
pytest.importorskip("tokenizers")
from serving import SMALL, Server  # noqa: E402
from tokenizer_files import TEMPLATE, byte_level, save  # noqa: E402

from quire.serve.protocol import ChatRequest  # noqa: E402
from quire.serve.tools import Tools, format_of  # noqa: E402

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"$ref": "#/$defs/days"}},
    "required": ["city", "days"], "additionalProperties": False, "$defs": {"days": {"enum": [1, 2]}}}}}
TIME = {"type": "function", "function": {"name": "time"}}
HERMES = TEMPLATE + "{% if tools %}Answer with <tool_call>{...}</tool_call>{% endif %}"
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
LLAMA = '{"name": "weather", "parameters": {"city": "Rome"}}'
CHAT = "/v1/chat/completions"


def read(form, text, size=None, tools=(WEATHER, TIME), **fields):
    """The text and calls that a reader finds in `text`, which comes in pieces."""
    reader = Tools(ChatRequest(messages=[], tools=list(tools), **fields), form).reader()
    size = size or max(1, len(text))
    said = "".join(reader.push(text[i:i + size]) for i in range(0, len(text), size)) + reader.finish()
    return said, [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in reader.calls]


ROME = ("weather", {"city": "Rome"})


@pytest.mark.parametrize("size", [1, 3, 7, None])
@pytest.mark.parametrize("text, said, calls", [
    (CALL, "", [ROME]), (f"Let me see.\n{CALL}", "Let me see.", [ROME]), (f"{CALL}\n{CALL}\n", "", [ROME, ROME]),
    (CALL.removesuffix("</tool_call>"), "", [ROME]), ("a < b <tool", "a < b <tool", []), ("one two  three \n", "one two  three \n", []),
    (f"{CALL} and then  some", "and then  some", [ROME]),
    ("<tool_call>{</tool_call>", "<tool_call>{</tool_call>", []),
    ('<tool_call>{"name": "unknown", "arguments": {}}</tool_call>', '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>', []),
    ("<tool_call>half of", "<tool_call>half of", []), ("", "", [])])
def test_calls_between_tags(size, text, said, calls):
    assert read("hermes", text, size) == (said, calls)


@pytest.mark.parametrize("size", [1, 5, None])
@pytest.mark.parametrize("text, said, calls", [
    (LLAMA, "", [ROME]), (f" {LLAMA}; {LLAMA}", "", [ROME, ROME]), (f"<|python_tag|>{LLAMA}", "", [ROME]),
    ("It is warm.", "It is warm.", []), ('{"answer": 4}', '{"answer": 4}', []), (f"{LLAMA} or so", f"{LLAMA} or so", []),
    ("{", "{", []), ('{"name": "time", "parameters": {}}', "", [("time", {})])])
def test_answers_that_are_calls(size, text, said, calls):
    assert read("llama3_json", text, size) == (said, calls)


def test_one_call_at_most_where_that_is_wanted():
    assert read("hermes", CALL + CALL, parallel_tool_calls=False) == ("", [ROME])


def test_the_format_is_the_templates():
    assert format_of(HERMES) == "hermes" and format_of(TEMPLATE) == format_of(None) == "none"
    assert format_of('{"name": function name, "parameters": dictionary}') == "llama3_json"
    assert format_of("<tool_call>\n<function=name>") == "none"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("llguidance")
    folder = save(byte_level(), tmp_path_factory.mktemp("tokenizer"), chat_template=HERMES, bos_token="<|endoftext|>",
                  eos_token="<|im_end|>")
    server = Server("tiny", *SMALL, "--set", "model.shape.vocab_size=512", "--tokenizer", str(folder),
                    log=tmp_path_factory.mktemp("log") / "log")
    yield server
    assert server.is_idle() and server.end() == 0, server.text()
    server.close()


SAYS_CALL = {"tools": [WEATHER, TIME], "guided_choice": ["Well. " + CALL], "max_tokens": 200}


def check(calls, function):
    [call] = calls
    assert call["type"] == "function" and call["id"].startswith("call_") and call["function"]["name"] == function
    return json.loads(call["function"]["arguments"])


def test_a_call_is_found_in_the_answer(server):
    [choice] = server.chat(**SAYS_CALL)["choices"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] == "Well."
    assert check(choice["message"]["tool_calls"], "weather") == {"city": "Rome"}
    [choice] = server.chat(**{**SAYS_CALL, "tool_choice": "none"})["choices"]
    assert choice["finish_reason"] == "stop" and choice["message"] == {"role": "assistant", "content": "Well. " + CALL}


def test_a_call_in_a_stream(server):
    body = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0, **SAYS_CALL}
    choices = [event["choices"][0] for event in server.events(CHAT, body)]
    assert "".join(choice["delta"]["content"] for choice in choices) == "Well."
    calls = sum((choice["delta"].get("tool_calls", []) for choice in choices), [])
    assert [call["index"] for call in calls] == [0] and check(calls, "weather") == {"city": "Rome"}
    assert choices[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_demanded(server, stream):
    named = {"type": "function", "function": {"name": "weather"}}
    body = {"messages": [{"role": "user", "content": "Hi"}], "tools": [WEATHER, TIME], "max_tokens": 250, "temperature": 1, "seed": 3}
    for choice, single in ((named, True), ("required", True)):
        more = {"tool_choice": choice, "parallel_tool_calls": False}
        if stream:
            events = server.events(CHAT, {**body, **more})
            calls = sum((event["choices"][0]["delta"].get("tool_calls", []) for event in events), [])
            reason, content = events[-1]["choices"][0]["finish_reason"], "".join(e["choices"][0]["delta"]["content"] for e in events)
        else:
            [found] = server.chat(**{**body, **more})["choices"]
            calls, reason, content = found["message"].get("tool_calls", []), found["finish_reason"], found["message"]["content"] or ""
        if reason == "length":  # a model of random weights need not end
            assert choice == "required" and not calls and content.startswith("{")
            continue
        assert (reason, content) == ("tool_calls", "")
        arguments = check(calls, calls[0]["function"]["name"])
        if choice is named:
            assert set(arguments) == {"city", "days"} and arguments["city"] in ("Paris", "Rome") and arguments["days"] in (1, 2)


@pytest.mark.parametrize("fields, param, words", [
    ({"tools": [{"type": "function"}]}, "tools", "tools[0]"), ({"tools": [WEATHER, {"type": "retrieval"}]}, "tools", "tools[1]"),
    ({"tools": [{"type": "function", "function": {"name": "two words"}}]}, "tools", "tools[0].function.name"),
    ({"tools": [WEATHER, WEATHER]}, "tools", "tools[1].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools", "tools[0].function.parameters"),
    ({"tool_choice": "required"}, "tool_choice", "no tools"), ({"tools": [TIME], "tool_choice": "always"}, "tool_choice", "required"),
    ({"tools": [TIME], "tool_choice": {"type": "function", "function": {"name": "weather"}}}, "tool_choice", "weather"),
    ({"tools": [TIME], "tool_choice": "required", "guided_regex": "a"}, "tool_choice", "exclude"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "21 is not in 0..20")])
def test_tools_that_are_wrong(server, fields, param, words):
    answer = server.post(CHAT, {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2, **fields})
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == param and words in error["message"], error
