#!/usr/bin/env python3
"""Answers questions with a chat model of a GGUF file: text in, text out. Needs the packages tokenizers and jinja2.

usage: chat.py GGUF QUESTION...    (the variable QUIRE: the tool, default build/release/quire)"""
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
from quire.text import load_text  # noqa: E402

if len(sys.argv) < 3:
    sys.exit(__doc__)
path, questions = sys.argv[1], sys.argv[2:]
text = load_text(path)
requests = []
for i, question in enumerate(questions):
    prompt = text.apply_chat_template([{"role": "user", "content": question}])
    requests.append({"id": i, "prompt": text.encode(prompt, add_special_tokens=False), "max_tokens": 200})
tool = os.environ.get("QUIRE", "build/release/quire")
done = subprocess.run([tool, "generate", "--model", path, "--set", "output.log_level=error"], text=True, check=True,
                      input="".join(json.dumps(request) + "\n" for request in requests), stdout=subprocess.PIPE)
answers = {answer["id"]: answer for answer in map(json.loads, done.stdout.splitlines())}
for i, question in enumerate(questions):
    print(f"{question}\n  {text.decode(answers[i]['tokens']).strip()}")
