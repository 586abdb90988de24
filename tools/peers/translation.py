#!/usr/bin/env python3
"""quire and CTranslate2 in turns on one machine: models of the shapes of OPUS-MT, NLLB-600M and T5-base with random weights,
which decode sequences of ragged lengths. docs/PEERS.md says what is measured and how. Needs ctranslate2 and numpy.

usage: translation.py QUIRE FOLDER [--model opus-mt nllb-600m t5-base] [--type int8|f32] [--requests 128] [--rounds 3]
                      [--threads N]
FOLDER: where CTranslate2's models are made, up to 1 GB each, unless they are there."""
import argparse
import concurrent.futures
import os
import pathlib
import statistics
import time

import ctranslate2
import numpy
from ctranslate2.specs import TransformerSpec, common_spec
from quire_pipe import Quire

START, END, FIRST_WORD = 0, 1, 4  # token ids that both sides agree on
MODELS = {  # as quire's presets have them, and the mean lengths of what is decoded
    "opus-mt": {"vocab": 58101, "width": 512, "inner": 2048, "layers": 6, "heads": 8, "positions": 512, "pre_norm": False,
                "activation": common_spec.Activation.SWISH, "source": 64, "target": 64},
    "nllb-600m": {"vocab": 256206, "width": 1024, "inner": 4096, "layers": 12, "heads": 16, "positions": 1024,
                  "pre_norm": True, "activation": common_spec.Activation.RELU, "source": 64, "target": 64},
    "t5-base": {"vocab": 32128, "width": 768, "inner": 3072, "layers": 12, "heads": 12, "positions": 0, "pre_norm": True,
                "activation": common_spec.Activation.RELU, "source": 256, "target": 64},
}
TYPES = {"f32": "float32", "int8": "int8"}
BATCHES = [8, 16, 32, 64]


# ---- CTranslate2's model ----

class Filler:
    def __init__(self, shape):
        self.shape, self.random = shape, numpy.random.default_rng(1)
        self.bias = shape["positions"] > 0  # T5 has none

    def matrix(self, rows, columns):
        return self.random.standard_normal((rows, columns), dtype=numpy.float32) * numpy.float32(columns ** -0.5)

    def linear(self, spec, rows, columns):
        spec.weight = self.matrix(rows, columns)
        if self.bias:
            spec.bias = numpy.zeros(rows, numpy.float32)

    def norm(self, spec):
        spec.gamma = numpy.ones(self.shape["width"], numpy.float32)
        if self.bias:
            spec.beta = numpy.zeros(self.shape["width"], numpy.float32)

    def attention(self, spec, fused, bias_by_distance):
        width = self.shape["width"]
        for linear, rows in zip(spec.linear, [*fused, 1]):
            self.linear(linear, rows * width, width)
        self.norm(spec.layer_norm)
        if not self.bias:
            spec.queries_scale = 1.0
        if bias_by_distance is not None:
            spec.relative_attention_bias = bias_by_distance
            spec.relative_attention_max_distance = numpy.int32(128)

    def stack(self, spec, embedding):
        width, inner = self.shape["width"], self.shape["inner"]
        target = spec.embeddings[0] if isinstance(spec.embeddings, list) else spec.embeddings
        target.weight = embedding
        spec.scale_embeddings = self.bias
        if self.bias:
            spec.position_encodings.encodings = self.matrix(self.shape["positions"], width)
        if self.shape["pre_norm"]:
            self.norm(spec.layer_norm)
        distances = None if self.bias else self.matrix(32, self.shape["heads"])
        for layer in spec.layer:
            self.attention(layer.self_attention, [3], distances)
            if hasattr(layer, "attention"):
                self.attention(layer.attention, [1, 2], None)
            self.linear(layer.ffn.linear_0, inner, width)
            self.linear(layer.ffn.linear_1, width, inner)
            self.norm(layer.ffn.layer_norm)


def make_model(name, folder):
    """Random weights of the shape, in int8; CTranslate2 makes f32 of them where it is asked to."""
    if folder.exists():
        return
    shape = MODELS[name]
    filler = Filler(shape)
    spec = TransformerSpec.from_config(shape["layers"], shape["heads"], pre_norm=shape["pre_norm"],
                                       activation=shape["activation"], relative_attention_bias=not filler.bias,
                                       rms_norm=not filler.bias)
    embedding = filler.matrix(shape["vocab"], shape["width"])
    filler.stack(spec.encoder, embedding)
    filler.stack(spec.decoder, embedding)
    spec.decoder.projection.weight = embedding
    words = [str(i) for i in range(shape["vocab"])]
    spec.register_source_vocabulary(words)
    spec.register_target_vocabulary(words)
    spec.config.bos_token = spec.config.decoder_start_token = words[START]
    spec.config.eos_token, spec.config.unk_token = words[END], words[2]
    spec.validate()
    spec.optimize(quantization="int8")
    folder.mkdir(parents=True)
    spec.save(str(folder))


# ---- what is decoded ----

def make_requests(name, count):
    """(token ids of the source, tokens to decode): lengths around the means, the target's as long as the source says, more
    or less. The same each time."""
    shape = MODELS[name]
    random = numpy.random.default_rng(7)
    requests = []
    for _ in range(count):
        factor = min(max(random.lognormal(-0.125, 0.5), 0.2), 1.9)
        target = max(1, round(shape["target"] * factor * random.uniform(0.7, 1.3)))
        source = random.integers(FIRST_WORD, shape["vocab"] - 1, max(1, round(shape["source"] * factor)))
        requests.append((source.tolist(), target))
    return requests


# ---- the two ----

class Translator:
    def __init__(self, folder, kind, threads):
        self.path, self.kind, self.threads = str(folder), TYPES[kind], threads

    def run(self, requests, batch_size, workers):
        """Seconds, and those of CPUs. In batches of neighbours by source length; a sequence leaves its batch when it is as
        long as it should be, as those do that end by themselves: the callback says so."""
        translator = ctranslate2.Translator(self.path, compute_type=self.kind, inter_threads=workers,
                                            intra_threads=self.threads // workers)
        translate(translator, [([FIRST_WORD] * 8, 4)])
        longest_first = sorted(requests, key=lambda request: -len(request[0]))
        batches = [longest_first[i:i + batch_size] for i in range(0, len(requests), batch_size)]
        start, before = time.monotonic(), os.times()
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda batch: translate(translator, batch), batches))
        after = os.times()
        return time.monotonic() - start, after.user + after.system - before.user - before.system


def translate(translator, requests):
    targets = [target for _, target in requests]
    results = translator.translate_batch(
        [[str(token) for token in source] for source, _ in requests], beam_size=1, max_decoding_length=max(targets),
        min_decoding_length=max(targets), callback=lambda step: step.step + 1 >= targets[step.batch_id])
    lengths = [len(result.hypotheses[0]) for result in results]
    if lengths != targets:
        raise SystemExit(f"CTranslate2 decoded {lengths} tokens, not {targets}")


def run_quire(name, given, requests, options):
    """Seconds, and those of CPUs."""
    lines = [{"id": i, "encoder_input": source, "max_tokens": target, "ignore_eos": True, "temperature": 0}
             for i, (source, target) in enumerate(requests)]
    with Quire(given.quire, "--model", name, "--weight-dtype", given.type, "--threads", str(given.threads), "--set",
               f"scheduler.max_num_seqs={given.slots}", "--set", "output.log_level=error", *options) as quire:
        quire.run(1, [dict(lines[0], encoder_input=[FIRST_WORD] * 8, max_tokens=4)])
        start, before = time.monotonic(), quire.cpu_seconds()
        answers = quire.run(len(lines), lines)
        seconds, cpu_seconds = time.monotonic() - start, quire.cpu_seconds() - before
    lengths = [len(answer["tokens"]) for answer in answers]
    if lengths != [target for _, target in requests]:
        raise SystemExit(f"quire decoded {lengths} tokens")
    return seconds, cpu_seconds


def measure(name, given, options):
    requests = make_requests(name, given.requests)
    make_model(name, given.folder / name)
    translator = Translator(given.folder / name, given.type, given.threads)
    ways = [(batch, workers) for batch in given.batch for workers in sorted({1, given.threads})]
    tried = {way: translator.run(requests, *way)[0] for way in ways if len(ways) > 1}
    best = min(tried or ways, key=tried.get)
    ours, theirs = [], []
    for _ in range(given.rounds):
        theirs.append(translator.run(requests, *best))
        ours.append(run_quire(name, given, requests, options))
    print(f"{name}, {given.type}, threads {given.threads}: {len(requests)} sequences, "
          f"{sum(len(s) for s, _ in requests)} source and {sum(t for _, t in requests)} target tokens")
    for (batch, workers), took in tried.items():
        print(f"  CTranslate2 once, batch {batch} x workers {workers}: {len(requests) / took:.2f} sequences/second")
    for i, kind in enumerate(("second", "CPU second")):
        for label, times in ((f"CTranslate2, {best[0]} x {best[1]}", theirs), (f"quire, {given.slots} slots", ours)):
            print(f"  {label:24} {len(requests) / statistics.median(run[i] for run in times):7.2f} sequences/{kind}")
        ratios = [b[i] / a[i] for a, b in zip(ours, theirs)]
        print(f"  {'ratio':24} {statistics.median(ratios):7.2f} ({min(ratios):.2f} .. {max(ratios):.2f})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quire")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--type", choices=TYPES, default="int8")
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given, options = parser.parse_known_args()
    for name in given.model:
        measure(name, given, options)


if __name__ == "__main__":
    main()
