"""Tiny random models of `transformers`' own classes, for the tests that hold ours beside them."""

from pathlib import Path
from typing import Any

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"tie_word_embeddings": True}),
    "llama untied": ("Llama", {"tie_word_embeddings": False}),
    "llama 3": ("Llama", {"tie_word_embeddings": False, "rope_parameters": LLAMA3_ROPE, "eos_token_id": [2, 5]}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2 untied": ("Qwen2", {"tie_word_embeddings": False}),
    "qwen3": ("Qwen3", {"tie_word_embeddings": True, "head_dim": 16}),
    "qwen3 untied": ("Qwen3", {"tie_word_embeddings": False, "head_dim": 16}),
}


def hf_model(kind: str, **more: Any) -> Any:
    """In float32, every parameter random, also those that begin as zeros or ones."""
    import torch
    import transformers

    family, changes = KINDS[kind]
    config = getattr(transformers, f"{family}Config")(
        **{
            "vocab_size": 96,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
            **changes,
            **more,
        }
    )
    torch.manual_seed(7)
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.3)
    model.tie_weights()
    return model.eval()


def saved(kind: str, folder: Path, **options: Any) -> Any:
    model = hf_model(kind)
    model.save_pretrained(folder, **options)
    return model


def tokens_of(count: int, rows: int = 1) -> Any:
    import torch

    return torch.randint(0, 96, (rows, count), generator=torch.Generator().manual_seed(3))
