#!/usr/bin/env python3
"""Decodes given numbers of tokens with one Python engine and prints a line of JSON for each case. compare.py runs it with the
Python of the engine's virtual environment.

usage: drivers.py ENGINE MODEL TYPE THREADS CASE...
CASE: SEQUENCES:PROMPT_TOKENS:OUTPUT_TOKENS. Prompts are random token ids, the same for every engine; decoding is greedy."""
import json
import os
import pathlib
import random
import sys
import time

FIRST_WORD, WORDS = 300, 31900  # of both vocabularies; below are the specials and single bytes
CASES_BEFORE = (2, 32, 4)  # not counted: what an engine prepares when it first runs


def prompts(sequences, tokens):
    draw = random.Random(sequences * 4099 + tokens)
    return [[draw.randrange(FIRST_WORD, WORDS) for _ in range(tokens)] for _ in range(sequences)]


def speeds(begin, deliveries, sequences, prompt_tokens, output_tokens):
    """deliveries: (time, sequence, number of tokens). Decoding counts what comes after every sequence has its first token."""
    firsts = {}
    for when, sequence, _ in deliveries:
        firsts.setdefault(sequence, when)
    delivered = sum(count for _, _, count in deliveries)
    if len(firsts) != sequences or delivered != sequences * output_tokens:
        raise SystemExit(f"{delivered} tokens of {len(firsts)} sequences instead of {sequences} times {output_tokens}")
    all_first, end = max(firsts.values()), max(when for when, _, _ in deliveries)
    decoded = sum(count for when, _, count in deliveries if when > all_first)
    return {"decode": decoded / (end - all_first) if decoded else None, "first_s": all_first - begin,
            "prefill": sequences * prompt_tokens / (all_first - begin)}


class OthersClock:
    """The share of all CPUs' time that other processes took since it was made."""

    def __init__(self):
        self.wall, self.others = time.time(), self.others_seconds()

    @staticmethod
    def others_seconds():
        fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        own = os.times()
        return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK") - own.user - own.system

    def share(self):
        return max(0.0, (self.others_seconds() - self.others) / (time.time() - self.wall) / os.cpu_count())


# ---- engines: each returns a function from prompts and a number of tokens to (begin, deliveries) ----

def vllm(model, dtype, threads):
    from vllm import LLM, SamplingParams
    engine = LLM(model, dtype=dtype, skip_tokenizer_init=True, max_model_len=4096, max_num_seqs=64, enable_prefix_caching=False,
                 seed=0, disable_log_stats=True).llm_engine

    def run(batch, output_tokens):
        sampling = SamplingParams(max_tokens=output_tokens, ignore_eos=True, temperature=0, detokenize=False)
        for number, prompt in enumerate(batch):
            engine.add_request(f"{time.time()}-{number}", {"prompt_token_ids": prompt}, sampling)
        counts, deliveries, begin = {}, [], time.time()
        while engine.has_unfinished_requests():
            outputs, now = engine.step(), time.time()
            for output in outputs:
                count = len(output.outputs[0].token_ids)
                deliveries.append((now, output.request_id, count - counts.get(output.request_id, 0)))
                counts[output.request_id] = count
        return begin, [delivery for delivery in deliveries if delivery[2]]
    return run


def openvino(model, dtype, threads):
    import numpy
    import openvino as core
    import openvino_genai as genai
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size, scheduler.max_num_seqs, scheduler.max_num_batched_tokens = 3, 64, 512
    scheduler.enable_prefix_caching, scheduler.dynamic_split_fuse = False, True
    pipeline = genai.ContinuousBatchingPipeline(model, scheduler, "CPU", {
        "INFERENCE_PRECISION_HINT": dtype, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})
    last_id = 0

    def run(batch, output_tokens):
        nonlocal last_id
        config = genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = output_tokens, True, False
        handles = []
        for prompt in batch:
            last_id += 1
            handles.append(pipeline.add_request(last_id, core.Tensor(numpy.array([prompt], dtype=numpy.int64)), config))
        deliveries, begin = [], time.time()
        while pipeline.has_non_finished_requests():
            pipeline.step()
            now = time.time()
            for number, handle in enumerate(handles):
                while handle.can_read():
                    deliveries += [(now, number, len(output.generated_ids)) for output in handle.read().values()]
        return begin, deliveries
    return run


def transformers(model, dtype, threads):
    import torch
    from transformers import (AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, StoppingCriteria, StoppingCriteriaList)
    torch.set_num_threads(threads)
    kind = AutoModelForSeq2SeqLM if AutoConfig.from_pretrained(model).is_encoder_decoder else AutoModelForCausalLM
    loaded = kind.from_pretrained(model, dtype=getattr(torch, dtype)).eval()

    class Clock(StoppingCriteria):
        def __init__(self):
            self.times = []

        def __call__(self, ids, scores, **_):
            self.times.append(time.time())
            return torch.zeros(ids.shape[0], dtype=torch.bool)

    def run(batch, output_tokens):
        ids, clock, begin = torch.tensor(batch), Clock(), time.time()
        with torch.inference_mode():
            loaded.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=output_tokens, min_new_tokens=output_tokens,
                            do_sample=False, stopping_criteria=StoppingCriteriaList([clock]),
                            pad_token_id=loaded.generation_config.eos_token_id)
        return begin, [(now, number, 1) for now in clock.times for number in range(len(batch))]
    return run


def ctranslate2(model, dtype, threads):
    import ctranslate2 as engine
    seq2seq = os.path.exists(model + "/shared_vocabulary.json")
    words = json.load(open(model + ("/shared_vocabulary.json" if seq2seq else "/vocabulary.json")))
    settings = {"device": "cpu", "compute_type": dtype, "intra_threads": threads, "inter_threads": 1}
    loaded = engine.Translator(model, **settings) if seq2seq else engine.Generator(model, **settings)

    def run(batch, output_tokens):
        deliveries = []

        def on_token(step):
            deliveries.append((time.time(), step.batch_id, 1))
            return False
        texts, greedy = [[words[i] for i in prompt] for prompt in batch], {"beam_size": 1, "sampling_topk": 1, "max_batch_size": 0}
        begin = time.time()
        if seq2seq:
            loaded.translate_batch(texts, max_decoding_length=output_tokens, min_decoding_length=output_tokens, callback=on_token,
                                   **greedy)
        else:
            loaded.generate_batch(texts, max_length=output_tokens, min_length=output_tokens, include_prompt_in_result=False,
                                  callback=on_token, **greedy)
        return begin, deliveries
    return run


ENGINES = {engine.__name__: engine for engine in (vllm, openvino, transformers, ctranslate2)}

if __name__ == "__main__":
    name, model, dtype, threads = sys.argv[1:5]
    run = ENGINES[name](model, dtype, int(threads))
    for case in [None, *sys.argv[5:]]:
        sequences, prompt_tokens, output_tokens = map(int, case.split(":")) if case else CASES_BEFORE
        batch, clock = prompts(sequences, prompt_tokens), OthersClock()
        begin, deliveries = run(batch, output_tokens)
        result = {"others": clock.share(), **speeds(begin, deliveries, sequences, prompt_tokens, output_tokens)}
        if case:
            print(json.dumps({"case": case, **result}), flush=True)
