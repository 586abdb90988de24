#!/usr/bin/env python3
"""Whisper of real weights decodes speech to the tokens of faster-whisper, greedily and by beam search of width 5, in f32;
examples/transcribe.py prints their text. Needs what tools/peers/whisper.py needs.

usage: whisper_test.py QUIRE MODELS    (what tools/fetch_whisper.sh filled)"""
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/peers"))
from whisper import FasterWhisper, QuireWhisper, read_wav, speak

FILES = 6
EXACT = ["--set", "kv_cache.dtype=f32", "--set", "kv_cache.num_kv_blocks=1024"]


def transcribed(models, paths):
    out = subprocess.run([sys.executable, str(ROOT / "examples/transcribe.py"), str(models / "whisper-base"), *map(str, paths),
                          "--weight-dtype", "f32", *EXACT], env=dict(os.environ, QUIRE=QUIRE), check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    return [line.strip() for line in out.splitlines()[1::2]]


def compare(beam_width, models, files):
    theirs = FasterWhisper(models / "whisper-base-ct2", "f32", beam_width).run(files, FILES)
    ours = QuireWhisper(QUIRE, models / "whisper-base", "f32", beam_width, FILES, *EXACT)
    results = ours.run(files)
    ours.close()
    wrong = [(a, b) for a, b in zip(results, theirs) if a[0] != b[0] or not a[0]]
    for a, b in wrong:
        print(f"beam width {beam_width}\n  quire           {a[1]}\n  faster-whisper  {b[1]}")
    print(f"beam width {beam_width}: {FILES - len(wrong)} of {FILES} files, {sum(len(a[0]) for a in results)} tokens: as faster-whisper")
    return [text for _, text in results], len(wrong)


QUIRE, models = sys.argv[1], pathlib.Path(sys.argv[2])
with tempfile.TemporaryDirectory() as scratch:
    paths = speak(scratch, FILES)
    files = [read_wav(path) for path in paths]
    _, wrong_greedy = compare(1, models, files)
    texts, wrong_beams = compare(5, models, files)
    printed = transcribed(models, paths)
if printed != texts:
    print(f"examples/transcribe.py printed other texts: {printed}")
sys.exit(bool(wrong_greedy or wrong_beams or printed != texts))
