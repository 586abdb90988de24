#!/usr/bin/env python3
"""How far quire's logits are from the reference's in each dtype, as a Markdown table.

usage: measure_accuracy.py QUIRE MODELS

MODELS has folders with config.json, weights and expected.json (tests/models). A cell: the greatest error of the first and the
last logits over the standard deviation of the reference's, and the share of greedy tokens before the first that differs.
The last logits follow the reference's tokens, whatever quire's own are."""
import json
import pathlib
import statistics
import subprocess
import sys

COLUMNS = ("f32", "f32"), ("bf16", "bf16"), ("int8", "bf16"), ("int8", "int8"), ("int4", "bf16")  # weights, KV


def generate(quire, folder, weights, kv, requests):
    """Answers in the order of the requests."""
    done = subprocess.run([quire, "generate", "--model", folder, "--generation-config", "none", "--set",
                           f"model.weight_dtype={weights}", "--set", f"kv_cache.dtype={kv}", "--set",
                           "kv_cache.num_kv_blocks=256"],
                          input="".join(json.dumps(request) + "\n" for request in requests), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return sorted(map(json.loads, done.stdout.splitlines()), key=lambda answer: answer["id"])


def cases_of(folder):
    """Each with a prompt: what the decoder starts with, if nothing else."""
    start = json.loads((folder / "config.json").read_text()).get("decoder_start_token_id")
    return [{"prompt": [start], **case} for case in json.loads((folder / "expected.json").read_text())["cases"]]


def requests_of(cases):
    """Two of each case: as it is, and its last token after the others."""
    for number, case in enumerate(cases):
        sources = {key: case[key] for key in ("encoder_input", "encoder_features") if key in case}
        common = {**sources, "ignore_eos": True, "logits": "first"}
        yield {**common, "id": 2 * number, "prompt": case["prompt"], "max_tokens": len(case["tokens"])}
        yield {**common, "id": 2 * number + 1, "prompt": case["prompt"] + case["tokens"][:-1], "max_tokens": 1}


def error(answer, reference):
    return max(abs(got - wanted) for got, wanted in zip(answer, reference, strict=True)) / statistics.pstdev(reference)


def short(number):
    return f"{number:.2f}" if number >= 0.005 else f"{number:.0e}"


def agreeing(tokens, reference):
    return next((i for i, (got, wanted) in enumerate(zip(tokens, reference)) if got != wanted), len(reference))


def cell(quire, folder, weights, kv):
    cases = cases_of(folder)
    answers = generate(quire, folder, weights, kv, requests_of(cases))
    errors = [error(answer["first_logits"], case[key])
              for case, pair in zip(cases, zip(answers[::2], answers[1::2]))
              for answer, key in zip(pair, ("first_logits", "last_logits")) if key in case]
    agree = sum(agreeing(answer["tokens"], case["tokens"]) for case, answer in zip(cases, answers[::2]))
    return f"{short(max(errors))}, {100 * agree / sum(len(case['tokens']) for case in cases):.0f} %"


def main():
    quire, models = sys.argv[1], pathlib.Path(sys.argv[2])
    print("| model | " + " | ".join(f"{weights}, {kv}" for weights, kv in COLUMNS) + " |")
    print("|---" * (1 + len(COLUMNS)) + "|")
    for path in sorted(models.glob("*/expected.json")):
        print(f"| {path.parent.name} | " + " | ".join(cell(quire, path.parent, *pair) for pair in COLUMNS) + " |", flush=True)


if __name__ == "__main__":
    main()
