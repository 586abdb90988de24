#!/usr/bin/env python3
"""Predicts a decoding step over 1, 2, 4 and 8 ranks, one a machine, and compares it with as many replicas.

  step(n, M) = max(weights / n / bandwidth, M x 2 x parameters / n / peak) + keys and values / n / bandwidth
             + messages x latency + bytes received / rate

Messages and bytes are those of docs/SCALE.md, exchanges are not overlapped with products. Everything is an argument;
docs/STUDIES.md has the tables and says where the constants come from."""
import argparse

SHAPES = {  # layers, hidden, query columns, key and value columns together, intermediate, vocabulary
    "8B": (32, 4096, 4096, 2048, 14336, 128256),
    "70B": (80, 8192, 8192, 2048, 28672, 128256),
}
BYTES = {"bf16": 2, "int8": 1}


def parameters(shape):
    layers, h, q, kv, f, vocabulary = shape
    return layers * (h * (q + kv) + q * h + 3 * h * f) + vocabulary * h  # those that a step reads


def compute_s(o, shape, dtype, ranks, rows):
    layers, _, _, kv, _, _ = shape
    weights = parameters(shape) * BYTES[dtype] / (o.bandwidth * 1e9)
    arithmetic = rows * 2 * parameters(shape) / (o.peak * 1e9 * (2 if dtype == "int8" else 1))
    cache = rows * o.context * layers * kv * 2 / (o.bandwidth * 1e9)
    return (max(weights, arithmetic) + cache) / ranks


def messages(shape):
    return 4 * shape[0] + 1 + 1 + 3  # layers, embedding, logits, what is new and how it went


def network_s(o, shape, dtype, ranks, rows):
    if ranks == 1:
        return 0.0
    layers, h, q, _, f, _ = shape
    activation = 2 if dtype == "bf16" else 4  # f32 beside int8 weights
    layer = (ranks - 1) / ranks * rows * (activation * (q + f) + 4 * h + 4 * h)
    first = (ranks - 1) / ranks * rows * 4 * h
    return messages(shape) * o.latency * 1e-6 + (layers * layer + first) / (o.rate * 1e9)


def step_s(o, shape, dtype, ranks, rows):
    return compute_s(o, shape, dtype, ranks, rows) + network_s(o, shape, dtype, ranks, rows)


def shape_of(text):
    numbers = text.split(",")
    if len(numbers) != 6 or not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not six whole numbers of at least 1")
    return {text: tuple(map(int, numbers))}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bandwidth", type=float, default=50.8, help="GB/s that a machine reads (default %(default)s)")
    p.add_argument("--peak", type=float, default=472, help="GFLOP/s in bf16, int8 twice that (default %(default)s)")
    p.add_argument("--latency", type=float, default=30, help="us of a message (default %(default)s)")
    p.add_argument("--rate", type=float, default=1.25, help="GB/s of the network (default %(default)s)")
    p.add_argument("--context", type=int, default=1024, help="tokens of a sequence, bf16 keys (default %(default)s)")
    p.add_argument("--shape", type=shape_of, default=SHAPES, metavar="L,H,Q,KV,F,V", help="layers, hidden size, columns of queries, "
                   "of keys and values together, intermediate size and vocabulary of a model instead of the two")
    o = p.parse_args()
    if min(o.bandwidth, o.peak, o.rate) <= 0 or min(o.latency, o.context) < 0:
        p.error("bandwidth, peak and rate must be above 0, latency and context not below")
    print("| shape | weights | sequences | 1 machine, ms | 2 | 4 | 8 | network's share at 8 | 8 ranks against 8 replicas |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, shape in o.shape.items():
        for dtype in BYTES:
            for rows in (1, 16, 64):
                steps = [step_s(o, shape, dtype, n, rows) for n in (1, 2, 4, 8)]
                share = network_s(o, shape, dtype, 8, rows) / steps[3]
                replicas = step_s(o, shape, dtype, 1, max(1, rows / 8))  # the sequences are dealt to them
                cells = " | ".join(f"{1e3 * s:,.0f}" for s in steps)
                print(f"| {name} | {dtype} | {rows} | {cells} | {100 * share:.0f} % | {replicas / steps[3]:.2f} x |")


if __name__ == "__main__":
    main()
