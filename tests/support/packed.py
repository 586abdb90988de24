"""Packs the matrices of a Checkpoint as GPTQ, AWQ and compressed-tensors write them, by the formats' descriptions alone;
and gives the values that such a matrix has."""
import random
import struct

AWQ_COLUMNS = [0, 2, 4, 6, 1, 3, 5, 7]  # which column of eight has field 0, 1, ... of a word
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def halves(values):
    return struct.pack(f"<{len(values)}e", *values)


def words(values):
    return struct.pack(f"<{len(values)}I", *values)


def word(fields, bits):
    return sum(field << (i * bits) for i, field in enumerate(fields))


class Matrix:
    """Random codes [columns][k], zeros and scales [columns][groups], the group of each input."""

    def __init__(self, columns, k, bits, group, symmetric=False, ordered=False, seed=1):
        draw = random.Random(seed)
        self.columns, self.k, self.bits, self.groups = columns, k, bits, -(-k // group)
        self.codes = [[draw.randrange(1 << bits) for _ in range(k)] for _ in range(columns)]
        middle, spread = 1 << bits - 1, 1 << bits - 2
        self.zeros = [[middle if symmetric else middle + draw.randrange(-spread, spread) for _ in range(self.groups)]
                      for _ in range(columns)]
        raw = [draw.uniform(0.5, 1.5) / (1 << bits) / k ** 0.5 for _ in range(columns * self.groups)]
        flat = struct.unpack(f"<{len(raw)}e", halves(raw))
        self.scales = [list(flat[c * self.groups:(c + 1) * self.groups]) for c in range(columns)]
        self.order = [i // group for i in range(k)]
        if ordered:
            draw.shuffle(self.order)

    def values(self):
        """As F32, what the weight is."""
        flat = [self.scales[c][g] * (self.codes[c][i] - self.zeros[c][g]) for c in range(self.columns)
                for i, g in enumerate(self.order)]
        return "F32", [self.columns, self.k], struct.pack(f"<{len(flat)}f", *flat)

    def by_group(self, table):
        return [[table[c][g] for c in range(self.columns)] for g in range(self.groups)]

    def scales_by_group(self):
        return "F16", [self.groups, self.columns], halves(sum(self.by_group(self.scales), []))

    def gptq(self, with_order=True, version=1):
        per, mask = 32 // self.bits, (1 << self.bits) - 1
        rows = [word([self.codes[c][i + j] for j in range(per)], self.bits)
                for i in range(0, self.k, per) for c in range(self.columns)]
        less = 1 if version == 1 else 0
        zeros = [word([(z - less) & mask for z in row[c:c + per]], self.bits)
                 for row in self.by_group(self.zeros) for c in range(0, self.columns, per)]
        parts = {"qweight": ("I32", [self.k // per, self.columns], words(rows)),
                 "qzeros": ("I32", [self.groups, self.columns // per], words(zeros)), "scales": self.scales_by_group()}
        if with_order:
            parts["g_idx"] = ("I32", [self.k], words(self.order))
        return parts

    def awq(self):
        def pack(row):
            return [word([row[c + i] for i in AWQ_COLUMNS], 4) for c in range(0, self.columns, 8)]

        rows = sum((pack([self.codes[c][i] for c in range(self.columns)]) for i in range(self.k)), [])
        zeros = sum((pack(row) for row in self.by_group(self.zeros)), [])
        return {"qweight": ("I32", [self.k, self.columns // 8], words(rows)),
                "qzeros": ("I32", [self.groups, self.columns // 8], words(zeros)), "scales": self.scales_by_group()}

    def compressed(self, symmetric, with_order=False):
        per = 32 // self.bits
        rows = [word(row[i:i + per], self.bits) for row in self.codes for i in range(0, self.k, per)]
        parts = {"weight_packed": ("I32", [self.columns, -(-self.k // per)], words(rows)),
                 "weight_scale": ("F16", [self.columns, self.groups], halves(sum(self.scales, []))),
                 "weight_shape": ("I64", [2], struct.pack("<2q", self.columns, self.k))}
        if not symmetric:
            zeros = [word([row[g] for row in self.zeros[c:c + per]], self.bits)
                     for c in range(0, self.columns, per) for g in range(self.groups)]
            parts["weight_zero_point"] = ("I32", [-(-self.columns // per), self.groups], words(zeros))
        if with_order:
            parts["weight_g_idx"] = ("I32", [self.k], words(self.order))
        return parts

    def int8(self, symmetric):
        flat = [code - 128 for row in self.codes for code in row]
        parts = {"weight": ("I8", [self.columns, self.k], struct.pack(f"{len(flat)}b", *flat)),
                 "weight_scale": ("F16", [self.columns, self.groups], halves(sum(self.scales, [])))}
        if not symmetric:
            zeros = [z - 128 for row in self.zeros for z in row]
            parts["weight_zero_point"] = ("I8", [self.columns, self.groups], struct.pack(f"{len(zeros)}b", *zeros))
        return parts


def quantise(model, pack, **how):
    """(tensors with packed matrices, tensors with their values); pack(matrix) -> part -> tensor."""
    packed, plain = {}, {}
    for seed, (name, tensor) in enumerate(sorted(model.tensors.items())):
        stem = name.removesuffix(".weight")
        if not stem.endswith(MATRICES):
            packed[name] = plain[name] = tensor
            continue
        matrix = Matrix(*tensor[1], seed=seed, **how)
        plain[name] = matrix.values()
        packed |= {f"{stem}.{part}": content for part, content in pack(matrix).items()}
    return packed, plain
