#!/usr/bin/env python3
"""quire and faster-whisper's batched pipeline in turns on one machine: the same files of speech, from samples to words.
docs/PEERS.md says what is measured and how. Needs faster-whisper and numpy, and flite (a Debian package).

usage: whisper.py QUIRE MODELS [--files 32] [--beam-width 1] [--type f32|int8] [--rounds 3] [--batch 8 16 32]
MODELS: what tools/fetch_whisper.sh filled."""
import argparse
import difflib
import os
import pathlib
import statistics
import sys
import tempfile
import time

import faster_whisper
import numpy
import tokenizers
from quire_pipe import Quire

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests/real")]
from log_mel import RATE, WINDOW_SECONDS, log_mel, mel_filters, read_wav
from speech import speak
from transcribe import prompt_of, read_json, request_of

THREADS = len(os.sched_getaffinity(0))
WINDOW = WINDOW_SECONDS * RATE
TYPES = {"f32": ("float32", ["--weight-dtype", "f32"]), "int8": ("int8", ["--weight-dtype", "int8"])}
MOST_TOKENS = 224


class FasterWhisper:
    """All files in one call, each a clip of 30 s of the same sound: so its pipeline batches them."""

    def __init__(self, folder, kind, beam_width):
        self.model = faster_whisper.WhisperModel(str(folder), device="cpu", compute_type=TYPES[kind][0], cpu_threads=THREADS)
        self.pipeline = faster_whisper.BatchedInferencePipeline(self.model)
        self.beam_width = beam_width

    def cpu_seconds(self):
        return 0  # this process

    def run(self, files, batch_size):
        """Tokens and text of each file."""
        sound = numpy.concatenate([numpy.pad(samples, (0, WINDOW - len(samples))) for samples in files])
        clips = [{"start": i * WINDOW_SECONDS, "end": (i + 1) * WINDOW_SECONDS} for i in range(len(files))]
        segments, _ = self.pipeline.transcribe(sound, language="en", beam_size=self.beam_width, vad_filter=False,
                                               clip_timestamps=clips, batch_size=batch_size, max_new_tokens=MOST_TOKENS)
        results = [([], "")] * len(files)  # the pipeline works as they are asked for
        for segment in segments:
            results[segment.seek // (100 * WINDOW_SECONDS)] = (segment.tokens, segment.text.strip())
        return results


class QuireWhisper:
    def __init__(self, tool, folder, kind, beam_width, files, *options):
        generation = read_json(folder, "generation_config.json")
        self.end = generation["eos_token_id"]
        self.prompt = prompt_of(generation, "en", "transcribe")
        self.filters = mel_filters(read_json(folder, "config.json")["num_mel_bins"])
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.beam_width = beam_width
        slots = max(files * beam_width, 2 * beam_width)
        self.quire = Quire(tool, "--model", str(folder), *TYPES[kind][1], "--set", f"scheduler.max_num_seqs={slots}", "--set",
                           "output.log_level=error", *options)

    def run(self, files):
        requests = (request_of(log_mel(samples, self.filters), self.prompt, id=i, beam_width=self.beam_width,
                               max_tokens=MOST_TOKENS) for i, samples in enumerate(files))
        tokens = [[token for token in answer["tokens"] if token != self.end] for answer in self.quire.run(len(files), requests)]
        return [(ids, self.tokenizer.decode(ids).strip()) for ids in tokens]

    def cpu_seconds(self):
        return self.quire.cpu_seconds()

    def close(self):
        self.quire.__exit__()


def timed(engine, *arguments):
    """Seconds, those of CPUs, results."""
    def cpu_seconds():
        own = os.times()
        return own.user + own.system + engine.cpu_seconds()

    start, cpu = time.monotonic(), cpu_seconds()
    results = engine.run(*arguments)
    return time.monotonic() - start, cpu_seconds() - cpu, results


def words_that_differ(one, other):
    a, b = one.split(), other.split()
    same = sum(block.size for block in difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks())
    return max(len(a), len(b)) - same, max(len(a), len(b))


def compare(ours, theirs):
    tokens = sum(a[0] == b[0] for a, b in zip(ours, theirs))
    counts = [words_that_differ(a[1], b[1]) for a, b in zip(ours, theirs)]
    return tokens, sum(a[1] == b[1] for a, b in zip(ours, theirs)), sum(c[0] for c in counts), sum(c[1] for c in counts)


def print_times(runs):
    for i, kind in enumerate(("seconds", "CPU seconds")):
        for name, times in runs.items():
            values = [run[i] for run in times]
            print(f"{kind:12} {name:15} {statistics.median(values):7.2f}  ({min(values):.2f} .. {max(values):.2f})")
        ratios = [theirs[i] / ours[i] for ours, theirs in zip(runs["quire"], runs["faster-whisper"])]
        print(f"{kind:12} {'ratio':15} {statistics.median(ratios):7.2f}  ({min(ratios):.2f} .. {max(ratios):.2f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quire")
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("--files", type=int, default=32)
    parser.add_argument("--beam-width", type=int, default=1)
    parser.add_argument("--type", choices=TYPES, default="f32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--show", action="store_true", help="the texts too")
    given, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = [read_wav(path) for path in speak(scratch, given.files)]
    theirs = FasterWhisper(given.models / "whisper-base-ct2", given.type, given.beam_width)
    noise = numpy.random.default_rng(1).normal(0, 0.01, RATE).astype(numpy.float32)
    theirs.run([noise], 1)
    batch_size = min(given.batch, key=lambda size: timed(theirs, files, size)[0]) if len(given.batch) > 1 else given.batch[0]
    runs = {"faster-whisper": [], "quire": []}
    for _ in range(given.rounds):
        runs["faster-whisper"].append(timed(theirs, files, batch_size))
        ours = QuireWhisper(given.quire, given.models / "whisper-base", given.type, given.beam_width, given.files, *options)
        ours.run([noise])  # a process of its own each time, so that no file's encoder run is remembered
        runs["quire"].append(timed(ours, files))
        ours.close()
    our_results, their_results = runs["quire"][-1][2], runs["faster-whisper"][-1][2]
    same_tokens, same_texts, differ, words = compare(our_results, their_results)
    if given.show:
        for ours, theirs in zip(our_results, their_results):
            print(f"quire           {ours[1]}\nfaster-whisper  {theirs[1]}\n")
    print(f"{given.files} files of {sum(map(len, files)) / RATE:.0f} s together, {given.type}, beam width {given.beam_width}, "
          f"faster-whisper's batch {batch_size}, {sum(len(r[0]) for r in our_results)} tokens")
    print_times(runs)
    print(f"same tokens in {same_tokens} files, same text in {same_texts}; {differ} of {words} words differ")


if __name__ == "__main__":
    main()
