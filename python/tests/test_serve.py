"""The server over HTTP: what OpenAI's interface and vLLM's fields give."""
import asyncio
import json
import math
import re
import socket

import pytest

pytest.importorskip("starlette")
pytest.importorskip("tokenizers")
import quire  # noqa: E402
from conftest import MODELS  # noqa: E402
from serving import SMALL, Server  # noqa: E402
from tokenizer_files import TEMPLATE, byte_level, save  # noqa: E402

KEYS = {"kv_cache.num_kv_blocks": 64, "topology.threads": 1, "model.shape.vocab_size": 512}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(byte_level(), tmp_path_factory.mktemp("tokenizer"), chat_template=TEMPLATE, bos_token="<|endoftext|>",
                eos_token="<|im_end|>")


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    server = Server("tiny", *SMALL, "--set", "model.shape.vocab_size=512", "--tokenizer", str(folder),
                    log=tmp_path_factory.mktemp("log") / "log")
    yield server
    assert server.is_idle() and server.end() == 0, server.text()
    server.close()


@pytest.fixture(scope="module")
def text(folder):
    from quire.text import load_text
    return load_text(folder)


@pytest.fixture(scope="module")
def llm(text):
    with quire.LLM("tiny", tokenizer=text, options=KEYS) as llm:
        yield llm


PROMPT = "The capital of France is"


def test_models_and_health(server):
    [model] = server.client.get("/v1/models").json()["data"]
    assert model["id"] == "tiny" and model["batch_invariant"] is True and model["max_model_len"] > 0
    assert model["vocab_size"] == 512
    assert server.client.get("/v1/models/tiny").json() == model
    assert server.client.get("/health").status_code == 200


def test_a_port_that_another_took_since_is_not_announced():
    from quire.serve.command import _listener
    from quire.serve.http import HttpLimits, make_server
    first, announced = _listener("127.0.0.1", 0), []
    late = _listener("127.0.0.1", first.getsockname()[1])  # Linux lets two have it until one listens
    first.listen()
    with first, late, pytest.raises(OSError):
        asyncio.run(make_server(None, None, lambda: announced.append(1), HttpLimits()).serve([late]))
    assert not announced


def test_a_completion_is_what_the_engine_generates(server, llm):
    [expected] = llm.generate(PROMPT, quire.SamplingParams(max_tokens=8, temperature=0))
    answer = server.complete(model="tiny", prompt=PROMPT, return_token_ids=True, request_id="seven")
    [choice] = answer["choices"]
    assert choice["token_ids"] == expected.outputs[0].token_ids and choice["text"] == expected.outputs[0].text
    assert choice["finish_reason"] == "length" and answer["object"] == "text_completion"
    assert answer["id"] == "cmpl-seven"
    assert choice["prompt_token_ids"] == expected.prompt_token_ids
    count = len(expected.prompt_token_ids)
    assert answer["usage"] == {"prompt_tokens": count, "completion_tokens": 8, "total_tokens": count + 8,
                               "prompt_tokens_details": {"cached_tokens": answer["usage"]["prompt_tokens_details"]["cached_tokens"]}}


def test_prompts_as_ids_and_in_lists(server, text):
    ids = text.encode(PROMPT)
    one = server.complete(prompt=PROMPT)["choices"][0]["text"]
    assert server.complete(prompt=ids)["choices"][0]["text"] == one
    for prompts in ([PROMPT, "Other"], [ids, text.encode("Other")]):
        choices = server.complete(prompt=prompts, n=1)["choices"]
        assert [choice["index"] for choice in choices] == [0, 1] and choices[0]["text"] == one


def test_several_sequences_and_seeds(server):
    def texts(**body):
        return [choice["text"] for choice in server.complete(prompt=PROMPT, temperature=1.0, n=3, **body)["choices"]]
    first = texts(seed=7)
    assert first == texts(seed=7) and len(set(first)) == 3
    assert first != texts(seed=8) and texts() != texts()


def test_beam_search(server, llm):
    params = quire.SamplingParams(n=3, beam_width=3, temperature=0, max_tokens=6, length_penalty=0.5)
    expected = [output.text for output in llm.generate(PROMPT, params)[0].outputs]
    choices = server.complete(prompt=PROMPT, n=3, use_beam_search=True, max_tokens=6, length_penalty=0.5)["choices"]
    assert [choice["text"] for choice in choices] == expected and len(set(expected)) == 3


def test_the_temperature_is_1_unless_said(server):
    body = {"prompt": PROMPT, "max_tokens": 16, "seed": 3}
    texts = [server.post("/v1/completions", {**body, **more}).json()["choices"][0]["text"]
             for more in ({}, {"temperature": 1}, {"temperature": 0})]
    assert texts[0] == texts[1] != texts[2]


def test_a_stream_is_the_whole_in_parts(server):
    body = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0, "logprobs": 2, "return_token_ids": True}
    whole = server.complete(**body)
    events = server.events("/v1/completions", {**body, "stream_options": {"include_usage": True}})
    assert events.pop()["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] == 24
    assert all(event["usage"] is None for event in events)
    choices, expected = [event["choices"][0] for event in events], whole["choices"][0]
    assert "".join(choice["text"] for choice in choices) == expected["text"]
    assert sum((choice["token_ids"] for choice in choices), []) == expected["token_ids"]
    for part in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert sum((choice["logprobs"][part] for choice in choices), []) == expected["logprobs"][part]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["length"]
    assert len({event["id"] for event in events}) == 1


def test_streams_of_several_prompts(server):
    body = {"prompt": [PROMPT, "Other", "Third"], "n": 2, "max_tokens": 6, "temperature": 1, "seed": 1}
    whole = {choice["index"]: choice["text"] for choice in server.complete(**body)["choices"]}
    parts = dict.fromkeys(range(6), "")
    for event in server.events("/v1/completions", body):
        for choice in event["choices"]:
            parts[choice["index"]] += choice["text"]
    assert parts == whole and len(whole) == 6


def test_log_probabilities_of_prompt_and_answer(server, llm, text):
    ids = text.encode(PROMPT)
    [expected] = llm.generate(ids, quire.SamplingParams(max_tokens=4, temperature=0, logprobs=2, prompt_logprobs=2))
    logprobs = server.complete(prompt=ids, max_tokens=4, echo=True, logprobs=2)["choices"][0]["logprobs"]
    known = [entry[token].logprob for token, entry in zip(ids[1:], expected.prompt_logprobs[1:])]
    known += [entry[token].logprob for token, entry in zip(expected.outputs[0].token_ids, expected.outputs[0].logprobs)]
    assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
    assert logprobs["token_logprobs"][1:] == pytest.approx(known, abs=1e-6)
    assert all(2 <= len(top) <= 3 for top in logprobs["top_logprobs"][1:])
    assert logprobs["tokens"][:len(ids)] == [text.token_text(i) for i in ids]


def test_echo(server, text):
    [choice] = server.complete(prompt=PROMPT, echo=True, logprobs=0)["choices"]
    assert choice["text"].startswith(PROMPT) and len(choice["text"]) > len(PROMPT)
    offsets, tokens = choice["logprobs"]["text_offset"], choice["logprobs"]["tokens"]
    for offset, token in zip(offsets, tokens):
        if not token.startswith(("bytes:", "token_id:")):
            assert choice["text"][offset:].startswith(token)
    alone = server.complete(prompt=PROMPT, echo=True, logprobs=1, max_tokens=0)
    assert alone["choices"][0]["text"] == PROMPT and alone["usage"]["completion_tokens"] == 0
    assert len(alone["choices"][0]["logprobs"]["tokens"]) == len(text.encode(PROMPT))
    assert server.complete(prompt=text.encode(PROMPT), echo=True, max_tokens=0)["choices"][0]["text"] == PROMPT


def test_prompt_log_probabilities_as_vllm_has_them(server, text):
    ids = text.encode(PROMPT)
    entries = server.complete(prompt=ids, prompt_logprobs=1)["choices"][0]["prompt_logprobs"]
    assert entries[0] is None and len(entries) == len(ids)
    for token, entry in zip(ids[1:], entries[1:]):
        assert math.isfinite(entry[str(token)]["logprob"]) and entry[str(token)]["decoded_token"] == text.token_text(token)


def test_stop_strings_end_the_text(server):
    body = {"prompt": PROMPT, "max_tokens": 40, "temperature": 0}
    whole = server.complete(**body)["choices"][0]["text"]
    stop = whole[len(whole) // 2:][:3]
    before = whole[:whole.index(stop)]
    [choice] = server.complete(**body, stop=[stop, "never there"])["choices"]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == (before, "stop", stop)
    events = server.events("/v1/completions", {**body, "stop": stop})
    assert "".join(event["choices"][0]["text"] for event in events) == before
    [kept] = server.complete(**body, stop=stop, include_stop_str_in_output=True)["choices"]
    assert kept["text"] == before + stop


def test_stop_ids_bias_and_lists(server):
    body = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0, "return_token_ids": True}
    first, second = server.complete(**body)["choices"][0]["token_ids"][:2]
    [choice] = server.complete(**body, stop_token_ids=[second])["choices"]
    assert choice["finish_reason"] == "stop" and choice["stop_reason"] == second and choice["token_ids"] == [first, second]
    assert server.complete(**body, allowed_token_ids=[77])["choices"][0]["token_ids"] == [77] * 8
    assert server.complete(**body, logit_bias={"78": 100})["choices"][0]["token_ids"] == [78] * 8
    assert server.complete(**body, truncate_prompt_tokens=3)["usage"]["prompt_tokens"] == 3
    assert server.complete(**body, truncate_prompt_tokens=-1)["usage"] == server.complete(**body)["usage"]
    longest = server.client.get("/v1/models").json()["data"][0]["max_model_len"]
    long = {"prompt": [1 + i % 500 for i in range(3 * longest)], "truncate_prompt_tokens": -1}
    assert server.complete(**long, max_tokens=9)["usage"]["prompt_tokens"] == longest - 9


def test_chat(server, text):
    prompt = text.apply_chat_template([{"role": "user", "content": "Hi"}])
    expected = server.complete(prompt=prompt, add_special_tokens=False, skip_special_tokens=True)["choices"][0]["text"]
    answer = server.chat()
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected} and answer["object"] == "chat.completion"
    parts = server.chat(messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])
    assert parts["choices"][0]["message"]["content"] == expected
    assert server.chat(max_tokens=None, max_completion_tokens=3)["usage"]["completion_tokens"] == 3


def test_a_chat_without_max_tokens_fills_what_fits(server):
    answer = server.chat(max_tokens=None, ignore_eos=True)
    limit = server.client.get("/v1/models").json()["data"][0]["max_model_len"]
    assert answer["usage"]["total_tokens"] == limit and answer["choices"][0]["finish_reason"] == "length"


def test_chat_streams(server):
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 12, "temperature": 0, "logprobs": True,
            "top_logprobs": 2}
    whole = server.chat(**body)["choices"][0]
    first, *events = server.events("/v1/chat/completions", {**body, "stream_options": {"include_usage": True}})
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert events.pop()["usage"]["completion_tokens"] == 12
    choices = [event["choices"][0] for event in events]
    assert "".join(choice["delta"]["content"] for choice in choices) == whole["message"]["content"]
    assert sum((choice["logprobs"]["content"] for choice in choices), []) == whole["logprobs"]["content"]
    for entry in whole["logprobs"]["content"]:
        assert len(entry["top_logprobs"]) == 2 and entry["top_logprobs"][0]["logprob"] == entry["logprob"]  # greedy


def test_chat_continues_and_takes_tools(server, text):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well,"}]
    prompt = text.apply_chat_template(messages, add_generation_prompt=False).removesuffix("<|im_end|>\n")
    expected = server.complete(prompt=prompt, add_special_tokens=False)["choices"][0]["text"]
    assert server.chat(messages=messages, continue_final_message=True)["choices"][0]["message"]["content"] == expected
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert server.chat(tools=[tool], tool_choice="auto")["choices"][0]["finish_reason"] == "length"


def test_tokenize_and_detokenize(server, text):
    answer = server.post("/tokenize", {"prompt": "naïve 🎉", "return_token_strs": True}).json()
    assert answer["tokens"] == text.encode("naïve 🎉") and answer["count"] == len(answer["tokens"])
    assert len(answer["token_strs"]) == answer["count"]
    assert server.post("/detokenize", {"tokens": answer["tokens"]}).json() == {"prompt": "naïve 🎉"}
    chat = server.post("/tokenize", {"messages": [{"role": "user", "content": "Hi"}]}).json()["tokens"]
    assert chat == text.encode(text.apply_chat_template([{"role": "user", "content": "Hi"}]), False)


def test_structured_output(server):
    pytest.importorskip("llguidance")
    def content(**body):
        return server.chat(max_tokens=150, temperature=1, seed=5, **body)["choices"][0]["message"]["content"]
    assert content(structured_outputs={"choice": ["yes", "no, never"]}) in ("yes", "no, never")
    assert content(guided_choice=["one"]) == "one"
    assert content(guided_choice=[f"choice {i}" for i in range(3000)]).startswith("choice ")
    assert re.fullmatch("[ab]{3,5}-[0-9]+", content(guided_regex="[ab]{3,5}-[0-9]{1,4}"))
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "y"]}}, "required": ["a", "b"],
              "additionalProperties": False}
    for body in ({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}},
                 {"structured_outputs": {"json": schema, "disable_any_whitespace": True}}):
        said = content(**body)
        answer = json.loads(said)
        assert "structured_outputs" not in body or not re.search(r"\s", said)
        assert set(answer) == {"a", "b"} and isinstance(answer["a"], bool) and answer["b"] in ("x", "y")
    [one, two] = server.complete(prompt=["a", "b"], guided_regex="x{4}", max_tokens=20)["choices"]
    assert one["text"] == two["text"] == "xxxx" and one["finish_reason"] == "stop"


@pytest.mark.parametrize("regex", ["(ab|cd|x)*y{30}", "(ab){18}cx{9}", "[abcd ]{40}"])
def test_structured_output_with_drafts(llm, text, regex):
    """Guesses that the grammar does not have are rejected, and the answer is the same as without guesses."""
    pytest.importorskip("llguidance")
    from quire.serve.protocol import CompletionRequest
    from quire.serve.structured import Grammars

    def answer(engine):
        grammar = asyncio.run(Grammars(text, engine.model_info).grammar(CompletionRequest(prompt="", guided_regex=regex)))
        params = quire.SamplingParams(max_tokens=60, temperature=0, mask=grammar.mask())
        [output] = engine.generate("ab ab cd ab ab ab cdcd abab xx ababab", params)[0].outputs
        assert output.error is None and re.fullmatch(regex, output.text) or output.finish_reason == "length"
        return output
    with quire.LLM("tiny", tokenizer=text, options={**KEYS, "scheduler.num_speculative_tokens": 4,
                                                    "scheduler.speculative_adaptive": False}) as drafting:
        guessed = answer(drafting)
    assert guessed.token_ids == answer(llm).token_ids
    assert guessed.metrics.drafts > guessed.metrics.drafts_accepted > 0


def test_salts_keep_caches_apart(server):
    def cached(salt):
        usage = server.complete(prompt=list(range(1, 200)), cache_salt=salt)["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"]
    long = "a salt that is longer than the engine's "
    assert [cached(long + "1") > 0, cached(long + "1") > 0, cached(long + "2") > 0, cached("x") > 0] == [False, True, False, False]


def test_metrics_count(server):
    names = ("vllm:generation_tokens_total", "vllm:request_success_total", "vllm:time_to_first_token_seconds_count",
             "vllm:request_prompt_tokens_sum")
    before = [server.metric(name) for name in names]
    server.complete(prompt=[1, 2, 3], max_tokens=5)
    assert [server.metric(name) - old for name, old in zip(names, before)] == [5, 1, 1, 3]
    count = server.metric("vllm:inter_token_latency_seconds_count")
    server.complete(prompt=[1, 2, 3], max_tokens=1)
    assert server.metric("vllm:inter_token_latency_seconds_count") == count  # a first token comes after none


def test_the_openai_client(server):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    assert client.models.list().data[0].id == "tiny"
    whole = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hi"}], max_tokens=8, seed=1,
                                           temperature=0)
    stream = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hi"}], max_tokens=8, seed=1,
                                            temperature=0, stream=True)
    parts = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(parts) == whole.choices[0].message.content and whole.usage.completion_tokens == 8
    assert client.completions.create(model="tiny", prompt=[1, 2], max_tokens=3).usage.completion_tokens == 3
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="other", prompt="x")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="tiny", prompt="x", temperature=-1)
    assert caught.value.param == "temperature"


def test_an_encoder_decoder_model(tmp_path):
    """The prompt is the encoder's input."""
    path = MODELS / "t5-gated"
    server = Server(str(path), *SMALL, log=tmp_path / "log")
    try:
        answer = server.complete(prompt=[5, 6, 7, 1], return_token_ids=True, max_tokens=5, ignore_eos=True)
        with quire.LLM(path, num_kv_blocks=64, threads=1) as llm:
            [expected] = llm.generate([5, 6, 7, 1], quire.SamplingParams(max_tokens=5, temperature=0, ignore_eos=True))
        assert answer["choices"][0]["token_ids"] == expected.outputs[0].token_ids
        assert answer["usage"]["prompt_tokens"] == 4
        refused = server.post("/v1/completions", {"prompt": "text"})
        assert refused.status_code == 400 and "no tokenizer" in refused.json()["error"]["message"]
        refused = server.post("/v1/completions", {"prompt": [5, 1], "echo": True, "logprobs": 1})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == "echo"
    finally:
        server.close()


def test_small_pieces_are_sent_at_once():
    """With Nagle's algorithm the first token waits until the client acknowledges the headers: 40 ms."""
    from quire.serve.command import _listener

    async def accept():
        accepted = asyncio.get_running_loop().create_future()
        listener = _listener("127.0.0.1", 0)
        server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), sock=listener)
        _, client = await asyncio.open_connection(*listener.getsockname())
        writer = await accepted
        delays = not writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for end in (client, writer, server):
            end.close()
        return delays

    assert not asyncio.run(accept())
