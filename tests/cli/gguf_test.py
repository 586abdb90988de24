#!/usr/bin/env python3
"""GGUF files: the golden models as such files give the same tokens, and what is not understood is refused.

usage: gguf_test.py QUIRE MODELS [unittest options]"""
import math
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json
from checkpoint import Checkpoint
from gguf_file import as_gguf, write_gguf

QUIRE, MODELS = sys.argv[1], pathlib.Path(sys.argv[2])
EXACT = ["--set", "model.weight_dtype=f32", "--set", "kv_cache.dtype=f32", "--set", "kv_cache.num_kv_blocks=256"]


def floats(data):
    return struct.unpack(f"<{len(data) // 4}f", data)


def llama3_factors(config):
    """What divides the frequency of each pair (Hugging Face's _compute_llama3_parameters)."""
    rope, factors = config["rope_parameters"], []
    old = rope["original_max_position_embeddings"]
    for i in range(config["head_dim"] // 2):
        length = 2 * math.pi * rope["rope_theta"] ** (2 * i / config["head_dim"])
        smooth = (old / length - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
        smooth = min(1, max(0, smooth))
        factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return factors


def block_of(values, codes, low, high):
    """A block's scale, as f16 holds it, and codes."""
    largest = max(values, key=abs)
    scale, = struct.unpack("<e", struct.pack("<e", largest / codes))
    return scale, [min(high, max(low, round(v / scale))) if scale else 0 for v in values]


def q8_0(values):
    scale, codes = block_of(values, 127, -127, 127)
    return struct.pack("<e32b", scale, *codes), [scale * c for c in codes]


def q4_0(values):
    scale, codes = block_of(values, -8, -8, 7)
    pairs = [(a + 8) | (b + 8) << 4 for a, b in zip(codes[:16], codes[16:])]
    return struct.pack("<e16B", scale, *pairs), [scale * c for c in codes]


def quantised(tensor, block):
    """The tensor in blocks of 32, and with the values that these have."""
    blocks = [block(floats(tensor[2][i:i + 128])) for i in range(0, len(tensor[2]), 128)]
    values = [v for _, part in blocks for v in part]
    return b"".join(part for part, _ in blocks), struct.pack(f"<{len(values)}f", *values)


class GgufTest(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        self.folder = pathlib.Path(self.place.name)
        self.file = self.folder / "a-model.gguf"

    def golden(self, name):
        case = json.loads((MODELS / name / "expected.json").read_text())["cases"][0]
        request = {"prompt": case["prompt"], "max_tokens": case["max_tokens"], "ignore_eos": True, "logits": "first"}
        return Checkpoint(MODELS / name), request, case

    def run_quire(self, path, request):
        return subprocess.run([QUIRE, "generate", "--model", str(path), *EXACT], capture_output=True,
                              input=json.dumps(request) + "\n", text=True, timeout=60)

    def answer(self, path, request):
        done = self.run_quire(path, request)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def agrees(self, path, request, case):
        done = self.run_quire(path, request)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("warning", done.stderr)
        answer = json.loads(done.stdout)
        self.assertEqual(answer["tokens"], case["tokens"])
        for got, wanted in zip(answer["first_logits"], case["first_logits"], strict=True):
            self.assertAlmostEqual(got, wanted, delta=2e-3)
        return done.stderr

    def refused(self, metadata, tensors, *words):
        done = self.run_quire(write_gguf(self.file, metadata, tensors), {"prompt": [1]})
        self.assertNotEqual(done.returncode, 0)
        for word in ("a-model.gguf", *words):
            self.assertIn(word, done.stderr)


class Models(GgufTest):
    def test_qwen2_with_biases_and_a_tied_embedding(self):
        model, request, case = self.golden("qwen2-bias")
        said = self.agrees(write_gguf(self.file, *as_gguf(model)), request, case)
        self.assertIn("a-model.gguf: qwen2 of 2 layers, tensors: ", said)
        self.assertIn(" F32", said)

    def test_qwen3_with_norms_of_heads(self):
        model, request, case = self.golden("qwen3-qknorm")
        self.agrees(write_gguf(self.file, *as_gguf(model)), request, case)

    def test_llama_with_pairs_and_a_factor_for_each(self):
        model, request, case = self.golden("llama3-gqa")
        metadata, tensors = as_gguf(model)
        factors = llama3_factors(model.config)
        metadata["llama.rope.freq_base"] = model.config["rope_parameters"]["rope_theta"]
        tensors["rope_freqs.weight"] = ("F32", [len(factors)], struct.pack(f"<{len(factors)}f", *factors))
        self.agrees(write_gguf(self.file, metadata, tensors), request, case)

    def test_llama_with_linear_scaling_in_its_new_and_its_old_form(self):
        model, request, case = self.golden("llama-linear")
        for scaling in ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, {"rope.scale_linear": 4.0}):
            metadata, tensors = as_gguf(model)
            metadata |= {f"llama.{key}": value for key, value in scaling.items()}
            self.agrees(write_gguf(self.file, metadata, tensors), request, case)

    def test_yarn(self):
        model, request, case = self.golden("qwen2-yarn")
        metadata, tensors = as_gguf(model)
        metadata |= {"qwen2.rope.scaling.type": "yarn", "qwen2.rope.scaling.factor": 4.0,
                     "qwen2.rope.scaling.original_context_length": 64}
        self.agrees(write_gguf(self.file, metadata, tensors), request, case)

    def test_a_window_is_mistrals(self):
        model, request, case = self.golden("mistral-swa")
        model.config["model_type"] = "llama"
        metadata, tensors = as_gguf(model)
        metadata["llama.attention.sliding_window"] = model.config["sliding_window"]
        self.agrees(write_gguf(self.file, metadata, tensors), request, case)

    def test_granite_with_its_multipliers(self):
        model, request, case = self.golden("granite")
        metadata, tensors = as_gguf(model)
        keys = {"attention_multiplier": "attention.scale", "embedding_multiplier": "embedding_scale",
                "residual_multiplier": "residual_scale", "logits_scaling": "logit_scale"}
        metadata |= {f"granite.{key}": model.config[name] for name, key in keys.items()}
        self.agrees(write_gguf(self.file, metadata, tensors), request, case)
        del metadata["granite.residual_scale"]
        self.refused(metadata, tensors, "granite.residual_scale: missing")

    def test_smollm3_without_rotation_in_every_fourth_layer(self):
        model, request, _ = self.golden("smollm3")
        del model.config["no_rope_layers"]
        wanted = self.answer(model.write(self.folder / "folder"), request)
        answer = self.answer(write_gguf(self.file, *as_gguf(model)), request)
        self.assertEqual((answer["tokens"], answer["first_logits"]), (wanted["tokens"], wanted["first_logits"]))

    def as_folder_and_file(self, model, request, change=None):
        """The same answer, to the bit, from both."""
        wanted = self.answer(model.write(self.folder / "folder"), request)
        metadata, tensors = as_gguf(model)
        answer = self.answer(write_gguf(self.file, metadata | (change or {}), tensors), request)
        self.assertEqual((answer["tokens"], answer["first_logits"]), (wanted["tokens"], wanted["first_logits"]))

    def test_gemma2_with_raised_norms_and_caps(self):
        model, request, _ = self.golden("gemma2")
        model.config["query_pre_attn_scalar"] = model.config["head_dim"]
        self.as_folder_and_file(model, request)

    def test_gemma2_of_27_billion_parameters_is_known_by_its_layers(self):
        model, request, _ = self.golden("gemma2")
        for layer in range(model.config["num_hidden_layers"], 46):
            model.tensors |= {name.replace(".layers.0.", f".layers.{layer}."): tensor
                              for name, tensor in model.tensors.items() if ".layers.0." in name}
        model.config["num_hidden_layers"] = 46
        model.config["query_pre_attn_scalar"] = model.config["hidden_size"] // model.config["num_attention_heads"]
        model.config["head_dim"], heads = 4, model.config["num_attention_heads"]
        for name, (kind, shape, data) in model.tensors.items():  # half of each head, so that the two lengths differ
            if re.search(r"self_attn\.[qkv]_proj", name):
                model.tensors[name] = (kind, [shape[0] // 2, shape[1]], data[:len(data) // 2])
            elif "self_attn.o_proj" in name:
                rows = [data[i:i + len(data) // shape[0] // 2] for i in range(0, len(data), len(data) // shape[0])]
                model.tensors[name] = (kind, [shape[0], heads * 4], b"".join(rows))
        self.as_folder_and_file(model, request)

    def test_gemma3_with_a_base_for_windowed_layers(self):
        model, request, _ = self.golden("gemma3")
        model.config["query_pre_attn_scalar"] = model.config["head_dim"]
        scaling = {"gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 8.0,
                   "gemma3.attention.sliding_window_pattern": 3}
        self.as_folder_and_file(model, request, scaling)
        model.config["rope_local_base_freq"] = 500.0
        self.as_folder_and_file(model, request, scaling | {"gemma3.rope.freq_base_swa": 500.0})

    def test_gemma3_without_a_window_is_refused(self):
        metadata, tensors = as_gguf(self.golden("gemma3")[0])
        del metadata["gemma3.attention.sliding_window"]
        self.refused(metadata, tensors, "sliding_window: null is not supported")

    def test_mixtral_is_a_llama_with_experts(self):
        model, request, case = self.golden("mixtral")
        self.agrees(write_gguf(self.file, *as_gguf(model)), request, case)

    def test_qwen3_with_experts_in_every_layer(self):
        model, request, _ = self.golden("qwen3-moe")
        model.config |= {"num_hidden_layers": 2, "mlp_only_layers": [], "norm_topk_prob": True}
        model.tensors = {name.replace(".layers.2.", ".layers.1."): tensor for name, tensor in model.tensors.items()
                         if ".layers.1." not in name}
        self.as_folder_and_file(model, request)

    def test_experts_that_are_not_as_they_should_be(self):
        stack = "blk.0.ffn_up_exps.weight"
        metadata, tensors = as_gguf(self.golden("mixtral")[0])
        kind, shape, data = tensors[stack]
        self.refused(metadata | {"llama.expert_count": 5}, tensors, "_exps.weight", "4 experts, expert_count is 5")
        self.refused(metadata, tensors | {stack: (kind, [2, *shape[1:]], data[:len(data) // 2])}, stack, "2 experts")
        for others in ({stack: (kind, shape[1:], data[:len(data) // 4])}, {}):
            self.refused(metadata, {name: tensor for name, tensor in tensors.items() if name != stack} | others,
                         "experts.0.w3.weight", "missing, its metadata asks for it")
        self.refused(metadata | {"llama.expert_used_count": 5}, tensors, "num_experts_per_tok: 5 is outside 1..4")
        self.refused(metadata | {"llama.expert_gating_func": 2}, tensors, "llama.expert_gating_func: only 1, softmax")
        self.refused(metadata | {"llama.expert_shared_count": 1}, tensors, "llama.expert_shared_count: not supported")

    def test_blocks_are_what_their_values_are(self):
        for kind, block in (("Q8_0", q8_0), ("Q4_0", q4_0)):
            model, request, _ = self.golden("llama3-gqa")
            metadata, tensors = as_gguf(model)
            plain = dict(tensors)
            for name, tensor in tensors.items():
                if len(tensor[1]) == 2:
                    stored, values = quantised(tensor, block)
                    tensors[name], plain[name] = (kind, tensor[1], stored), ("F32", tensor[1], values)
            wanted = self.answer(write_gguf(self.file, metadata, plain), request)
            got = self.answer(write_gguf(self.file, metadata, tensors), request)
            self.assertEqual((got["tokens"], got["first_logits"]), (wanted["tokens"], wanted["first_logits"]))

    def test_check_lists_what_tensors_become(self):
        model, _, _ = self.golden("qwen2-bias")
        metadata, tensors = as_gguf(model)
        name = "blk.0.ffn_up.weight"
        tensors[name] = ("Q8_0", tensors[name][1], quantised(tensors[name], q8_0)[0])
        write_gguf(self.file, metadata, tensors)
        done = subprocess.run([QUIRE, "check", "--tensors", "--model", str(self.file), "--weight-dtype", "int8", "--set",
                               "kv_cache.size=1MiB"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [line.split() for line in done.stdout.splitlines() if "->" in line]
        self.assertEqual(len(lines), len(tensors))
        self.assertIn("model.layers.0.mlp.up_proj.weight [160, 64] Q8_0 -> int8".split(), lines)
        self.assertIn("model.layers.0.self_attn.q_proj.bias [64] F32 -> f32".split(), lines)
        self.assertIn("model.embed_tokens.weight [288, 64] F32 -> bf16".split(), lines)

    def test_a_scale_that_is_not_finite_is_refused(self):
        model, _, _ = self.golden("llama3-gqa")
        metadata, tensors = as_gguf(model)
        name = "blk.1.ffn_up.weight"
        stored, _ = quantised(tensors[name], q8_0)
        size = len(q8_0([1] * 32)[0])
        second = struct.pack("<e", math.inf) + stored[size + 2:]
        tensors[name] = ("Q8_0", tensors[name][1], stored[:size] + second)
        self.refused(metadata, tensors, 'mlp.up_proj.weight"[0, 32] is inf', "weights must be finite")

    def test_codes_are_kept_where_products_read_them(self):
        model, request, _ = self.golden("llama3-gqa")
        for kind, block, loaded, kept, others in (("Q8_0", q8_0, "int8", 21, 1), ("Q4_0", q4_0, "int4", 19, 3)):
            metadata, tensors = as_gguf(model)
            for name, tensor in tensors.items():
                if len(tensor[1]) == 2 and name != "blk.0.attn_v.weight":
                    tensors[name] = (kind, tensor[1], quantised(tensor, block)[0])
            exact = self.answer(write_gguf(self.file, metadata, tensors), request)["first_logits"]
            done = subprocess.run([QUIRE, "generate", "--model", str(self.file), "--set", "kv_cache.num_kv_blocks=64"],
                                  capture_output=True, input=json.dumps(request) + "\n", text=True, timeout=60)
            logits = json.loads(done.stdout)["first_logits"]
            spread = (sum(x * x for x in exact) / len(exact)) ** 0.5
            self.assertLess(max(abs(a - b) for a, b in zip(logits, exact, strict=True)), 0.2 * spread)
            # q, k and v of the first layer are side by side, and v is F32
            self.assertIn(f"the codes of {kept} matrices are kept; {others} others become 8 bits", done.stderr)
            listed = subprocess.run([QUIRE, "check", "--tensors", "--model", str(self.file), "--set", "kv_cache.size=1MiB"],
                                    capture_output=True, text=True, timeout=60).stdout
            self.assertIn(f"lm_head.weight [320, 128] {kind} -> {loaded}, groups of 32", " ".join(listed.split()))
            self.assertIn(f"layers.0.self_attn.q_proj.weight [128, 128] {kind} -> int8, groups of 32",
                          " ".join(listed.split()))

    def test_ends_of_text_stop(self):
        model, request, case = self.golden("qwen2-bias")
        request["ignore_eos"] = False
        stop = case["tokens"][3]
        for key in ("eos", "eot", "eom"):
            metadata, tensors = as_gguf(model)
            metadata[f"tokenizer.ggml.{key}_token_id"] = stop
            answer = self.answer(write_gguf(self.file, metadata, tensors), request)
            self.assertEqual(answer["finish_reason"], "stop")
            self.assertEqual(answer["tokens"], case["tokens"][:case["tokens"].index(stop) + 1])


class Places(GgufTest):
    def test_a_folder_with_one_file(self):
        model, request, case = self.golden("qwen2-bias")
        write_gguf(self.file, *as_gguf(model))
        (self.folder / "config.json").write_text("{}")
        self.agrees(self.folder, request, case)
        write_gguf(self.folder / "b-model.gguf", *as_gguf(model))
        done = self.run_quire(self.folder, request)
        self.assertIn("give one of them", done.stderr)

    def test_parts(self):
        model, request, case = self.golden("qwen2-bias")
        metadata, tensors = as_gguf(model)
        names = sorted(tensors)
        split = {"split.no": 0, "split.count": 3, "split.tensors.count": len(names)}
        for number in range(3):
            part = {name: tensors[name] for name in names[number::3]}
            write_gguf(self.folder / f"m-{number + 1:05}-of-00003.gguf",
                       metadata | split if number == 0 else split | {"split.no": number}, part)
        self.agrees(self.folder / "m-00001-of-00003.gguf", request, case)
        self.agrees(self.folder, request, case)

    def test_a_file_of_another_kind(self):
        self.file.write_text("{}, and more")
        done = self.run_quire(self.file, {"prompt": [1]})
        self.assertIn('a-model.gguf: does not begin with "GGUF"', done.stderr)


class Refusals(GgufTest):
    def test_what_quire_does_not_have(self):
        cases = [({"general.architecture": "mamba"}, 'general.architecture: "mamba" is not supported'),
                 ({"qwen2.expert_count": 8}, "num_experts: a mixture of experts is not supported"),
                 ({"qwen2.rope.dimension_count": 8}, "qwen2.rope.dimension_count: 8 is not the length of keys, 16"),
                 ({"qwen2.attention.value_length": 8}, "qwen2.attention.value_length: 8"),
                 ({"qwen2.attention.sliding_window": 8}, "qwen2.attention.sliding_window: a window is supported with"),
                 ({"qwen2.logit_scale": 0.5}, "qwen2.logit_scale: not supported"),
                 ({"qwen2.attention.causal": False}, "qwen2.attention.causal"),
                 ({"qwen2.rope.scaling.type": "none2", "qwen2.rope.scaling.factor": 2.0}, 'rope_type "none2"')]
        for change, words in cases:
            metadata, tensors = as_gguf(self.golden("qwen2-bias")[0])
            self.refused(metadata | change, tensors, words)

    def test_keys_that_would_change_the_arithmetic(self):
        model, request, case = self.golden("qwen2-yarn")
        metadata, tensors = as_gguf(model)
        metadata |= {"qwen2.rope.scaling.type": "yarn", "qwen2.rope.scaling.factor": 4.0,
                     "qwen2.rope.scaling.original_context_length": 64}
        neutral = {"rope.scaling.yarn_attn_factor": 1.0, "rope.scaling.yarn_ext_factor": 1.0, "final_logit_softcapping": 0.0,
                   "rope.scaling.yarn_log_multiplier": 0.0, "attention.output_scale": 1.0, "use_parallel_residual": False}
        self.agrees(write_gguf(self.file, metadata | {f"qwen2.{key}": value for key, value in neutral.items()}, tensors),
                    request, case)
        self.agrees(write_gguf(self.file, metadata | {"qwen2.rope.scaling.yarn_ext_factor": -1.0}, tensors), request, case)
        for key, value in (("rope.scaling.yarn_attn_factor", 2.0), ("rope.scaling.yarn_ext_factor", 0.5),
                           ("rope.scaling.yarn_ext_factor", 0.0), ("rope.scaling.yarn_log_multiplier", 0.1),
                           ("rope.scaling.alpha", 1000.0), ("rope.dimension_sections", ["4", "2", "2"]),
                           ("attention.temperature_scale", 0.1), ("final_logit_softcapping", 30.0),
                           ("use_parallel_residual", True), ("nextn_predict_layers", 1)):
            self.refused(metadata | {f"qwen2.{key}": value}, tensors, f"qwen2.{key}: ", "supported")
        del metadata["qwen2.rope.scaling.type"]
        self.refused(metadata | {"qwen2.rope.scaling.yarn_ext_factor": 1.0}, tensors, "yarn_ext_factor: only 0")

    def test_metadata_that_is_not_as_it_should_be(self):
        for key, item, *words in (("qwen2.block_count", None, "qwen2.block_count: missing"),
                                  ("qwen2.block_count", "2", "qwen2.block_count: expected an integer, found"),
                                  ("qwen2.attention.head_count", ["4"], "head_count: expected an integer, found an array"),
                                  ("qwen2.attention.layer_norm_rms_epsilon", float("nan"), "found NaN"),
                                  ("qwen2.attention.head_count", 0, "num_attention_heads: 0 is outside"),
                                  ("qwen2.attention.head_count_kv", None, "k_proj.weight\" at byte", "implies [64, 64]"),
                                  ("tokenizer.ggml.eos_token_id", 999, "eos_token_id: 999 is outside 0..287")):
            metadata, tensors = as_gguf(self.golden("qwen2-bias")[0])
            metadata.pop(key, None)
            self.refused(metadata if item is None else metadata | {key: item}, tensors, *words)

    def test_tensors_that_are_not_as_they_should_be(self):
        q, name = "blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"
        metadata, tensors = as_gguf(self.golden("qwen2-bias")[0])
        kind, shape, data = tensors[q]
        self.refused(metadata, {k: v for k, v in tensors.items() if k != q}, name, "missing, its metadata asks for it")
        self.refused(metadata, tensors | {q: (kind, shape[::-1] + [1], data)}, name, "its shape is", "its metadata")
        self.refused(metadata, tensors | {q: ("I32", shape, data)}, name, "dtype I32 is not supported")
        self.refused(metadata, tensors | {"blk.0.ssm.weight": tensors["output_norm.weight"]}, "blk.0.ssm.weight",
                     "not part of the qwen2")
        self.refused(metadata, tensors | {"model.norm.weight": tensors["output_norm.weight"]}, "appears twice")
        metadata, tensors = as_gguf(self.golden("llama3-gqa")[0])
        self.refused(metadata, tensors | {"rope_freqs.weight": ("F32", [2], bytes(8))}, "rope_freqs.weight",
                     "2 factors, expected 8")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
