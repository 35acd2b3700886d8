"""The shape of a model, read from and written to `config.json` with the key names of Hugging Face's LlamaForCausalLM.

Whoever loads weights (the decoder, the torch module, fine-tuning, `transformers`) reads this one file. It holds no
default for a dimension: weights without their shape are refused, never guessed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.base.errors import InvalidInput


@dataclass(frozen=True)
class ImageConfig:
    """How an image becomes soft tokens: a square grid of cells, a few numbers for each cell, a two-layer projection."""

    grid: int
    """Cells a side; the image takes `grid * grid` tokens of the prompt."""
    features: int
    """Numbers for each cell, see `stoker.nn.image.cell_features`."""
    hidden: int
    """Width of the projector's hidden layer."""

    @property
    def tokens(self) -> int:
        return self.grid * self.grid


@dataclass(frozen=True)
class ModelConfig:
    """A Llama-style decoder: RMSNorm, rotary positions, SwiGLU, grouped queries, embeddings tied to the output."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    """The longest sequence, prompt and answer together, that positions exist for."""
    rms_norm_eps: float
    rope_theta: float
    bos_token_id: int
    eos_token_id: int
    image: ImageConfig | None = None
    """None: the model takes text only."""

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise InvalidInput(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})",
                param="num_key_value_heads",
            )
        if self.head_dim % 2:
            raise InvalidInput(f"head_dim ({self.head_dim}) must be even: positions rotate pairs", param="head_dim")

    @property
    def query_size(self) -> int:
        return self.num_attention_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_key_value_heads * self.head_dim


_PLAIN = [name for name in ModelConfig.__dataclass_fields__ if name != "image"]
_FIXED = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "dtype": "float16",
}


def to_json(config: ModelConfig) -> str:
    document: dict[str, Any] = {**_FIXED, **{name: getattr(config, name) for name in _PLAIN}}
    if config.image is not None:
        image = config.image
        document["stoker_image"] = {"grid": image.grid, "features": image.features, "hidden": image.hidden}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def from_json(text: str) -> ModelConfig:
    """Raises InvalidInput for a missing key, and for a variant of Llama that the decoder does not compute."""
    document = json.loads(text)
    for name, wanted in _FIXED.items():
        if name != "dtype" and document.get(name, wanted) != wanted:
            raise InvalidInput(
                f"config.json: {name} is {document[name]!r}; this decoder computes {wanted!r}", param=name
            )
    missing = [name for name in _PLAIN if name not in document]
    if missing:
        raise InvalidInput(f"config.json: missing {', '.join(missing)}", param=missing[0])
    image = document.get("stoker_image")
    return ModelConfig(
        **{name: document[name] for name in _PLAIN}, image=ImageConfig(**image) if image is not None else None
    )


def load(folder: Path) -> ModelConfig:
    return from_json((folder / "config.json").read_text(encoding="utf-8"))
