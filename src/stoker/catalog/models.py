"""Open models by their hub name: what they are made of, and from that how large they and their caches are.

As of the day in `data/models/SOURCES.md`. Read once, when first asked for.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

_DATA = Path(__file__).with_name("data") / "models" / "models.json"

MXFP4_BYTES = 17 / 32
"""Of one weight: 4 bits, and 8 bits of scale for every 32."""
CLOSE = 1.3
"""A size in a name stands for a known model that is larger or smaller by this factor at most."""


@dataclass(frozen=True, eq=False)
class Model:
    """One model. Layers, widths and heads are those of its `config.json`."""

    name: str
    family: str
    size_b: float
    """Billions of parameters as its name has them: `7` of `Qwen2.5-7B`, which are 7.6."""
    layers: int
    hidden: int
    intermediate: int
    """Of a dense feed-forward layer."""
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    """Tokens of prompt and answer, without stretching."""
    source: str
    confirmed: bool = True
    """False: taken over from a model that it is said to be built like, its own config.json was not seen."""
    also: tuple[str, ...] = ()
    """Other hub names of the same shape."""
    tied: bool = False
    """The output layer is the embedding."""
    qkv_bias: bool = False
    qk_norm: bool = False
    norms_per_layer: int = 2
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    shared_experts: int = 0
    dense_layers: int = 0
    """Of a mixture of experts: the first layers, which have none."""
    attention_parameters: int = 0
    """Of one layer, where they do not follow from the heads (latent attention)."""
    latent_kv: int = 0
    """Numbers that the cache keeps of each token and layer, where that is not keys and values of each head."""
    full_attention_layers: int | None = None
    """Whose cache grows with the context; the others look at a short window. None: all."""
    other_parameters: int = 0
    """Of the tower that reads images."""
    stored_as: str = ""
    """`fp8`, `mxfp4`: what the published weights are, where that is not 16 bits."""

    @property
    def is_mixture(self) -> bool:
        return self.experts > 0

    @cached_property
    def attention_parameters_per_layer(self) -> int:
        if self.attention_parameters:
            return self.attention_parameters
        wide = self.heads * self.head_dim
        narrow = self.kv_heads * self.head_dim
        bias = wide + 2 * narrow if self.qkv_bias else 0
        norms = 2 * self.head_dim if self.qk_norm else 0
        return 2 * self.hidden * (wide + narrow) + bias + norms

    @cached_property
    def expert_parameters(self) -> int:
        """Of one expert of one layer."""
        return 3 * self.hidden * self.expert_intermediate

    @cached_property
    def expert_layers(self) -> int:
        return self.layers - self.dense_layers if self.is_mixture else 0

    @cached_property
    def always_read(self) -> int:
        """Parameters of all layers that every token goes through, without experts to choose from and the output."""
        dense = (self.layers - self.expert_layers) * 3 * self.hidden * self.intermediate
        shared = self.expert_layers * (self.shared_experts * self.expert_parameters + self.hidden * self.experts)
        return self.layers * self.attention_parameters_per_layer + dense + shared

    @cached_property
    def head_parameters(self) -> int:
        """Of the output layer."""
        return self.vocab * self.hidden

    @cached_property
    def chosen_from(self) -> int:
        """Parameters of all experts that are chosen from, over all layers."""
        return self.expert_layers * self.experts * self.expert_parameters

    @cached_property
    def parameters(self) -> int:
        embedding = self.head_parameters * (1 if self.tied else 2)
        norms = (self.norms_per_layer * self.layers + 1) * self.hidden
        return self.always_read + self.chosen_from + embedding + norms + self.other_parameters

    @cached_property
    def active_parameters(self) -> int:
        """That compute one token; the same as `parameters` but for a mixture of experts."""
        idle = self.expert_layers * (self.experts - self.experts_per_token) * self.expert_parameters
        return self.parameters - idle

    def layer_bytes_touched(self, tokens: float, layer_bytes: float) -> float:
        """Bytes of the layers that a step over so many tokens reads: of experts, those expected to be chosen by at
        least one token, each at random."""
        always = self.always_read * (2.0 if self.stored_as == "mxfp4" else layer_bytes)
        if not self.is_mixture:
            return always
        missed = (1 - self.experts_per_token / self.experts) ** tokens
        return float(always + self.chosen_from * (1 - missed) * layer_bytes)

    @cached_property
    def layers_per_token(self) -> int:
        """Parameters of the layers that compute one token."""
        return self.always_read + self.expert_layers * self.experts_per_token * self.expert_parameters

    def kv_bytes_per_token(self, bytes_each: float = 2.0) -> int:
        """Of one token in the cache, over all layers whose cache grows with the context."""
        layers = self.layers if self.full_attention_layers is None else self.full_attention_layers
        numbers = self.latent_kv or 2 * self.kv_heads * self.head_dim
        return round(layers * numbers * bytes_each)

    @cached_property
    def weights_bytes(self) -> int:
        """Of the weights as published."""
        return self.weights_bytes_at(self.stored_bytes)

    @cached_property
    def stored_bytes(self) -> float:
        """Of one weight of a layer as published."""
        return {"fp8": 1.0, "mxfp4": MXFP4_BYTES}.get(self.stored_as, 2.0)

    def weights_bytes_at(self, layer_bytes: float) -> int:
        """With so many bytes for each weight of a layer. Embeddings, output and the image tower keep 16 bits, and so do
        all but the experts of what is stored as `mxfp4`."""
        small = self.chosen_from + (0 if self.stored_as == "mxfp4" else self.always_read)
        return round(small * layer_bytes + (self.parameters - small) * 2.0)

    def __str__(self) -> str:
        return self.name


def find(name: str) -> Model | None:
    """The model of that hub name; else the one of its family and size, or, where only a size can be read in the name
    (`acme/chat-7B-AWQ`), a common model of about that size; None where nothing can be told. What was found has its own
    name."""
    wanted = name.strip().strip("/").lower()
    exact = _by_name().get(wanted) or _by_name().get(_last(wanted)) or _by_name().get(_plain(_last(wanted)))
    if exact is not None:
        return exact
    size = size_in(wanted)
    family = _family_in(wanted)
    if family is not None:
        return _closest(family, size)
    return None if size is None else _closest(_mixtures(wanted) if _is_mixture(wanted) else _common(), size)


@cache
def models() -> Mapping[str, Model]:
    """All models by hub name, the other names that a model has not among them, in alphabetical order."""
    read = json.loads(_DATA.read_text(encoding="utf-8"))
    found = [_model(row) for row in read["models"]]
    return MappingProxyType({each.name: each for each in sorted(found, key=lambda each: each.name.lower())})


def size_in(name: str) -> float | None:
    """Billions of parameters, as a name says: 7 of `chat-7B`, 0.5 of `tiny-500m`, 46.7 of `8x7b` (which share layers).
    None where it says nothing."""
    text = name.lower()
    mixture = re.search(r"(?<![a-z0-9.])(\d+)x(\d+(?:\.\d+)?)b(?![a-z0-9])", text)
    if mixture:
        return float(mixture[1]) * float(mixture[2]) * _SHARED
    billions = re.search(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)b(?![a-z0-9])", text)
    if billions:
        return float(billions[1])
    millions = re.search(r"(?<![a-z0-9.])(\d{2,4})m(?![a-z0-9])", text)
    return int(millions[1]) / 1000 if millions else None


_SHARED = 46.7 / 56
"""Of the product in `8x7B` that is there: experts share attention (Mixtral)."""

_FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"deepseek.*distill.*qwen", ("deepseek-r1-distill-qwen",)),
    (r"deepseek.*distill.*llama", ("deepseek-r1-distill-llama",)),
    (r"deepseek-?(r1|v3)", ("deepseek-v3",)),
    (r"qwen-?3-?vl", ("qwen3-vl",)),
    (r"qwen-?3-?coder", ("qwen3-coder",)),
    (r"qwen-?3(?![\d.])", ("qwen3",)),
    (r"qwen-?2\.5-?vl|qwen2_5-?vl", ("qwen2.5-vl",)),
    (r"qwen-?2\.5-?coder", ("qwen2.5-coder",)),
    (r"qwen-?2\.5|qwen2_5|qwen-?25", ("qwen2.5",)),
    (r"qwen-?2(?!\d)", ("qwen2", "qwen2.5")),
    (r"qwq", ("qwq",)),
    (r"code-?llama", ("codellama",)),
    (r"tinyllama", ("tinyllama",)),
    (r"llama-?3[._-]3", ("llama-3.3",)),
    (r"llama-?3[._-]2", ("llama-3.2",)),
    (r"llama-?3[._-]1", ("llama-3.1",)),
    (r"llama-?3(?![\d.])", ("llama-3",)),
    (r"llama-?2(?!\d)|vicuna", ("llama-2",)),
    (r"llama(?!-?\d)", ("llama-3.1", "llama-3.2")),
    (r"mixtral", ("mixtral",)),
    (r"mistral|ministral", ("mistral",)),
    (r"gemma-?3(?!\d)", ("gemma-3",)),
    (r"gemma-?2(?![\db])", ("gemma-2",)),
    (r"gemma(?!-?4)", ("gemma",)),
    (r"phi-?4-mini", ("phi-4-mini",)),
    (r"phi-?4", ("phi-4",)),
    (r"phi-?3(\.5)?-mini", ("phi-3",)),
    (r"gpt-?oss", ("gpt-oss",)),
)
"""Read from the top: the first pattern that a name has."""

_COMMON = (
    "Qwen/Qwen2.5-0.5B-Instruct",
    "Qwen/Qwen3-0.6B",
    "meta-llama/Llama-3.2-1B-Instruct",
    "Qwen/Qwen2.5-1.5B-Instruct",
    "google/gemma-2-2b-it",
    "meta-llama/Llama-3.2-3B-Instruct",
    "Qwen/Qwen3-4B",
    "mistralai/Mistral-7B-Instruct-v0.3",
    "meta-llama/Llama-3.1-8B-Instruct",
    "mistralai/Mistral-Nemo-Instruct-2407",
    "Qwen/Qwen3-14B",
    "mistralai/Mistral-Small-24B-Instruct-2501",
    "Qwen/Qwen3-32B",
    "codellama/CodeLlama-34b-Instruct-hf",
    "meta-llama/Llama-3.1-70B-Instruct",
    "mistralai/Mistral-Large-Instruct-2411",
    "meta-llama/Llama-3.1-405B-Instruct",
)
"""What a size alone stands for. None is a mixture of experts: those say how much of them is active (`30B-A3B`)."""


def _family_in(name: str) -> tuple[Model, ...] | None:
    for pattern, families in _FAMILIES:
        if re.search(pattern, name):
            return tuple(each for family in families for each in models().values() if each.family == family)
    return None


def _is_mixture(name: str) -> bool:
    return re.search(r"\d+x\d|[-_]a\d+(\.\d+)?b|[-_]\d+e(?![a-z0-9])|moe", name) is not None


def _mixtures(name: str) -> tuple[Model, ...]:
    """Those with about as many active parameters as the name says; none where it does not."""
    active = re.search(r"[-_]a(\d+(?:\.\d+)?)b(?![a-z0-9])", name)
    if active is None:
        return ()
    found = (each for each in models().values() if each.is_mixture)
    return tuple(each for each in found if 2 / 3 < each.active_parameters / 1e9 / float(active[1]) < 3 / 2)


def _common() -> tuple[Model, ...]:
    return tuple(models()[name] for name in _COMMON)


def _closest(among: Iterable[Model], size: float | None) -> Model | None:
    """The model of nearest size, the first of several; without a size only where all are of one."""
    candidates = list(among)
    if size is None:
        sizes = {each.size_b for each in candidates}
        return candidates[0] if len(sizes) == 1 else None
    nearest = min(candidates, key=lambda each: abs(math.log(each.size_b / size)), default=None)
    if nearest is None or not 1 / CLOSE <= nearest.size_b / size <= CLOSE:
        return None
    return nearest


@cache
def _by_name() -> Mapping[str, Model]:
    """By hub name, and by its part after the slash, in lower case."""
    found: dict[str, Model] = {}
    for each in models().values():
        for name in (each.name, *each.also):
            found[name.lower()] = each
    for name, each in list(found.items()):
        found.setdefault(_last(name), each)
    return found


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _plain(name: str) -> str:
    """Without what only says how the weights are stored."""
    return re.sub(r"[-_.](awq|gptq(-int[48])?|fp8(-dynamic)?|int[48]|bnb(-4bit)?|4bit|8bit|gguf|w4a16|w8a8)$", "", name)


def _model(row: Mapping[str, Any]) -> Model:
    known = {each.name for each in fields(Model)}
    unknown = row.keys() - known
    if unknown:
        raise ValueError(f"{row['name']}: unknown fields {sorted(unknown)}")
    return Model(**{**row, "also": tuple(row.get("also", ()))})
