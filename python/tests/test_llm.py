"""LLM: the tokens are those of the tool and of the golden models; every field arrives; errors name what is wrong."""
import array
import gc
import json
import os
import pickle
import shutil
import threading

import pytest

import quire
from conftest import EXACT, MODELS, SMALL, Slow, is_free
from quire import SamplingParams
from quire._core import _FINISHED as FINISHED
from quire._output import Request

PROMPT = {"prompt", "encoder_input", "encoder_features"}
REQUEST = {"priority", "tenant"}

# Lines of `quire generate`; seed is left out where the number of the line must do.
LINES = [
    {"prompt": [1, 2, 3], "max_tokens": 8},
    {"prompt": [4, 5, 6, 7], "max_tokens": 12, "temperature": 0.9},
    {"prompt": [4, 5, 6, 7], "max_tokens": 12, "temperature": 0.9},
    {"prompt": [4, 5], "max_tokens": 12, "temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.01, "seed": 77},
    {"prompt": [9], "max_tokens": 20, "repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": -0.5},
    {"prompt": [9, 8], "max_tokens": 6, "temperature": 1.0, "n": 3, "seed": 5},
    {"prompt": [9, 8, 7], "max_tokens": 6, "logprobs": 3, "prompt_logprobs": 2},
    {"prompt": [9, 8, 7], "max_tokens": 6, "logprobs": 0, "prompt_logprobs": 0},
    {"prompt": [3, 1], "max_tokens": 9, "logit_bias": {"17": 100, "18": 99.5}},
    {"prompt": [3, 1], "max_tokens": 9, "allowed_token_ids": [3, 4, 5], "banned_token_ids": [4],
     "first_banned_token_ids": [3], "temperature": 1, "seed": 1},
    {"prompt": [3, 1], "max_tokens": 5, "first_allowed_token_ids": [11], "last_allowed_token_ids": [12]},
    {"prompt": [3, 1], "max_tokens": 30, "stop_token_ids": list(range(0, 256, 25)), "temperature": 2, "seed": 3},
    {"prompt": [3, 1], "max_tokens": 30, "min_tokens": 20, "stop_token_ids": list(range(0, 256, 25)), "temperature": 2,
     "seed": 3, "ignore_eos": True},
    {"prompt": [5, 5, 6], "max_tokens": 10, "beam_width": 4, "n": 2, "length_penalty": 0.5, "early_stopping": True},
    {"prompt": [5, 5, 6], "max_tokens": 10, "beam_width": 3, "early_stopping": "never", "length_penalty": -1.0},
    {"prompt": [1] * 40, "max_tokens": 3, "logits": "first,last", "priority": 3, "tenant": "a"},
    {"prompt": [2, 4]},
]


def arguments_of(line):
    """A line as prompt, SamplingParams and request options."""
    prompt = {"prompt_token_ids" if k == "prompt" else k: v for k, v in line.items() if k in PROMPT}
    params = {k: v for k, v in line.items() if k not in PROMPT | REQUEST}
    if "logit_bias" in params:
        params["logit_bias"] = {int(k): v for k, v in params["logit_bias"].items()}
    return prompt, SamplingParams(**params), {k: v for k, v in line.items() if k in REQUEST}


def check_sequence(output, answer, line):
    assert output.token_ids == answer["tokens"]
    assert output.finish_reason == answer["finish_reason"]
    if "logprobs" in line:
        own = [row[token].logprob for row, token in zip(output.logprobs, output.token_ids)]
        assert own == [pytest.approx(value) for value in answer["logprobs"]]
        tops = [[[t, p.logprob] for t, p in row.items() if p.rank is not None] for row in output.logprobs]
        if line["logprobs"] > 0:
            assert tops == [[[t, pytest.approx(p)] for t, p in row] for row in answer["top_logprobs"]]
    if "logits" in line:
        assert output.logits[0].tolist() == pytest.approx(answer["first_logits"])
        assert output.logits[-1].tolist() == pytest.approx(answer["last_logits"])
    if line.get("beam_width", 1) > 1:
        assert output.metrics.score == pytest.approx(answer["score"])


def check_answer(result, answer, line):
    for output, sequence in zip(result.outputs, answer.get("outputs", [answer]), strict=True):
        check_sequence(output, sequence, line)
    metrics = result.outputs[0].metrics
    assert result.finished and len(result.prompt_token_ids) == answer["num_prompt_tokens"] == metrics.prompt_tokens
    if "prompt_logprobs" in line:
        rows, ids = result.prompt_logprobs, result.prompt_token_ids
        assert rows[0] is None and answer["prompt_logprobs"][0] is None and len(rows) == len(ids)
        assert [row[i].logprob for row, i in zip(rows[1:], ids[1:])] == pytest.approx(answer["prompt_logprobs"][1:])


def test_tokens_are_those_of_the_tool(llm, tool):
    """One engine for each, both new: the seed of a request without one is its number."""
    answers = tool(LINES, "--model", "tiny", "--num-kv-blocks", "64")
    with quire.LLM("tiny", max_logits_in_flight=64, **SMALL) as llm:
        for line, answer in zip(LINES, answers):
            prompt, params, options = arguments_of(line)
            [result] = llm.generate(prompt, params, **options)
            check_answer(result, answer, line)


def test_together_or_alone_is_the_same(llm):
    lines = [dict({"seed": i}, **line) for i, line in enumerate(LINES)]
    prompts, params, _ = zip(*map(arguments_of, lines))
    together = llm.generate(list(prompts), list(params))
    for prompt, sampling, result in zip(prompts, params, together):
        [alone] = llm.generate(prompt, sampling)
        assert [o.token_ids for o in alone.outputs] == [o.token_ids for o in result.outputs]


@pytest.mark.parametrize("name", sorted(path.parent.name for path in MODELS.glob("*/expected.json")))
def test_golden_models(name):
    cases = json.loads((MODELS / name / "expected.json").read_text())["cases"]
    with quire.LLM(MODELS / name, max_logits_in_flight=8, **EXACT, **SMALL) as llm:
        for case in cases:
            result = llm.generate(arguments_of({k: v for k, v in case.items() if k in PROMPT})[0], SamplingParams(
                max_tokens=case["max_tokens"], ignore_eos=True, temperature=0, logits="first"))[0].outputs[0]
            assert result.token_ids == case["tokens"]
            spread = max(case["first_logits"]) - min(case["first_logits"])
            assert result.logits[0].tolist() == pytest.approx(case["first_logits"], abs=2e-4 * spread)


def test_features_may_be_any_float32_buffer():
    case = json.loads((MODELS / "whisper/expected.json").read_text())["cases"][0]
    flat = array.array("f", [value for frame in case["encoder_features"] for value in frame])
    params = SamplingParams(max_tokens=case["max_tokens"], ignore_eos=True, temperature=0)
    with quire.LLM(MODELS / "whisper", **EXACT, **SMALL) as llm:
        [result] = llm.generate({"encoder_features": flat, "prompt_token_ids": case["prompt"]}, params)
        assert result.outputs[0].token_ids == case["tokens"]
        for bad in (array.array("d", flat), flat[:-1], case["encoder_features"][:-1] + [[1.0]], 5, [["x"] * 16]):
            with pytest.raises(quire.QuireError, match="encoder_features"):
                llm.generate({"encoder_features": bad, "prompt_token_ids": case["prompt"]}, params)


def test_an_encoder_takes_the_bare_prompt():
    case = json.loads((MODELS / "bart/expected.json").read_text())["cases"][0]
    with quire.LLM(MODELS / "bart", **EXACT, **SMALL) as llm:
        params = SamplingParams(max_tokens=4, ignore_eos=True, temperature=0)
        bare, parts = llm.generate([case["encoder_input"], {"encoder_input": case["encoder_input"]}], params)
        assert bare.outputs[0].token_ids == parts.outputs[0].token_ids
        assert bare.encoder_token_ids == case["encoder_input"] and bare.outputs[0].metrics.encoder_tokens > 0


def test_one_prompt_or_many(llm):
    params = SamplingParams(max_tokens=2)
    assert len(llm.generate([1, 2, 3], params)) == 1
    assert len(llm.generate({"prompt_token_ids": [1, 2, 3]}, params)) == 1
    assert len(llm.generate([[1, 2, 3], {"prompt_token_ids": (4,)}], params)) == 2
    assert llm.generate([], params) == []
    with pytest.raises(ValueError, match="2 prompts, but 1 sampling_params"):
        llm.generate([[1], [2]], [params])


def test_a_request_option_that_there_is_not_is_named(llm):
    with pytest.raises(TypeError, match="tenants: no such request option; there are priority, tenant, timeout"):
        llm.generate([[1]], tenants="a")
    with pytest.raises(TypeError, match="top: .*argument 'top'|unexpected keyword argument 'top'"):
        SamplingParams(top=1)


def test_more_prompts_than_the_queue_holds():
    with quire.LLM("tiny", max_num_queued_reqs=2, max_num_seqs=1, max_num_partial_prefills=1, **SMALL) as llm:
        results = llm.generate([[i + 1, 2] for i in range(9)], SamplingParams(max_tokens=100, ignore_eos=True))
        assert [result.prompt_token_ids[0] for result in results] == list(range(1, 10))
        assert llm.stats()["requests_refused"] > 0


def test_a_default_of_max_tokens_is_what_fits():
    with quire.LLM("tiny", num_kv_blocks=2, max_num_seqs=1) as llm:
        [result] = llm.generate([1] * 50)
        assert result.outputs[0].finish_reason == "length" and 0 < len(result.outputs[0].token_ids) < 128
        with pytest.raises(quire.QuireError) as caught:
            llm.generate([1] * 50, SamplingParams(max_tokens=128))
        assert caught.value.status == "ERR_TOO_LONG"


def test_timeouts_end_with_what_there_is(llm):
    [result] = llm.generate([1, 2], SamplingParams(max_tokens=1500, ignore_eos=True), timeout=0.001)
    assert result.outputs[0].finish_reason == "timeout"


def test_a_request_waits_no_longer_than_it_says():
    with quire.LLM("tiny", max_num_seqs=1, max_num_partial_prefills=1, **SMALL) as llm:
        params = SamplingParams(max_tokens=500, ignore_eos=True, mask=Slow())
        results = llm.generate([[1], [2]], params, queue_timeout=0.5)
        assert [r.outputs[0].finish_reason for r in results] == ["length", "timeout"]
        assert results[1].outputs[0].token_ids == []


def test_who_shares_the_prefix_cache(llm):
    def cached(prompt=None, **options):
        prompt = {"prompt_token_ids": [8] * 100} | (prompt or {})
        return llm.generate(prompt, SamplingParams(max_tokens=1), **options)[0].outputs[0].metrics.cached_tokens
    assert cached() == 0 and cached() == 96
    assert cached(tenant="b") == 0 and cached(tenant="b") == 96
    assert cached({"cache_salt": "s"}) == 0 and cached({"cache_salt": "s"}) == 96
    assert cached(skip_reading_prefix_cache=True) == 0
    assert cached(tenant="c", skip_writing_prefix_cache=True) == 0 and cached(tenant="c") == 0
    llm.flush_cache()
    assert cached() == 0


def test_cache_events_tell_which_prefixes_are_there():
    def apply(events):
        for event in events:
            if event.kind == "stored":
                known[event.block_hash] = (known[event.parent_hash] if event.parent_hash else []) + event.token_ids
            elif event.kind == "removed":
                del known[event.block_hash]
            else:
                known.clear()
    known, prompt = {}, [i % 250 for i in range(100)]
    with quire.LLM("tiny", cache_events=True, block_size=32, **SMALL) as llm:
        llm.generate(prompt, SamplingParams(max_tokens=1))
        apply(llm.cache_events())
        assert sorted(known.values(), key=len) == [prompt[:32], prompt[:64], prompt[:96]]
        assert llm.cache_events() == []
        llm.restart_cache_events()
        again = llm.cache_events()
        assert [event.kind for event in again] == ["cleared"] + ["stored"] * 3
        apply(again)
        for i in range(60):
            llm.generate([i, 7] * 50, SamplingParams(max_tokens=1))
            apply(llm.cache_events())
        assert llm.stats()["blocks_cached"] >= len(known) > 10 and prompt[:32] not in known.values()
        llm.flush_cache()
        llm.generate([1], SamplingParams(max_tokens=1))
        apply(llm.cache_events())
        assert known == {}


def test_cache_events_must_be_asked_for(llm):
    with pytest.raises(quire.QuireError, match="cache_events: is off"):
        llm.cache_events()


GENERATION = {"temperature": 0.7, "do_sample": True, "top_k": 20, "repetition_penalty": 1.2, "max_new_tokens": 17,
              "suppress_tokens": [1, 2, 3], "begin_suppress_tokens": [5]}


def test_what_a_request_leaves_out_is_the_models(tool, tmp_path):
    """generation_config.json, as `quire generate` reads it."""
    model = tmp_path / "model"
    shutil.copytree(MODELS / "qwen3-qknorm", model)
    (model / "generation_config.json").write_text(json.dumps(GENERATION))
    lines = [{"prompt": [7, 8]}, {"prompt": [7, 8], "temperature": 0}, {"prompt": [7], "beam_width": 2, "max_tokens": 9},
             {"prompt": [7, 8], "banned_token_ids": [], "first_banned_token_ids": []}, {"prompt": [7], "min_tokens": 20}]
    answers = tool(lines, "--model", str(model), "--num-kv-blocks", "64")
    with quire.LLM(model, **SMALL) as llm:
        assert llm.model_info.generation["max_tokens"] == 17 and llm.model_info.path == str(model)
        for line, answer in zip(lines, answers):
            prompt, params, _ = arguments_of(line)
            check_answer(llm.generate(prompt, params)[0], answer, line)
    with quire.LLM(model, generation_config="none", **SMALL) as llm:
        assert llm.model_info.generation == {}


@pytest.mark.parametrize("params, message", [
    ({"temperature": 101}, "temperature: 101 is not in 0..100"),
    ({"temperature": -1}, "temperature: -1 is below the minimum 0"),
    ({"temperature": float("nan")}, "temperature: nan"),
    ({"temperature": "hot"}, "temperature: expected a number, found 'hot'"),
    ({"top_p": 1.5}, "top_p: 1.5 is not in 0..1"),
    ({"top_p": 0}, "top_p: 0 is not above 0"),
    ({"top_k": -2}, "top_k: -2 is below the minimum 0"),
    ({"top_k": 1.5}, "top_k: expected an integer, found 1.5"),
    ({"repetition_penalty": 0}, "repetition_penalty: 0 is below the minimum 0.01"),
    ({"n": 0}, "n: 0 is below the minimum 1"),
    ({"n": 1 << 31}, "n: 2147483648 is not in 1..64"),
    ({"n": 1 << 40}, "n: 1099511627776 is above the maximum"),
    ({"max_tokens": 0}, "max_tokens: 0 is below the minimum 1"),
    ({"logprobs": 21}, "logprobs: 21 is not in 0..20"),
    ({"prompt_logprobs": 21}, "prompt_logprobs: 21 is not in 0..20"),
    ({"seed": -1}, "seed: -1 is not an integer in 0..18446744073709551615"),
    ({"stop_token_ids": [5, -5]}, r"stop_token_ids\[1\]: id -5 is not in 0.."),
    ({"stop_token_ids": [1] * 65}, "stop_token_ids: 65 is not in 0..64"),
    ({"banned_token_ids": [1 << 40]}, r"banned_token_ids\[0\]: 1099511627776 is no token id"),
    ({"allowed_token_ids": []}, "allowed_token_ids: empty"),
    ({"logit_bias": {1: 101}}, r"logit_bias\[0\]: 101 is not in -100..100"),
    ({"logit_bias": {"x": 1}}, "logit_bias: expected"),
    ({"temperature": 1, "beam_width": 2}, "temperature: 1; beam search does not sample"),
    ({"early_stopping": "maybe"}, "early_stopping: 'maybe' is not"),
    ({"logits": "some"}, "logits: 'some' is not one of"),
    ({"stop": "x"}, "stop: strings need a tokenizer"),
])
def test_values_out_of_range_are_named(llm, params, message):
    with pytest.raises(quire.QuireError, match=message) as caught:
        llm.generate([[1], [2]], [SamplingParams(max_tokens=2), SamplingParams(**params)])
    assert caught.value.status == "ERR_INVALID" and caught.value.field == next(iter(params))
    assert caught.value.message.startswith("prompts[1]: ")
    assert is_free(llm)


@pytest.mark.parametrize("prompt, message", [
    ([], "prompt: 0 tokens"),
    ({"prompt_token_ids": []}, "prompt: 0 tokens"),
    ([1, 1 << 40], r"prompt\[1\]: 1099511627776 is no token id"),
    ([-1], r"prompt\[0\]: id -1 is not in"),
    (["text"], "prompt: is text, and there is no tokenizer"),
    ({"prompt_ids": [1]}, "unknown part 'prompt_ids'"),
    ({"prompt_token_ids": 5}, "prompt: expected token ids, found int"),
    ({"prompt_token_ids": [1, 1.5]}, r"prompt\[1\]: 1.5 is no token id"),
    ({"prompt_token_ids": [1], "encoder_input": [1]}, "encoder_input: given, but this model has no encoder"),
    ({"prompt_token_ids": [1], "encoder_features": [[1.0]]}, "encoder_features: given, but this model"),
    ({"prompt_token_ids": [1], "cache_salt": "x" * 17}, "cache_salt: longer than 16 bytes"),
    ({"prompt_token_ids": [1], "cache_salt": "a\0b"}, "cache_salt: has a NUL character"),
])
def test_bad_prompts_are_named(llm, prompt, message):
    with pytest.raises(quire.QuireError, match=message):
        llm.generate([prompt] if prompt == [] else prompt, SamplingParams(max_tokens=2))


@pytest.mark.parametrize("options, message", [
    ({"priority": 1001}, "priority: 1001 is not in -1000..1000"),
    ({"priority": "high"}, "priority: 'high'"),
    ({"tenant": "x" * 65}, "tenant: longer than 64 bytes"),
    ({"timeout": 0}, "timeout: 0 is not a number above 0"),
    ({"timeout": float("inf")}, "timeout: inf is not"),
    ({"queue_timeout": 90000}, "queue_timeout: 90000 is not a number above 0 and at most 86400 seconds"),
])
def test_bad_request_options_are_named(llm, options, message):
    with pytest.raises(quire.QuireError, match=message):
        llm.generate([1, 2], SamplingParams(max_tokens=2), **options)


def test_parameters_of_another_type_are_named(llm):
    for params in ({"max_tokens": 1}, [{"max_tokens": 1}]):
        with pytest.raises(quire.QuireError, match="sampling_params: expected SamplingParams, found dict"):
            llm.generate([1, 2], params)


@pytest.mark.parametrize("options, message", [
    ({"max_num_seqs": 0}, r"max_num_seqs: \[scheduler\] max_num_seqs: 0 is below the minimum 1"),
    ({"scheduler_max_num_seqs": 5000}, r"\[scheduler\] max_num_seqs: 5000 is above the maximum 4096"),
    ({"max_num_seqs": "many"}, r"\[scheduler\] max_num_seqs: expected an integer"),
    ({"max_num_seqs": object()}, "max_num_seqs: <object object.* is no value"),
    ({"max_num_seq": 4}, "max_num_seq: unknown option, did you mean max_num_seqs?"),
    ({"options": {"scheduler.max_num_seq": 4}}, "max_num_seq: unknown key, did you mean max_num_seqs?"),
    ({"options": {"kv_cache.block_size": 48}}, r"options: \[kv_cache\] block_size: 48 is not one of 32"),
    ({"dtype": "bfloat16"}, r"\[model\] weight_dtype: "),
    ({"kv_cache_dtype": "int4"}, r"\[kv_cache\] dtype: "),
    ({"block_size": 32, "max_num_batched_tokens": 4, "max_num_seqs": 8}, "max_num_batched_tokens: 4 is below"),
    ({"options": {"tenant": [{"name": "a", "weight": 0}]}}, "weight"),
    ({"config": "/nonexistent.toml"}, "/nonexistent.toml"),
    ({"cpus": "\ud800"}, "is not text"),
    ({"cpus": "0\0"}, "has a NUL character"),
    ({"size": "4 parsecs"}, r"\[kv_cache\] size"),
    ({"threads": 1024}, "1024"),
])
def test_options_have_the_names_and_ranges_of_the_file(options, message):
    with pytest.raises(quire.QuireError, match=message):
        quire.LLM("tiny", **({} if "size" in options else SMALL), **options)


def test_models_that_are_not_there_are_named(tmp_path):
    for model, message in ((tmp_path / "none", "none"), ("tinny", "tinny"), (None, "model: none"), (tmp_path, "config.json")):
        with pytest.raises(quire.QuireError, match=message):
            quire.LLM(model)


def test_options_come_from_file_environment_and_arguments(tmp_path, monkeypatch):
    file = tmp_path / "quire.toml"
    file.write_text('[model]\npreset = "tiny"\n[scheduler]\nmax_num_seqs = 3\nmax_model = 1\n')
    with pytest.raises(quire.QuireError, match="quire.toml:5:1"):
        quire.LLM(config=file)
    file.write_text('[model]\npreset = "tiny"\nmax_model_len = 300\n[scheduler]\nmax_num_seqs = 3\n'
                    '[kv_cache]\nnum_kv_blocks = 32\n[generate]\nmax_tokens = 4\n')
    monkeypatch.setenv("QUIRE__MODEL__MAX_MODEL_LEN", "200")
    with quire.LLM(config=file, block_size=64, options={"scheduler.watermark": 0.0, "tenant": [{"name": "a"}]}) as llm:
        stats = llm.stats()
        assert (stats["max_model_len"], stats["block_size"], stats["blocks"]) == (200, 64, 32)
        with pytest.raises(quire.QuireError, match="n: 4 is not in 1..3"):
            llm.generate([1], SamplingParams(n=4))


def test_info_and_stats(llm):
    info, stats = llm.model_info, llm.stats()
    assert info.name == "tiny" and info.path is None and info.encoder_layers == 0 and info.batch_invariant
    assert info.decoder_start_token_id is None and info.max_model_len == stats["max_model_len"] > 0
    assert info.weight_dtype in ("f32", "bf16") and info.vocab_size > 0 and info.parameters > 0
    assert stats["wait_ns"].keys() >= {"order", "blocks"} and stats["finished_by"].keys() >= {"stop", "length", "error"}
    assert isinstance(stats["isa"], str) and stats["isa"]


def test_metrics(llm):
    [result] = llm.generate([7] * 100, SamplingParams(max_tokens=5))
    [again] = llm.generate([7] * 100, SamplingParams(max_tokens=5))
    m = result.outputs[0].metrics
    assert (m.prompt_tokens, m.output_tokens, m.cached_tokens) == (100, 5, 0)
    assert 0 < m.submit_ns <= m.first_planned_ns <= m.prompt_done_ns <= m.first_token_ns <= m.finish_ns
    assert sum(m.wait_ns.values()) == m.finish_ns - m.submit_ns
    assert again.outputs[0].metrics.cached_tokens == 96


def test_closed_is_closed():
    llm = quire.LLM("tiny", **SMALL)
    llm.close()
    llm.close()
    for call in (lambda: llm.generate([1, 2]), llm.stats, llm.check, llm.flush_cache):
        with pytest.raises(quire.EngineClosed):
            call()


def test_threads_take_turns(llm):
    expected = llm.generate([3, 4], SamplingParams(max_tokens=8))[0].outputs[0].token_ids
    found = []
    threads = [threading.Thread(target=lambda: found.append(
        llm.generate([3, 4], SamplingParams(max_tokens=8))[0].outputs[0].token_ids)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_an_engine_without_an_owner_is_freed():
    def threads():
        return len(os.listdir("/proc/self/task"))
    gc.collect()
    before = threads()
    llm = quire.LLM("tiny", **SMALL)
    llm.generate([1], SamplingParams(max_tokens=1))
    assert threads() > before
    del llm
    gc.collect()
    assert threads() <= before


def test_errors_can_be_pickled():
    error = pickle.loads(pickle.dumps(quire.QuireError("ERR_FULL", "queue: full", "queue")))
    assert (error.status, error.message, error.field, str(error)) == ("ERR_FULL", "queue: full", "queue", "queue: full")


def test_max_tokens_of_minus_1_is_what_fits(llm):
    [result] = llm.generate([1] * (llm.model_info.max_model_len - 30), SamplingParams(max_tokens=-1, ignore_eos=True))
    assert len(result.outputs[0].token_ids) == 30 and result.outputs[0].finish_reason == "length"


# ---- signals whose handler raises, as Ctrl-C's does ----

class Interrupted:
    """Stands for Core.EVENT: events were taken from the engine, and a signal came before they were looked at."""

    def __init__(self, event):
        self.event, self.size, self.is_due = event, event.size, True

    def iter_unpack(self, data):
        events = list(self.event.iter_unpack(data))
        if self.is_due and any(event[4] == FINISHED for event in events):
            self.is_due = False
            raise KeyboardInterrupt
        return iter(events)


def test_interrupt_with_a_last_event_in_hand(llm, monkeypatch):
    monkeypatch.setattr(llm._core, "EVENT", Interrupted(llm._core.EVENT))
    with pytest.raises(KeyboardInterrupt):
        llm.generate([[1, 2]] * 8, SamplingParams(max_tokens=3, ignore_eos=True))
    assert not llm._core.requests and is_free(llm)
    assert len(llm.generate([1, 2], SamplingParams(max_tokens=3, ignore_eos=True))[0].outputs[0].token_ids) == 3


def test_interrupt_behind_a_submission(llm, monkeypatch):
    def interrupt(request, handle):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Request, "begin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            llm.generate([1, 2], SamplingParams(max_tokens=200, ignore_eos=True))
    assert is_free(llm)
    assert len(llm.generate([1, 2], SamplingParams(max_tokens=3, ignore_eos=True))[0].outputs[0].token_ids) == 3
