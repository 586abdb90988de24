#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/gguf/blocks.gguf: each block format of GGUF that is read, beside the values that the Python
package gguf (0.19.0, with numpy) gives its bytes. Bytes are random, scales are finite.

usage: make_gguf_blocks.py FILE"""
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize

ROWS = 3
# where a block has its f16 scales
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208]}

random = np.random.default_rng(7)
writer = GGUFWriter(sys.argv[1], "llama")
writer.add_name("blocks")
writer.add_array("some.numbers", [1, 2, 3])
writer.add_array("some.words", ["a", "bc", ""])
for name, places in SCALES.items():
    kind = GGMLQuantizationType[name]
    elements, size = GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (ROWS, 256 // elements, size), dtype=np.uint8)
    for place in places:
        scales = random.normal(0, 0.1, blocks.shape[:2]).astype(np.float16)
        blocks[:, :, place:place + 2] = scales[:, :, None].view(np.uint8)
    data = blocks.reshape(ROWS, -1)
    writer.add_tensor(name, data, raw_dtype=kind)
    writer.add_tensor(name + ".values", dequantize(data, kind).astype(np.float32).reshape(ROWS, 256))
values = random.normal(0, 1, (ROWS, 32)).astype(np.float32)
half = values.astype(np.float16)
bf16 = (values.view(np.uint32) >> 16).astype(np.uint16)
writer.add_tensor("F16", half)
writer.add_tensor("F16.values", half.astype(np.float32))
writer.add_tensor("BF16", bf16.view(np.uint8), raw_dtype=GGMLQuantizationType.BF16)
writer.add_tensor("BF16.values", (bf16.astype(np.uint32) << 16).view(np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
