#!/usr/bin/env python3
"""Folders as people really have them: what quire reads, what it passes over with a warning, what it refuses.

usage: checkpoint_test.py QUIRE MODELS [unittest options]"""
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json
from checkpoint import Checkpoint

QUIRE, MODELS = sys.argv[1], pathlib.Path(sys.argv[2])
EXACT = ["--set", "model.weight_dtype=f32", "--set", "kv_cache.dtype=f32", "--set", "kv_cache.num_kv_blocks=256"]


class CheckpointTest(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        self.folder = str(pathlib.Path(self.place.name) / "a-model")

    def run_quire(self, folder, request, *arguments):
        return subprocess.run([QUIRE, "generate", "--model", folder, *EXACT, *arguments], capture_output=True,
                              input=json.dumps(request) + "\n", text=True, timeout=60)

    def answer(self, folder, request, *arguments):
        """(answer, warnings)"""
        done = self.run_quire(folder, request, *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout), [line for line in done.stderr.splitlines() if "warning" in line]

    def golden(self, name):
        """The model, a request, and the tokens of the reference."""
        case = json.loads((MODELS / name / "expected.json").read_text())["cases"][0]
        source = "encoder_input" if "encoder_input" in case else "prompt"
        request = {source: case[source], "max_tokens": case["max_tokens"], "ignore_eos": True}
        return Checkpoint(MODELS / name), request, case["tokens"]

    def agrees(self, folder, request, tokens, *warnings):
        """As many warnings as given, each with its words."""
        answer, warned = self.answer(folder, request)
        self.assertEqual(answer["tokens"], tokens)
        self.assertEqual(len(warned), len(warnings), warned)
        for line, words in zip(warned, warnings):
            self.assertIn(words, line)
            self.assertIn("a-model", line)

    def refused(self, folder, *words):
        done = self.run_quire(folder, {"prompt": [1]})
        self.assertNotEqual(done.returncode, 0)
        for word in words:
            self.assertIn(word, done.stderr)


class Files(CheckpointTest):
    def test_buffers_are_passed_over_with_one_warning(self):
        model, request, tokens = self.golden("qwen2-bias")
        for name in ("rotary_emb.cos_cached", "rotary_emb.sin_cached", "rotary_emb.inv_freq", "attn_mask"):
            model.tensors["model.layers.0.self_attn." + name] = ("F32", [2], bytes(8))
        self.agrees(model.write(self.folder), request, tokens,
                    'not read: "model.layers.0.self_attn.attn_mask" and 3 more')

    def test_a_weight_that_no_layer_uses_is_refused(self):
        for name in ("model.layers.0.mlp.extra.weight", "model.layers.0.mlp.up_proj.bias", "model.layers.9.scale"):
            model, _, _ = self.golden("qwen2-bias")
            model.tensors[name] = ("F32", [2], bytes(8))
            self.refused(model.write(self.folder), name, "not part of the qwen2")

    def test_the_first_spelling_of_llama_is_an_alias(self):
        model, request, tokens = self.golden("llama3-gqa")
        model.config["architectures"] = ["LLaMAForCausalLM"]
        self.agrees(model.write(self.folder), request, tokens)

    def test_an_index_may_disagree_where_the_model_does_not_care(self):
        model, request, tokens = self.golden("qwen2-bias")
        names = sorted(model.tensors)
        first, second = names[:9], names[9:]
        index = {name: 1 for name in first} | {name: 2 for name in second}
        self.agrees(model.write_shards(self.folder, first, second, index), request, tokens)
        self.agrees(model.write_shards(self.folder, first, second, index | {"mtp.weight": 2}), request, tokens,
                    'no file holds: "mtp.weight"')
        self.agrees(model.write_shards(self.folder, first, second + first[:1], index), request, tokens,
                    f'more than one file holds: "{first[0]}"')

    def test_a_needed_tensor_is_where_the_index_says(self):
        model, _, _ = self.golden("qwen2-bias")
        names = sorted(model.tensors)
        first, second, name = names[:9], names[9:], names[0]
        index = {name: 1 for name in first} | {name: 2 for name in second}
        self.refused(model.write_shards(self.folder, first, second, index | {name: 2}), name,
                     "the index names another file")
        self.refused(model.write_shards(self.folder, first[1:], second, index), name, "missing")
        folder = model.write_shards(self.folder, first, second + [name], index)
        shard = pathlib.Path(folder) / "model-00002-of-00002.safetensors"
        shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
        self.refused(folder, name, "other values")


HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
ENCODER, DECODER = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"


class TiedTensors(CheckpointTest):
    """What should be one tensor: several names for it, or several values."""

    def changed(self, tensor):
        """Other values: those of the row that is a third further on."""
        dtype, shape, data = tensor
        third = shape[0] // 3 * (len(data) // shape[0])
        return dtype, shape, data[third:] + data[:third]

    def tokens_of(self, model, request):
        return self.answer(model.write(self.folder), request)[0]["tokens"]

    def test_a_tied_decoder_may_have_the_head_alone(self):
        model, request, _ = self.golden("llama3-gqa")
        model.config["tie_word_embeddings"] = False
        model.tensors[EMBEDDING] = model.tensors[HEAD]
        tokens = self.tokens_of(model, request)
        model.config["tie_word_embeddings"] = True
        self.agrees(model.write(self.folder), request, tokens)  # both, and equal
        del model.tensors[EMBEDDING]
        self.agrees(model.write(self.folder), request, tokens)
        model.config["tie_word_embeddings"] = False
        self.refused(model.write(self.folder), EMBEDDING, "missing")

    def test_a_tied_encoder_decoder_may_have_the_head_alone(self):
        model, request, tokens = self.golden("t5-relu")
        self.assertTrue(model.config["tie_word_embeddings"])
        model.tensors[HEAD] = model.tensors.pop("shared.weight")
        model.tensors.pop(ENCODER, None), model.tensors.pop(DECODER, None)
        self.agrees(model.write(self.folder), request, tokens)

    def test_a_head_with_other_values_is_used_with_a_warning(self):
        model, request, tokens = self.golden("llama3-gqa")
        model.config["tie_word_embeddings"] = True
        self.agrees(model.write(self.folder), request, tokens,
                    f'tensor "{HEAD}": its values are not those of "{EMBEDDING}"')

    def test_a_decoder_may_have_an_embedding_of_its_own(self):
        model, request, tokens = self.golden("t5-two-embeddings")
        self.agrees(model.write(self.folder), request, tokens,
                    f'tensor "{DECODER}": its values are not those of "shared.weight"')
        answer, _ = self.answer(self.folder, {**request, "logits": "first"})
        expected = json.loads((MODELS / "t5-two-embeddings" / "expected.json").read_text())["cases"][0]["first_logits"]
        for got, wanted in zip(answer["first_logits"], expected, strict=True):
            self.assertAlmostEqual(got, wanted, delta=1e-3)

    def test_each_stack_and_the_head_may_have_their_own(self):
        """The same four matrices, whichever of them is called shared."""
        model, request, _ = self.golden("t5-two-embeddings")
        shared, decoder = model.tensors["shared.weight"], model.tensors[DECODER]
        encoder = model.tensors[ENCODER] = self.changed(shared)
        model.tensors[HEAD] = self.changed(decoder)
        model.config["tie_word_embeddings"] = model.config["scale_decoder_outputs"] = True
        tokens = self.tokens_of(model, request)
        self.agrees(model.write(self.folder), request, tokens, ENCODER, DECODER, HEAD)
        model.tensors["shared.weight"] = encoder
        self.agrees(model.write(self.folder), request, tokens, DECODER, HEAD)
        model.tensors["shared.weight"] = decoder
        self.agrees(model.write(self.folder), request, tokens, ENCODER, HEAD)
        del model.tensors["shared.weight"], model.tensors[HEAD]
        self.assertNotEqual(self.tokens_of(model, request), tokens)


class Rope(CheckpointTest):
    def test_two_forms_that_disagree_are_warned_of_and_the_older_is_used(self):
        model, request, tokens = self.golden("llama-linear")
        own = model.config["rope_scaling"]
        model.config["rope_parameters"] = {**own, "factor": own["factor"] * 3}
        self.agrees(model.write(self.folder), request, tokens,
                    "rope_scaling and rope_parameters disagree about factor: rope_scaling is used")
        model.config["rope_parameters"] = {}
        self.agrees(model.write(self.folder), request, tokens)


class GenerationConfig(CheckpointTest):
    """generation_config.json: ids before those of config.json, defaults of requests after all that a user says."""

    def test_its_end_of_sequence_ids_stop(self):
        model, request, tokens = self.golden("llama3-gqa")
        request["ignore_eos"] = False
        stop = next(t for t in tokens[2:] if t != model.config["eos_token_id"])
        wanted = tokens[:tokens.index(stop) + 1]
        model.files["generation_config.json"] = {"eos_token_id": [model.config["eos_token_id"], stop]}
        answer, warned = self.answer(model.write(self.folder), request)
        self.assertEqual((answer["tokens"], answer["finish_reason"], warned), (wanted, "stop", []))
        answer, _ = self.answer(self.folder, request, "--generation-config", "none")
        self.assertEqual(answer["tokens"], tokens)

    def test_its_decoder_start_goes_before_that_of_config_json(self):
        model, request, tokens = self.golden("t5-relu")
        started = self.answer(model.write(self.folder), {**request, "prompt": [7]})[0]["tokens"]
        self.assertNotEqual(started, tokens)
        model.files["generation_config.json"] = {"decoder_start_token_id": 7}
        self.agrees(model.write(self.folder), request, started)
        del model.config["decoder_start_token_id"]
        self.agrees(model.write(self.folder), request, started)

    def test_its_sampling_is_for_requests_and_users_that_do_not_say(self):
        model, request, tokens = self.golden("llama3-gqa")
        del request["max_tokens"]
        model.files["generation_config.json"] = {"do_sample": True, "temperature": 5.0, "top_k": 50, "max_new_tokens": 9}
        folder = model.write(self.folder)
        own = {"temperature": 5.0, "top_k": 50, "max_tokens": 9}
        sampled = self.answer(folder, {**request, **own}, "--generation-config", "none")[0]["tokens"]
        self.assertNotEqual(sampled, tokens[:9])
        self.agrees(folder, request, sampled)
        self.agrees(folder, {**request, "temperature": 0}, tokens[:9])
        self.agrees(folder, {**request, "temperature": 0, "max_tokens": 4}, tokens[:4])
        answer, _ = self.answer(folder, request, "--temperature", "0", "--max-tokens", "5")
        self.assertEqual(answer["tokens"], tokens[:5])

    def test_its_sampling_is_not_for_beam_searches(self):
        model, _, _ = self.golden("llama3-gqa")
        request = {"prompt": [1, 5], "max_tokens": 3, "beam_width": 2}
        tokens = self.answer(model.write(self.folder), request)[0]["tokens"]
        model.files["generation_config.json"] = {"do_sample": True, "temperature": 0.6, "top_k": 50}
        self.agrees(model.write(self.folder), request, tokens)
        for asked, arguments in (({"temperature": 0.6}, []), ({}, ["--temperature", "0.6"])):
            answer = json.loads(self.run_quire(self.folder, {**request, **asked}, *arguments).stdout)
            self.assertIn("beam search does not sample", json.dumps(answer))

    def test_its_rules_of_tokens_are_for_requests_that_do_not_say(self):
        model, request, _ = self.golden("marian")
        request = {"encoder_input": request["encoder_input"], "max_tokens": 4}
        plain = self.answer(model.write(self.folder), request)[0]["tokens"]
        model.files["generation_config.json"] = {"bad_words_ids": [[plain[0]]], "forced_bos_token_id": 7,
                                                 "forced_eos_token_id": model.config["eos_token_id"]}
        folder = model.write(self.folder)
        ruled = self.answer(folder, request)[0]["tokens"]
        self.assertEqual((ruled[0], ruled[-1]), (7, model.config["eos_token_id"]))
        self.assertNotIn(plain[0], ruled)
        none = {f"{kind}_token_ids": [] for kind in ("banned", "first_allowed", "last_allowed")}
        self.agrees(folder, {**request, **none}, plain)
        beams = self.answer(folder, {**request, "beam_width": 3})[0]["tokens"]
        self.assertEqual(beams[0], 7)

    def test_a_top_k_above_the_vocabulary_is_off(self):
        model, request, _ = self.golden("llama3-gqa")
        sampled = self.answer(model.write(self.folder), {**request, "temperature": 1.0})[0]["tokens"]
        for top_k in (100000, 10**12):
            model.files["generation_config.json"] = {"temperature": 1.0, "top_k": top_k}
            self.agrees(model.write(self.folder), request, sampled)

    def test_a_link_to_nothing_is_not_an_absent_file(self):
        model, _, _ = self.golden("llama3-gqa")
        folder = model.write(self.folder)
        pathlib.Path(folder, "generation_config.json").symlink_to("nowhere")
        self.refused(folder, "generation_config.json: cannot be opened: No such file")

    def test_what_is_not_applied_is_said(self):
        model, request, tokens = self.golden("llama3-gqa")
        model.files["generation_config.json"] = {"num_beams": 4, "no_repeat_ngram_size": 3, "length_penalty": 1.0}
        model.files["adapter_config.json"] = {}
        self.agrees(model.write(self.folder), request, tokens, '"num_beams", "no_repeat_ngram_size"', "adapter_config.json: not read")

    def test_a_value_that_cannot_be_meant_is_refused(self):
        model, _, _ = self.golden("llama3-gqa")
        model.files["generation_config.json"] = '{"temperature": NaN}'
        self.refused(model.write(self.folder), "generation_config.json: temperature: expected a number, found NaN")


class Values(CheckpointTest):
    """Weights that are not finite are refused by tensor and index, whatever they are converted to."""

    PLACES = {"model.embed_tokens.weight": "5, 3", "model.layers.1.mlp.down_proj.weight": "2, 7",
              "model.layers.0.self_attn.q_proj.bias": "9", "model.norm.weight": "4"}

    def spoilt(self, tensor, place, value):
        """The model with one other value, and the request."""
        model, request, _ = self.golden("qwen2-bias")
        dtype, shape, data = model.tensors[tensor]
        number = 0
        for index, size in zip(map(int, place.split(", ")), shape):
            number = number * size + index
        bits = struct.pack("<f", value)[2 if dtype == "BF16" else 0:]
        at = number * len(bits)
        model.tensors[tensor] = dtype, shape, data[:at] + bits + data[at + len(bits):]
        return model.write(self.folder), request

    def test_each_kind_of_tensor_and_every_dtype(self):
        for tensor, place in self.PLACES.items():
            for dtype in "f32", "bf16", "int8":
                folder, request = self.spoilt(tensor, place, float("nan"))
                done = self.run_quire(folder, request, "--set", f"model.weight_dtype={dtype}")
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertRegex(done.stderr, rf'model.safetensors: tensor "{tensor}"\[{place}\] is -?nan; weights must')

    def test_infinite_values_and_those_that_bf16_makes_so(self):
        for value, text in (float("inf"), "inf"), (float("-inf"), "-inf"), (3.4e38, "3.4e[+]38"):
            folder, request = self.spoilt("model.norm.weight", "4", value)
            self.assertRegex(self.run_quire(folder, request).stderr, rf'"model.norm.weight"\[4\] is {text};')
        folder, request = self.spoilt("model.norm.weight", "4", 3.3e38)
        self.assertNotIn("model.norm.weight", self.run_quire(folder, request).stderr)

    def test_they_may_be_asked_for_but_int8_has_none(self):
        folder, request = self.spoilt("model.embed_tokens.weight", "5, 3", float("nan"))
        request["prompt"] = [5]
        unchecked = ["--set", "model.check_tensors=false"]
        answer = json.loads(self.run_quire(folder, request, *unchecked).stdout)
        self.assertEqual(answer["error"]["status"], "ERR_EXECUTION")
        done = self.run_quire(folder, request, *unchecked, "--set", "model.weight_dtype=int8")
        self.assertIn("[5, 3] is nan", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
