#!/usr/bin/env python3
"""Beam search of real models against the reference algorithm run naively: no cache, every beam decoded anew each step.

usage: beam_test.py QUIRE MODELS

The reference is Hugging Face's beam search (transformers 4.50 and later): of the best continuations of all beams, those
that end, in an end-of-sequence token or at the length limit, within the best `width` become hypotheses, the best others
go on; a hypothesis scores its sum of log probabilities / length ^ length_penalty, the end token counted. Biases and
penalties act on log probabilities."""
import math
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json

QUIRE, MODELS = sys.argv[1], sys.argv[2]
EXACT = ["--set", "model.weight_dtype=f32", "--set", "kv_cache.dtype=f32", "--set", "kv_cache.num_kv_blocks=64"]


def generate(model, requests):
    text = "".join(json.dumps(dict(r, id=str(i))) + "\n" for i, r in enumerate(requests))
    done = subprocess.run([QUIRE, "generate", "--model", os.path.join(MODELS, model), *EXACT], input=text,
                          capture_output=True, text=True, timeout=60, check=True)
    answers = {a["id"]: a for a in map(json.loads, done.stdout.splitlines())}
    return [answers[str(i)] for i in range(len(requests))]


def log_softmax(logits):
    top = max(logits)
    total = math.log(sum(math.exp(x - top) for x in logits)) + top
    return [x - total for x in logits]


def is_done(hypotheses, width, best, length, penalty, early):
    if len(hypotheses) < width:
        return False
    return early is True or min(s for s, _ in hypotheses) >= best / length**penalty


def processed(logprobs, request, prompt, output, max_tokens):
    """What Hugging Face's logits processors make of a row of log probabilities."""
    row = list(logprobs)
    first, last = request.get("first_allowed_token_ids", []), request.get("last_allowed_token_ids", [])
    must = last if last and len(output) + 1 == max_tokens else first if not output else []
    if must:
        return [0.0 if token in must else -math.inf for token in range(len(row))]
    for token, bias in request.get("logit_bias", {}).items():
        row[int(token)] += bias
    repetition = request.get("repetition_penalty", 1)
    for token in set(prompt + output):
        row[token] = row[token] * repetition if row[token] < 0 else row[token] / repetition
    return row


def naive(model, request, start, stops, width, max_tokens, penalty, early):
    """The best hypothesis: (score, tokens)."""
    beams, hypotheses = [(0.0, [])], []
    plain = {k: v for k, v in request.items() if k in ("prompt", "encoder_input")}
    for length in range(1, max_tokens + 1):
        asked = [dict(plain, prompt=start + tokens, max_tokens=1, ignore_eos=True, logits="first") for _, tokens in beams]
        candidates = []
        for (score, tokens), answer in zip(beams, generate(model, asked)):
            row = processed(log_softmax(answer["first_logits"]), request, start, tokens, max_tokens)
            candidates += [(score + p, tokens + [t]) for t, p in enumerate(row) if p > -math.inf]
        beams = []
        for rank, (score, tokens) in enumerate(sorted(candidates, key=lambda c: -c[0])):
            if tokens[-1] in stops or length == max_tokens:
                if rank < width:
                    hypotheses.append((score / length**penalty, tokens))
            elif len(beams) < width:
                beams.append((score, tokens))
        hypotheses = sorted(hypotheses, key=lambda h: -h[0])[:width]
        reach = max_tokens if early == "never" and penalty > 0 else length
        if not beams or is_done(hypotheses, width, beams[0][0], reach, penalty, early):
            break
    return hypotheses[0]


class Beams(unittest.TestCase):
    def compare(self, model, request, start, stops, penalty, early, max_tokens=7):
        expected_score, expected = naive(model, request, start, stops, 4, max_tokens, penalty, early)
        search = dict(request, max_tokens=max_tokens, beam_width=4, length_penalty=penalty, early_stopping=early)
        alone, = generate(model, [search])
        company = generate(model, [dict(request, max_tokens=9), search, dict(search, length_penalty=0.5)])[1]
        for answer in (alone, company):
            self.assertEqual(answer["tokens"], expected)
            self.assertAlmostEqual(answer["score"], expected_score, delta=2e-5 * max(1, abs(expected_score)))

    def test_an_encoder_decoder_model(self):
        request = {"encoder_input": [124, 102, 17, 299, 45, 8]}
        self.compare("t5-gated", request, [0], {1}, 1.0, False)

    def test_a_decoder_model(self):
        request = {"prompt": [71, 9, 33]}
        self.compare("llama3-gqa", request, request["prompt"], {2}, 1.0, False)

    def test_hypotheses_that_end_early(self):
        """The likeliest second token is declared to be the end: hypotheses of several lengths compete."""
        request = {"prompt": [5, 60, 7]}
        answers = generate("llama3-gqa", [dict(request, max_tokens=2, logprobs=2, ignore_eos=True)])
        eos = answers[0]["top_logprobs"][1][1][0]
        for penalty, early in ((1.0, False), (0.0, True), (2.0, False)):
            with self.subTest(penalty=penalty, early=early):
                self.compare("llama3-gqa", dict(request, stop_token_ids=[eos]), request["prompt"], {2, eos},
                             penalty, early)

    def test_more_ends_than_beams(self):
        """With many ends, what goes on lies far behind the best 2 * width."""
        request = {"prompt": [5, 60, 7]}
        row = generate("llama3-gqa", [dict(request, max_tokens=1, ignore_eos=True, logits="first")])[0]["first_logits"]
        stops = sorted(range(len(row)), key=lambda t: -row[t])[1:40]
        for penalty, early in ((1.0, False), (2.0, "never"), (-1.0, True)):
            with self.subTest(penalty=penalty, early=early):
                self.compare("llama3-gqa", dict(request, stop_token_ids=stops), request["prompt"], {2, *stops}, penalty,
                             early)

    def test_a_target_language_and_a_last_token(self):
        """What must come counts as certain, as Hugging Face's forced_bos_token_id and forced_eos_token_id."""
        for model, start, end in (("m2m100", 2, 2), ("marian", 95, 0), ("mbart", 90, 2)):
            request = {"encoder_input": [40, 12, 77, 30], "first_allowed_token_ids": [8], "last_allowed_token_ids": [end]}
            with self.subTest(model):
                self.compare(model, request, [start], {end}, 1.0, False)

    def test_biases_and_penalties_act_on_log_probabilities(self):
        request = {"prompt": [71, 9, 33], "repetition_penalty": 1.6, "logit_bias": {"5": 2.5, "17": -3, "100": 4}}
        self.compare("llama3-gqa", request, request["prompt"], {2}, 1.0, False)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
