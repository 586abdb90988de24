#!/usr/bin/env python3
"""Folders with matrices of 4 and 8 bits as GPTQ, AWQ and compressed-tensors write them: they compute what a folder with the
values of these matrices does.

usage: packed_test.py QUIRE MODELS [unittest options]"""
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import strict_json as json
from checkpoint import Checkpoint
from packed import quantise

QUIRE, MODELS = sys.argv[1], pathlib.Path(sys.argv[2])
EXACT = ["--set", "model.weight_dtype=f32", "--set", "kv_cache.dtype=f32", "--set", "kv_cache.num_kv_blocks=256"]
REQUEST = {"prompt": [5, 17, 33, 2, 9], "max_tokens": 8, "ignore_eos": True, "logits": "first"}
Q = "model.layers.0.self_attn.q_proj."


class PackedTest(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        self.folder = pathlib.Path(self.place.name) / "a-model"

    def run_quire(self, folder, *arguments):
        return subprocess.run([QUIRE, "generate", "--model", folder, *EXACT, *arguments], capture_output=True,
                              input=json.dumps(REQUEST) + "\n", text=True, timeout=60)

    def answer(self, folder):
        done = self.run_quire(folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        answer = json.loads(done.stdout)
        return answer["tokens"], answer["first_logits"]

    def models(self, config, pack, **how):
        """The packed one and the plain one; qwen2 has biases, k of 64 and 160."""
        packed, plain = Checkpoint(MODELS / "qwen2-bias"), Checkpoint(MODELS / "qwen2-bias")
        packed.tensors, plain.tensors = quantise(plain, pack, **how)
        packed.config["quantization_config"] = config
        return packed, plain

    def same(self, config, pack, **how):
        packed, plain = self.models(config, pack, **how)
        with self.subTest(config=config, **how):
            wanted = self.answer(plain.write(self.folder))
            self.assertEqual(self.answer(packed.write(self.folder)), wanted)
        return packed

    def refused(self, model, *words):
        done = self.run_quire(model.write(self.folder))
        self.assertNotEqual(done.returncode, 0)
        for word in ("a-model", *words):
            self.assertIn(word, done.stderr)


class Formats(PackedTest):
    def test_codes_are_kept_where_products_read_them(self):
        ct = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
        for config, pack, bits, ordered, loaded in (
                ({"bits": 4, "group_size": 32}, lambda m: m.gptq(), 4, False, "int4, groups of 32 with minimum"),
                ({"bits": 4, "group_size": 32}, lambda m: m.gptq(), 4, True, "int8, groups of 32"),
                ({"bits": 8, "group_size": 32}, lambda m: m.gptq(), 8, False, "int8, groups of 32"),
                ({"quant_method": "awq"}, lambda m: m.awq(), 4, False, "int4, groups of 32 with minimum"),
                (ct, lambda m: m.compressed(True), 4, False, "int4, groups of 32"),
                (ct, lambda m: m.compressed(True), 8, False, "int8, groups of 32")):
            packed, _ = self.models(config, pack, bits=bits, group=32, ordered=ordered, symmetric="format" in config)
            folder = packed.write(self.folder)
            with self.subTest(config=config, loaded=loaded):
                exact = self.answer(folder)[1]
                done = self.run_quire(folder, "--weight-dtype", "auto")
                kept = json.loads(done.stdout)["first_logits"]
                spread = (sum(x * x for x in exact) / len(exact)) ** 0.5
                self.assertLess(max(abs(a - b) for a, b in zip(kept, exact, strict=True)), 0.2 * spread)
                listed = subprocess.run([QUIRE, "check", "--tensors", "--model", folder, "--set", "kv_cache.size=1MiB"],
                                        capture_output=True, text=True, timeout=60).stdout.splitlines()
                line, = (line for line in listed if line.startswith(Q + "weight"))
                self.assertEqual(line.split("-> ")[1], loaded)

    def test_gptq(self):
        for bits, group, ordered in ((4, 32, False), (4, 32, True), (8, 32, True), (8, 1 << 20, False), (4, 64, False)):
            config = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": ordered}
            how = {"bits": bits, "group": min(group, 160), "ordered": ordered}
            if group == 1 << 20:
                config["group_size"] = -1
            self.same(config, lambda m: m.gptq(), **how)
            self.same(config | {"checkpoint_format": "gptq_v2"}, lambda m: m.gptq(version=2), **how)
        for group in (32, 64):
            self.same({"bits": 4, "group_size": group}, lambda m: m.gptq(with_order=False), bits=4, group=group)

    def test_gptq_with_settings_in_a_file_of_their_own(self):
        packed, plain = self.models({}, lambda m: m.gptq(), bits=4, group=32)
        wanted = self.answer(plain.write(self.folder))
        packed.files["quantize_config.json"] = packed.config.pop("quantization_config") | {"bits": 4, "group_size": 32}
        self.assertEqual(self.answer(packed.write(self.folder)), wanted)

    def test_biases_of_zeros_that_autogptq_adds(self):
        packed, plain = self.models({"bits": 4}, lambda m: m.gptq(), bits=4, group=32)
        wanted = self.answer(plain.write(self.folder))
        name = "model.layers.1.mlp.up_proj.bias"
        packed.tensors[name] = ("F16", [160], bytes(320))
        self.assertEqual(self.answer(packed.write(self.folder)), wanted)
        packed.tensors[name] = ("F16", [160], bytes(318) + b"\0\x01")
        self.refused(packed, name, "not part of the qwen2")

    def test_awq(self):
        self.same({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}, lambda m: m.awq(), bits=4,
                  group=32)

    def test_compressed_tensors(self):
        config = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
        for symmetric in (True, False):
            for bits, group in ((4, 32), (8, 64), (4, 160)):
                groups = {"group_0": {"weights": {"group_size": group}}}
                self.same(config | {"config_groups": groups}, lambda m: m.compressed(symmetric), bits=bits, group=group, symmetric=symmetric)
            self.same(config | {"format": "int-quantized"}, lambda m: m.int8(symmetric), bits=8, group=160,
                      symmetric=symmetric)
        self.same(config, lambda m: m.compressed(True, with_order=True), bits=4, group=32, symmetric=True, ordered=True)

    def test_check_lists_them(self):
        packed, _ = self.models({"quant_method": "awq"}, lambda m: m.awq(), bits=4, group=32)
        done = subprocess.run([QUIRE, "check", "--tensors", "--model", packed.write(self.folder), "--weight-dtype", "bf16",
                               "--set", "kv_cache.size=1MiB"], capture_output=True, text=True, timeout=60)
        self.assertIn(f"{Q}weight [64, 64] AWQ-4 -> bf16".split(), [line.split() for line in done.stdout.splitlines()])


class Refusals(PackedTest):
    def gptq(self, **settings):
        config = {"quant_method": "gptq", "bits": 4, "group_size": 32} | settings
        return self.models(config, lambda m: m.gptq(), bits=4, group=32, ordered=True)[0]

    def test_parts_that_are_missing(self):
        for part in ("scales", "qzeros"):
            model = self.gptq()
            del model.tensors[Q + part]
            self.refused(model, f'"{Q}{part}": missing', "quantization_config")
        model = self.gptq()
        del model.tensors[Q + "qweight"]
        self.refused(model, Q + "weight", "missing")
        model, _ = self.models({"quant_method": "compressed-tensors", "format": "pack-quantized"},
                               lambda m: m.compressed(True), bits=4, group=32, symmetric=True)
        del model.tensors[Q + "weight_shape"]
        self.refused(model, f'"{Q}weight_shape": missing')

    def compressed(self, centred, settings={}, **weights):
        config = {"quant_method": "compressed-tensors", "format": "pack-quantized",
                  "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32} | weights}}} | settings
        return self.models(config, lambda m: m.compressed(centred), bits=4, group=32, symmetric=centred)[0]

    def test_one_matrix_without_what_the_others_have(self):
        model = self.gptq(desc_act=True)
        self.assertEqual(self.run_quire(model.write(self.folder)).returncode, 0)
        del model.tensors[Q + "g_idx"]
        self.refused(model, f'"{Q}g_idx": missing')
        model = self.compressed(False, symmetric=False)
        self.assertEqual(self.run_quire(model.write(self.folder)).returncode, 0)
        del model.tensors[Q + "weight_zero_point"]
        self.refused(model, f'"{Q}weight_zero_point": missing')
        for order in ("group", "dynamic", True):
            self.refused(self.compressed(True, actorder=order), 'weight_g_idx": missing')
        for order in ("weight", "static", False, None):
            self.assertEqual(self.run_quire(self.compressed(True, actorder=order).write(self.folder)).returncode, 0)

    def test_settings_that_contradict_the_tensors(self):
        for size, groups in ((64, 3), (16, 10), (-1, 1)):  # of down_proj's 160 inputs
            self.refused(self.gptq(group_size=size), "scales", f"group_size implies [{groups}, ")
            awq = {"quant_method": "awq", "group_size": size}
            self.refused(self.models(awq, lambda m: m.awq(), bits=4, group=32)[0], "scales", "group_size implies")
            self.refused(self.compressed(True, group_size=size), "weight_scale", "group_size implies")
        self.refused(self.compressed(True, num_bits=8), "weight_packed", "num_bits implies")
        self.refused(self.compressed(False, symmetric=True), "weight_zero_point", "symmetric")
        self.refused(self.compressed(True, group_size=None, strategy="channel"), "weight_scale", "implies")

    def test_settings_that_are_not_supported(self):
        for key, value in (("type", "float"), ("strategy", "tensor"), ("num_bits", 3)):
            self.refused(self.compressed(True, **{key: value}), "config.json", key, "not supported")
        for key, value in (("sparsity_config", {"format": "sparse-bitmask"}), ("kv_cache_scheme", {"num_bits": 8}),
                           ("transform_config", {"config_groups": {"a": {}}})):
            self.refused(self.compressed(True, {key: value}), "config.json")
        for key, value in (("sparsity_config", {"format": "dense"}), ("sparsity_config", {}), ("kv_cache_scheme", None)):
            self.assertEqual(self.run_quire(self.compressed(True, {key: value}).write(self.folder)).returncode, 0)
        groups = {name: {"weights": {"num_bits": bits}} for name, bits in (("group_0", 4), ("group_1", 8))}
        self.refused(self.compressed(True, {"config_groups": groups}), "config_groups", "group_1")
        self.refused(self.compressed(True, strategy="channel"), "group_size", "channel")
        self.refused(self.gptq(group_size=0), "group_size")
        awq = {"quant_method": "awq", "zero_point": False}
        self.refused(self.models(awq, lambda m: m.awq(), bits=4, group=32)[0], "zero_point")

    def test_groups_that_the_scales_alone_say(self):
        for tensor, words in ((("F16", [0, 64], b""), "no scales, or more than inputs"),
                              (("F16", [50, 64], bytes(6400)), "no even groups")):
            model = self.gptq()
            del model.config["quantization_config"]["group_size"]
            model.tensors[Q + "scales"] = tensor
            del model.tensors[Q + "g_idx"]
            self.refused(model, Q + "scales", words)

    def test_parts_that_do_not_fit(self):
        def change(part, tensor, *words):
            model = self.gptq()
            model.tensors[Q + part] = tensor
            self.refused(model, Q + part, *words)

        change("qweight", ("I32", [7, 64], bytes(4 * 448)), "shape is [7, 64]", ".g_idx implies [8, 64]")
        change("qweight", ("I32", [8, 56], bytes(4 * 448)), "shape is [8, 56]", ".scales implies [8, 64]")
        change("qweight", ("I32", [8 * 64], bytes(4 * 512)), "another shape or type")
        change("qweight", ("F32", [8, 64], bytes(4 * 512)), "another shape or type")
        change("scales", ("F16", [2, 32], bytes(128)), "shape is [2, 32]", ".qweight implies [2, 64]")
        change("scales", ("F16", [1, 64], bytes(128)), "shape is [1, 64]", "group_size implies [2, 64]")
        change("scales", ("I32", [2, 64], bytes(512)), "scales of another shape or type")
        change("qzeros", ("I32", [2, 4], bytes(32)), "shape is [2, 4]", ".scales implies [2, 8]")
        change("qzeros", ("I32", [1, 8], bytes(32)), "shape is [1, 8]", ".scales implies [2, 8]")
        change("qzeros", ("F32", [2, 8], bytes(64)), "another type")
        change("g_idx", ("I32", [32], bytes(128)), "not one I32 for each input")
        change("g_idx", ("I32", [64], struct.pack("<64i", *([2] * 64))), "a group that has no scales")
        change("g_idx", ("I32", [64], struct.pack("<64i", *([-1] * 64))), "a group that has no scales")
        model = self.gptq()
        model.tensors[Q + "weight"] = ("F32", [64, 64], bytes(4 * 64 * 64))
        self.refused(model, Q + "weight", "appears twice")

    def test_a_shape_that_cannot_be(self):
        for shape in ((64, -1), (1 << 62, 64), (64, 0), (63, 64)):
            model, _ = self.models({"quant_method": "compressed-tensors", "format": "pack-quantized"},
                                   lambda m: m.compressed(True), bits=4, group=32, symmetric=True)
            model.tensors[Q + "weight_shape"] = ("I64", [2], struct.pack("<2q", *shape))
            self.refused(model, Q + "weight_packed", "its shape is not that of weight_shape")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
