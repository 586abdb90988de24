"""What a model is."""
from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ._binding import text_of
from ._quire import ffi, lib


@dataclass(slots=True, frozen=True)
class ModelInfo:
    """What a model is. `generation` has what its generation_config.json says for requests that do not."""

    name: str
    path: str | None  # None: a preset
    architecture: str
    parameters: int
    active_parameters: int
    weight_bytes: int
    vocab_size: int
    max_model_len: int  # of this engine: prompt and output
    max_encoder_positions: int
    encoder_feature_size: int  # 0: an encoder input is tokens
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    encoder_layers: int  # 0: decoder-only
    decoder_start_token_id: int | None
    eos_token_ids: tuple[int, ...]
    weight_dtype: str
    batch_invariant: bool
    generation: dict[str, Any]


RULES = ("banned", "first_banned", "first_allowed", "last_allowed")
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def describe(model: Any, path: str | None, stats: Any) -> ModelInfo:
    info = ffi.new("quire_model_info *", {"size": ffi.sizeof("quire_model_info")})
    lib.quire_model_describe(model, info)
    generation = {name: value for name in _SAMPLING if (value := getattr(info.sampling, name)) > 0}
    if info.max_new_tokens > 0:
        generation["max_tokens"] = info.max_new_tokens
    for rule in RULES:
        if (count := getattr(info, rule + "_count")) > 0:
            generation[rule + "_token_ids"] = ffi.unpack(getattr(info, rule), count)
    same = {field.name: getattr(info, field.name) for field in fields(ModelInfo) if hasattr(info, field.name)}
    same |= {"name": text_of(info.name), "architecture": text_of(info.architecture), "path": path,
             "decoder_start_token_id": info.decoder_start_token_id if info.encoder_layers > 0 else None,
             "eos_token_ids": tuple(ffi.unpack(info.eos_token_ids, info.eos_count)),
             "weight_dtype": text_of(lib.quire_dtype_name(info.weight_dtype)), "max_model_len": stats.max_model_len,
             "batch_invariant": stats.batch_invariant, "generation": generation}
    return ModelInfo(**same)
