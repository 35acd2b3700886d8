"""The shape of a model, read from and written to `config.json` with Hugging Face's key names: Llama, Qwen2 and Qwen3.

Whoever loads weights (the decoder, the torch module, fine-tuning, `transformers`) reads this one file. It holds no
default for a dimension: weights without their shape are refused, never guessed; where `transformers` wrote the file,
what it leaves out has the meaning that it gives it. Whatever changes the computation and is not known here is refused.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stoker.base.errors import InvalidInput

LLAMA, QWEN2, QWEN3 = "LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"
MODEL_TYPES = {LLAMA: "llama", QWEN2: "qwen2", QWEN3: "qwen3"}
"""Each architecture, and what config.json calls it as `model_type`."""


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
class RopeScaling:
    """Llama 3.1's longer positions: slow rotations become `factor` times slower, fast ones stay, those in between are
    blended (the keys of `rope_scaling` whose rope_type is llama3)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True)
class ModelConfig:
    """A decoder with RMSNorm, rotary positions, SwiGLU and grouped queries. Qwen2 adds a bias to queries, keys and
    values, Qwen3 a norm to each head's queries and keys."""

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
    bos_token_id: int | None
    eos_token_id: int | tuple[int, ...] | None
    image: ImageConfig | None = None
    """None: the model takes text only."""
    architecture: str = LLAMA
    tie_word_embeddings: bool = True
    """The output layer is the embeddings; else `lm_head.weight`."""
    rope_scaling: RopeScaling | None = None
    """None: positions turn as `rope_theta` says."""

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

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """All that end an answer."""
        if self.eos_token_id is None:
            return ()
        return self.eos_token_id if isinstance(self.eos_token_id, tuple) else (self.eos_token_id,)

    @property
    def has_qkv_bias(self) -> bool:
        return self.architecture == QWEN2

    @property
    def has_qk_norm(self) -> bool:
        return self.architecture == QWEN3


_DIMENSIONS = {
    "vocab_size": 1 << 24,
    "hidden_size": 1 << 18,
    "intermediate_size": 1 << 20,
    "num_hidden_layers": 1024,
    "num_attention_heads": 4096,
    "num_key_value_heads": 4096,
    "head_dim": 1 << 14,
    "max_position_embeddings": 1 << 24,
}
"""Each with the most that is believed, several times that of any model: what is planned with is made layer by layer."""
_NUMBERS = ("rms_norm_eps", "rope_theta")
_TOKENS = ("bos_token_id", "eos_token_id")
_PLAIN = (*_DIMENSIONS, *_NUMBERS, *_TOKENS)
_FIXED: dict[str, dict[str, Any]] = {
    LLAMA: {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    QWEN2: {"hidden_act": "silu", "use_sliding_window": False},
    QWEN3: {"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False},
}
"""What each architecture's file may say, and its other values are not computed here."""

_READ_APART = ("tie_word_embeddings", "stoker_image", "rope_scaling", "rope_parameters")

_WITHOUT_EFFECT = {
    *("architectures", "model_type", "dtype", "torch_dtype", "transformers_version", "use_cache", "pad_token_id"),
    *("initializer_range", "attention_dropout", "pretraining_tp", "tokenizer_class", "is_decoder", "return_dict"),
    *("id2label", "label2id", "output_attentions", "output_hidden_states", "chunk_size_feed_forward", "use_bfloat16"),
    *("unsloth_fixed", "unsloth_version"),
}
"""Keys that say nothing about the forward pass, or something that is read elsewhere."""


def to_json(config: ModelConfig, *, dtype: str = "float16") -> str:
    """`dtype`: of the weights beside it. Positions are written the way that every version of `transformers` reads."""
    document: dict[str, Any] = {
        "architectures": [config.architecture],
        "model_type": MODEL_TYPES[config.architecture],
        "tie_word_embeddings": config.tie_word_embeddings,
        "dtype": dtype,
        **_FIXED[config.architecture],
        **{name: getattr(config, name) for name in _PLAIN},
    }
    if config.rope_scaling is not None:
        document["rope_scaling"] = {"rope_type": "llama3", **asdict(config.rope_scaling)}
    if config.image is not None:
        document["stoker_image"] = asdict(config.image)
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def from_json(text: str) -> ModelConfig:
    """Raises InvalidInput for a missing key, and for whatever would be computed in another way than here."""
    document = _document(text)
    architecture = _architecture(document)
    _refuse_variants(document, architecture)
    theta, scaling = _rope(document)
    found = {name: value for name, value in document.items() if value is not None or name in _TOKENS}
    if theta is not None:
        found["rope_theta"] = theta
    if "transformers_version" in document:
        found = {**_left_out(document, architecture), **found}
    missing = [name for name in _PLAIN if name not in found]
    if missing:
        raise InvalidInput(f"config.json: missing {', '.join(missing)}", param=missing[0])
    _check_numbers(found)
    eos = found["eos_token_id"]
    image = document.get("stoker_image")
    return ModelConfig(
        **{name: found[name] for name in (*_DIMENSIONS, *_NUMBERS, "bos_token_id")},
        eos_token_id=tuple(eos) if isinstance(eos, list) else eos,
        image=ImageConfig(**image) if image is not None else None,
        architecture=architecture,
        tie_word_embeddings=bool(document.get("tie_word_embeddings", False)),
        rope_scaling=scaling,
    )


def load(folder: Path) -> ModelConfig:
    return from_json((folder / "config.json").read_text(encoding="utf-8"))


def _document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"config.json is no JSON: {error}", param="config.json") from error
    if not isinstance(document, dict):
        raise InvalidInput(f"config.json is a {type(document).__name__}, not an object", param="config.json")
    return document


def _architecture(document: Mapping[str, Any]) -> str:
    """By `architectures`; by `model_type` where that is missing, as in configs that nobody saved with weights."""
    named = document.get("architectures")
    if named is None:
        named = [name for name, kind in MODEL_TYPES.items() if kind == document.get("model_type")]
    if not isinstance(named, list) or len(named) != 1 or named[0] not in MODEL_TYPES:
        raise InvalidInput(
            f"config.json: architectures is {document.get('architectures')!r}, model_type "
            f"{document.get('model_type')!r}; what is known here is {', '.join(MODEL_TYPES)}",
            param="architectures",
        )
    architecture = str(named[0])
    kind = document.get("model_type", MODEL_TYPES[architecture])
    if kind != MODEL_TYPES[architecture]:
        raise InvalidInput(
            f"config.json: model_type is {kind!r}; {architecture} is {MODEL_TYPES[architecture]!r}", param="model_type"
        )
    return architecture


def _refuse_variants(document: Mapping[str, Any], architecture: str) -> None:
    fixed = _FIXED[architecture]
    for name, wanted in fixed.items():
        if document.get(name, wanted) != wanted:
            raise InvalidInput(
                f"config.json: {name} is {document[name]!r}; this decoder computes {wanted!r}", param=name
            )
    known = {*_PLAIN, *fixed, *_READ_APART, *_WITHOUT_EFFECT}
    if architecture != LLAMA:
        known |= {"sliding_window", "max_window_layers"}  # of use_sliding_window alone, which is false
    for name, value in document.items():
        if name in known or name.startswith("_") or value is None or value is False:
            continue
        if name == "layer_types" and isinstance(value, list) and all(kind == "full_attention" for kind in value):
            continue
        if name == "partial_rotary_factor" and value == 1:
            continue
        raise InvalidInput(
            f"config.json: {name} is {str(value)[:80]!r}, and what that changes in the computation is not known here",
            param=name,
            hint=f"take {name} out of config.json if it changes nothing",
        )


def _rope(document: Mapping[str, Any]) -> tuple[float | None, RopeScaling | None]:
    """`rope_scaling` beside `rope_theta`, or `rope_parameters`, which holds both since transformers 5."""
    theta, scaling = document.get("rope_theta"), None
    for key in ("rope_scaling", "rope_parameters"):
        given = document.get(key)
        if given is None:
            continue
        if not isinstance(given, dict):
            raise InvalidInput(f"config.json: {key} is {given!r}, not an object", param=key)
        rest = dict(given)
        theta = rest.pop("rope_theta", theta)
        kind = {str(rest.pop(name)) for name in ("rope_type", "type") if name in rest} or {"default"}
        if rest.get("partial_rotary_factor") == 1:
            del rest["partial_rotary_factor"]
        if kind == {"llama3"} and set(rest) == set(RopeScaling.__dataclass_fields__):
            for name, value in rest.items():
                _check_number(f"{key}.{name}", value)
            scaling = RopeScaling(**rest)
        elif kind != {"default"} or rest:
            raise InvalidInput(
                f"config.json: {key} is {str(given)[:200]}; known here are rope_type default, and llama3 "
                f"with {', '.join(RopeScaling.__dataclass_fields__)}",
                param=key,
            )
    return theta, scaling


def _left_out(document: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """What `transformers` takes for keys that its file of this architecture does not have."""
    found: dict[str, Any] = {"rope_theta": 10000.0, "bos_token_id": None, "eos_token_id": None}
    heads, size = document.get("num_attention_heads"), document.get("hidden_size")
    if architecture == LLAMA and heads:
        found["num_key_value_heads"] = heads
    if architecture != QWEN3 and isinstance(heads, int) and heads > 0 and isinstance(size, int):
        found["head_dim"] = size // heads
    return found


def _check_numbers(found: Mapping[str, Any]) -> None:
    for name in _DIMENSIONS:
        dimension(name, found[name])
    for name in _NUMBERS:
        _check_number(name, found[name])


def dimension(name: str, value: object) -> int:
    """The value of a key of config.json. Raises InvalidInput where it is no dimension of a model."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInput(f"config.json: {name} is {value!r}, not a whole number above 0", param=name)
    if value > _DIMENSIONS[name]:
        raise InvalidInput(f"config.json: {name} is {str(value)[:40]}; {_DIMENSIONS[name]:,} is the most", param=name)
    return value


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise InvalidInput(f"config.json: {name} is {value!r}, not a number above 0", param=name)
