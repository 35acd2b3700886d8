"""Decode steps and prompt rates of kernels that others measured, for the sizes of model that they measured.

Sums of kernel times (AIConfigurator 095f58a5, operator tables of vLLM, bf16): no all-reduce, no scheduler. `engines`
adds those, and scales the rows to other models of the same size.
"""

from collections.abc import Mapping
from dataclasses import dataclass

CONTEXT = 1024
"""Tokens of context of each sequence, in the decode steps."""


@dataclass(frozen=True, eq=False)
class Row:
    reference: str
    """The model whose shape stands for the size."""
    gpu: str
    tp: int
    decode_ms: Mapping[int, float]
    """By sequences in the step."""
    prompt_tokens_per_ms: float | None = None


_8B = "meta-llama/Llama-3.1-8B-Instruct"
_14B = "Qwen/Qwen3-14B"
_34B = "codellama/CodeLlama-34b-Instruct-hf"
_70B = "meta-llama/Llama-3.1-70B-Instruct"

ROWS: tuple[Row, ...] = (
    Row(_8B, "l40s", 1, {1: 21.1, 8: 22.1, 32: 30.5, 64: 37.9, 128: 51.8}, 15.6),
    Row(_8B, "a100-80", 1, {1: 11.5, 8: 12.0, 32: 14.9, 64: 17.0, 128: 23.8}, 17.6),
    Row(_8B, "h100", 1, {1: 5.9, 8: 6.1, 32: 8.1, 64: 10.1, 128: 12.2, 256: 18.8}, 55.0),
    Row(_8B, "h200", 1, {1: 4.5, 32: 6.0, 64: 7.2, 128: 9.4}, 55.0),
    Row(_14B, "l40s", 1, {1: 39.5}, 8.7),
    Row(_14B, "a100-80", 1, {1: 21.2}, 9.6),
    Row(_14B, "h100", 1, {1: 10.6}, 29.0),
    Row(_14B, "h200", 1, {}, 29.0),
    Row(_34B, "a100-80", 1, {1: 44.1}),
    Row(_34B, "l40s", 2, {1: 49.2}, 7.3),
    Row(_34B, "a100-80", 2, {}, 8.0),
    Row(_34B, "h100", 2, {1: 12.1, 64: 15.4}, 24.4),
    Row(_70B, "l40s", 4, {1: 52.3}, 6.9),
    Row(_70B, "a100-80", 4, {1: 25.4, 64: 32.2, 128: 40.2}, 7.7),
    Row(_70B, "h100", 4, {1: 13.2, 64: 16.3, 128: 19.1}, 23.8),
    Row(_70B, "h200", 4, {1: 10.8, 64: 12.0}, 23.0),
    Row(_70B, "h200", 2, {1: 20.3, 64: 22.5}),
)
