"""quire decodes many transformer sequences together on CPUs: docs/PYTHON.md.

    llm = quire.LLM("models/smollm2-135m")
    for output in llm.generate(["Once upon a time"], quire.SamplingParams(max_tokens=32)):
        print(output.outputs[0].text)"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .request import (CacheEvent, CompletionOutput, EngineClosed, Logprob, MaskRow, Prompt, PromptDict, QuireError, RequestOutput,
                      SamplingParams, SequenceMetrics, TokenMask)

if TYPE_CHECKING:
    from .async_engine import AsyncEngine
    from .llm import LLM

__all__ = ["LLM", "AsyncEngine", "CacheEvent", "CompletionOutput", "EngineClosed", "Logprob", "MaskRow", "Prompt", "PromptDict",
           "QuireError", "RequestOutput", "SamplingParams", "SequenceMetrics", "TokenMask", "build_info"]


def __getattr__(name: str) -> Any:
    """What needs the library or asyncio is imported at its first use."""
    if name == "LLM":
        from .llm import LLM
        return LLM
    if name == "AsyncEngine":
        from .async_engine import AsyncEngine
        return AsyncEngine
    raise AttributeError(f"module 'quire' has no attribute {name!r}")


def build_info() -> str:
    """One line for logs and reports: version, compiler, oneDNN, hwloc, instruction sets."""
    from ._binding import build_info
    return build_info()
