#!/usr/bin/env python3
"""Transcribes speech with a Whisper model: WAV files in, text out. Needs the packages numpy and tokenizers.

usage: transcribe.py FOLDER WAV... [--language en] [--task transcribe|translate] [--beam-width 5] [OPTION...]
FOLDER: the model as Hugging Face publishes it, such as tools/fetch_whisper.sh makes. Other options are for `quire
generate`. The variable QUIRE: the tool, default build/release/quire.

Files of more than 30 s are cut into windows of 30 s, wherever a word may be."""
import argparse
import base64
import json
import os
import pathlib
import subprocess

import tokenizers
from log_mel import log_mel, mel_filters, read_wav, windows


def read_json(folder, name):
    return json.loads((pathlib.Path(folder) / name).read_text())


def prompt_of(generation, language, task):
    """What the decoder starts with: the language and the task, and that no times are asked for."""
    start, end = generation["decoder_start_token_id"], generation["no_timestamps_token_id"]
    if not generation.get("is_multilingual", True):
        return [start, end]
    return [start, generation["lang_to_id"][f"<|{language}|>"], generation["task_to_id"][task], end]


def request_of(features, prompt, **fields):
    return {"prompt": prompt, "encoder_features": base64.b64encode(features.astype("<f4").tobytes()).decode(),
            "max_tokens": 224, **fields}


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].split("\n")[0].removeprefix("usage: "))
    parser.add_argument("folder")
    parser.add_argument("wav", nargs="+")
    parser.add_argument("--language", default="en")
    parser.add_argument("--task", default="transcribe", choices=["transcribe", "translate"])
    parser.add_argument("--beam-width", type=int, default=5)
    given, options = parser.parse_known_args()
    config, generation = read_json(given.folder, "config.json"), read_json(given.folder, "generation_config.json")
    filters = mel_filters(config["num_mel_bins"])
    prompt = prompt_of(generation, given.language, given.task)
    quire = subprocess.Popen([os.environ.get("QUIRE", "build/release/quire"), "generate", "--model", given.folder,
                              "--set", "output.log_level=error", *options], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    parts = [(wav, window) for wav in given.wav for window in windows(read_wav(wav))]
    for i, (_, window) in enumerate(parts):
        request = request_of(log_mel(window, filters), prompt, id=i, beam_width=given.beam_width)
        quire.stdin.write(json.dumps(request) + "\n")
    quire.stdin.close()
    answers = {answer["id"]: answer for answer in map(json.loads, quire.stdout)}
    if quire.wait() != 0:
        raise SystemExit(f"quire: exit status {quire.returncode}")
    tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(given.folder) / "tokenizer.json"))
    for wav in dict.fromkeys(given.wav):
        texts = [tokenizer.decode(answers[i]["tokens"]).strip() for i, part in enumerate(parts) if part[0] == wav]
        print(f"{wav}\n  {' '.join(texts)}")


if __name__ == "__main__":
    main()
