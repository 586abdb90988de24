"""python -m quire.perplexity MODEL FILE: how well a model predicts a text. `quire perplexity` does the same with token ids."""
from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import pathlib
import sys
from collections.abc import Sequence

from ._config import read_assignments
from .llm import LLM
from .request import QuireError, SamplingParams

CTX_SIZE, LEAST_CTX_SIZE = 512, 4


@dataclasses.dataclass(frozen=True)
class Perplexity:
    """As llama.cpp computes it: exp(nll), over the second half of each chunk."""

    perplexity: float
    standard_error: float
    nll: float  # mean of -log p(token | the chunk before it)
    tokens_scored: int
    chunks: int
    ctx_size: int


def perplexity(llm: LLM, text: str | Sequence[int], ctx_size: int | None = None, bos: int | None = None) -> Perplexity:
    """`text`: a text, or token ids. It is cut into chunks of `ctx_size` tokens (default 512, or the longest prompt where that is
    less); what is behind the last whole one is not scored. `bos` replaces the first token of each chunk. Raises QuireError."""
    ids = _ids_of(llm, text)
    most = int(llm.stats()["max_model_len"]) - 1  # a chunk is a prompt, behind which one token must have room
    size = min(CTX_SIZE, most) if ctx_size is None else ctx_size
    if llm.model_info.encoder_layers:
        raise QuireError("ERR_INVALID", "perplexity: only decoder-only models predict a text alone")
    if not LEAST_CTX_SIZE <= size <= most:
        raise QuireError("ERR_INVALID", f"ctx_size: {size} is not in {LEAST_CTX_SIZE}..{most} (max_model_len {most + 1} - 1)")
    if len(ids) < size:
        raise QuireError("ERR_INVALID", f"text: {len(ids)} tokens are less than one chunk of ctx_size {size}")
    chunks = [ids[i:i + size] for i in range(0, len(ids) - size + 1, size)]
    if bos is not None:
        chunks = [[bos, *chunk[1:]] for chunk in chunks]
    losses = list(itertools.chain.from_iterable(_losses(llm, chunks)))
    mean = math.fsum(losses) / len(losses)
    variance = math.fsum((loss - mean) ** 2 for loss in losses) / len(losses)
    error = math.exp(mean) * math.sqrt(variance / (len(losses) - 1)) if len(losses) > 1 else 0.0
    return Perplexity(math.exp(mean), error, mean, len(losses), len(chunks), size)


def _ids_of(llm: LLM, text: str | Sequence[int]) -> list[int]:
    if not isinstance(text, str):
        return list(text)
    return llm.need_tokenizer("text").encode(text)


def _losses(llm: LLM, chunks: list[list[int]]) -> list[list[float]]:
    """-log p of the tokens behind the first half of each chunk."""
    outputs = llm.generate(chunks, SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False), skip_writing_prefix_cache=True)
    losses = []
    for chunk, output in zip(chunks, outputs):
        told = output.prompt_logprobs or []
        losses.append([-entry[token].logprob for token, entry in list(zip(chunk, told))[len(chunk) // 2 + 1:] if entry])
    return losses


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m quire.perplexity", description=perplexity.__doc__)
    parser.add_argument("model", help="a folder as Hugging Face publishes it, or a GGUF file")
    parser.add_argument("file", type=pathlib.Path, help="a text in UTF-8")
    parser.add_argument("--ctx-size", type=int, metavar="N")
    parser.add_argument("--bos", type=int, metavar="ID")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="a key of the configuration")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        with LLM(given.model, options=read_assignments(given.set)) as llm:
            result = perplexity(llm, given.file.read_text(encoding="utf-8"), given.ctx_size, given.bos)
    except (QuireError, OSError, UnicodeDecodeError, ValueError) as error:
        print(f"quire: error: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(dataclasses.asdict(result)))
    else:
        print(f"{result.chunks} chunks of {result.ctx_size} tokens, {result.tokens_scored} tokens scored\n"
              f"perplexity {result.perplexity:.4f} +/- {result.standard_error:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
