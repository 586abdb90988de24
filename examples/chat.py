#!/usr/bin/env python3
"""Answers questions with a chat model of a GGUF file: text in, text out. Needs the packages tokenizers and jinja2.

usage: chat.py GGUF QUESTION...    (the variable QUIRE: the tool, default build/release/quire)"""
import json
import os
import subprocess
import sys

import jinja2
from gguf_tokenizer import read_metadata, tokenizer_of

if len(sys.argv) < 3:
    sys.exit(__doc__)
path, questions = sys.argv[1], sys.argv[2:]
metadata = read_metadata(path)
tokenizer = tokenizer_of(metadata)
template = jinja2.Template(metadata["tokenizer.chat_template"])
requests = []
for i, question in enumerate(questions):
    text = template.render(messages=[{"role": "user", "content": question}], add_generation_prompt=True)
    requests.append({"id": i, "prompt": tokenizer.encode(text).ids, "max_tokens": 200})
tool = os.environ.get("QUIRE", "build/release/quire")
done = subprocess.run([tool, "generate", "--model", path, "--set", "output.log_level=error"], text=True, check=True,
                      input="".join(json.dumps(request) + "\n" for request in requests), stdout=subprocess.PIPE)
answers = {answer["id"]: answer for answer in map(json.loads, done.stdout.splitlines())}
for i, question in enumerate(questions):
    print(f"{question}\n  {tokenizer.decode(answers[i]['tokens']).strip()}")
