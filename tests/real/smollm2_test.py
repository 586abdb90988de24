#!/usr/bin/env python3
"""SmolLM2 of a real file decodes the tokens that transformers decodes with the same weights (make_smollm2.py).

usage: smollm2_test.py QUIRE GGUF"""
import json
import pathlib
import subprocess
import sys

QUIRE, MODEL = sys.argv[1:]
cases = json.loads((pathlib.Path(__file__).parent / "smollm2.json").read_text())
requests = [{"id": i, "prompt": case["prompt"], "max_tokens": len(case["tokens"]), "temperature": 0, "ignore_eos": True}
            for i, case in enumerate(cases)]
done = subprocess.run([QUIRE, "generate", "--model", MODEL, "--weight-dtype", "f32", "--set", "kv_cache.dtype=f32",
                       "--set", "kv_cache.num_kv_blocks=256"], text=True, stdout=subprocess.PIPE, check=True,
                      input="".join(json.dumps(request) + "\n" for request in requests))
answers = {answer["id"]: answer["tokens"] for answer in map(json.loads, done.stdout.splitlines())}
wrong = [case["text"] for i, case in enumerate(cases) if answers[i] != case["tokens"]]
for text in wrong:
    print(f"other tokens than transformers after {text!r}")
print(f"{len(cases) - len(wrong)} of {len(cases)} prompts, {sum(len(case['tokens']) for case in cases)} tokens: as transformers")
sys.exit(bool(wrong))
