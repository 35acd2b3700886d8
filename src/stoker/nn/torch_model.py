"""The same model as a torch module, with Hugging Face's parameter names (Llama, Qwen2, Qwen3): what training trains.

Nothing that serves imports this: torch is the extra `stoker[train]`. tests/nn/test_torch_parity.py holds it to the
numpy decoder, tests/nn/test_torch_models.py to `transformers`.

Everything that uses a parameter runs inside `LanguageModel.forward`, so that FSDP2's hooks see it.
"""
# mypy: allow-subclassing-any
# The plain environment has no torch, and there nn.Module is Any to mypy.

import hashlib
import math
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from stoker.nn.config import ImageConfig, ModelConfig, RopeScaling

CHUNK_LOGITS = 1 << 25
"""Most logits that are held at a time where only losses are wanted: 128 MiB in float32. More are computed in parts, and
again in the backward pass."""

Apart: TypeAlias = Tensor | list[int] | None
"""What keeps documents apart in attention: a mask to add [rows, 1, length, length]; the lengths of the runs that rows
flattened one after the other consist of, each of which sees itself alone; None: rows are one document each."""


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # Under autocast, heads come in bfloat16 while weights are float32.
        return functional.rms_norm(x.to(self.weight.dtype), self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, dropout: float) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        self.dropout = dropout
        bias = config.has_qkv_bias
        self.q_proj = nn.Linear(config.hidden_size, config.query_size, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, config.kv_size, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, config.kv_size, bias=bias)
        self.o_proj = nn.Linear(config.query_size, config.hidden_size, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.has_qk_norm else None
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.has_qk_norm else None

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, apart: Apart) -> Tensor:
        rows, length, _ = x.shape
        q = self.q_proj(x).view(rows, length, self.heads, self.head_dim)
        k = self.k_proj(x).view(rows, length, self.kv_heads, self.head_dim)
        v = self.v_proj(x).view(rows, length, self.kv_heads, self.head_dim)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = _rotate(q, cos, sin).to(v.dtype), _rotate(k, cos, sin).to(v.dtype)
        dropout = self.dropout if self.training else 0.0
        mixed = _attend_each(q, k, v, apart, dropout) if isinstance(apart, list) else _attend(q, k, v, apart, dropout)
        out: Tensor = self.o_proj(mixed.reshape(rows, length, -1))
        return out


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, dropout: float = 0.0, *, recompute: bool = False) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, dropout)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)
        self.dropout = dropout
        self.recompute = recompute

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, apart: Apart = None) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            again: Tensor = checkpoint(self._compute, x, cos, sin, apart, use_reentrant=False)
            return again
        return self._compute(x, cos, sin, apart)

    def _compute(self, x: Tensor, cos: Tensor, sin: Tensor, apart: Apart) -> Tensor:
        x = x + self._dropped(self.self_attn(self.input_layernorm(x), cos, sin, apart))
        return x + self._dropped(self.mlp(self.post_attention_layernorm(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training) if self.dropout else x


class _Embedding(nn.Embedding):
    """Not drawn on the device `meta`, where weights are to be read: that would load torch's compiler, seconds of each
    start."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class Body(nn.Module):
    def __init__(self, config: ModelConfig, dropout: float, *, recompute: bool) -> None:
        super().__init__()
        self.embed_tokens = _Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(config, dropout, recompute=recompute) for _ in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class LanguageModel(nn.Module):
    """`state_dict()` has the names that `transformers` gives the config's architecture; with an `image_token`, also
    `image_projector.*`, whose soft tokens stand where that token does.

    `dropout` is of attention weights and of what each layer adds; with `recompute`, a layer's activations are computed
    again in the backward pass."""

    def __init__(
        self, config: ModelConfig, *, image_token: int | None = None, dropout: float = 0.0, recompute: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.model = Body(config, dropout, recompute=recompute)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.image_token = image_token
        if image_token is not None and config.image is not None:
            self.image_projector = ImageProjector(config.image, config.hidden_size)
        self.by_document = True
        """Attend document by document where that is faster (on processors). False: by a mask, whose shape alone matters
        to torch.compile."""

    def embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.model.embed_tokens(tokens)
        return embedded

    def forward(
        self,
        tokens: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        documents: Tensor | None = None,
        positions: Tensor | None = None,
        features: Tensor | None = None,
        targets: Tensor | None = None,
        kept: Tensor | None = None,
    ) -> Tensor:
        """Logits [rows, length, vocabulary] of `tokens`, or of embeddings in which images stand already.

        `documents` [rows, length]: tokens see those of the same number before them, and no others; None: all before
        them. `positions` [rows, length]; None: 0, 1, 2... `features` [cells, numbers]: of all images, in the order of
        their placeholders. With `targets` [rows, length] and `kept`, places in the flattened rows: the cross-entropy of
        the targets there, float32 [kept], and no more logits are held than CHUNK_LOGITS.
        """
        x = self._embedded(tokens, features) if embeddings is None else embeddings
        rows, length = x.shape[:2]
        cos, sin = _angles(self.config, torch.arange(length, device=x.device)[None] if positions is None else positions)
        apart = None if documents is None else self._apart(documents, x)
        for layer in self.model.layers:
            x = layer(x, cos, sin, apart)
        if targets is None or kept is None:
            return functional.linear(self.model.norm(x), self._head())
        x = self.model.norm(x.reshape(rows * length, -1).index_select(0, kept))
        return _cross_entropy(x, self._head(), targets.flatten().index_select(0, kept))

    def _embedded(self, tokens: Tensor | None, features: Tensor | None) -> Tensor:
        if tokens is None:
            raise ValueError("neither tokens nor embeddings were given")
        x = self.embed(tokens)
        if self.image_token is None or self.config.image is None:
            return x
        # Also without images: a projector that some processes use and others do not would have gradients on some alone.
        if features is None or not len(features):
            features = x.new_zeros(0, self.config.image.features)
        soft = self.image_projector(features.to(self.image_projector.up.weight.dtype))
        return x.masked_scatter((tokens == self.image_token).unsqueeze(-1), soft.to(x.dtype))

    def _head(self) -> Tensor:
        head = self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head
        weight: Tensor = head.weight
        return weight

    def _apart(self, documents: Tensor, x: Tensor) -> Apart:
        if self.by_document and documents.device.type == "cpu":
            return run_lengths(documents)
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return document_mask(documents, dtype)


class ImageProjector(nn.Module):
    """Features of image cells to embeddings; kept in a file of its own, `image_projector.safetensors`."""

    def __init__(self, image: ImageConfig, hidden_size: int) -> None:
        super().__init__()
        self.up = nn.Linear(image.features, image.hidden)
        self.down = nn.Linear(image.hidden, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        soft: Tensor = self.down(functional.relu(self.up(features)))
        return soft


def initialise(model: LanguageModel, seed: int) -> None:
    """Random weights for a model that begins from nothing: normal, embeddings by 0.02, matrices by 1 / sqrt(inputs),
    those that write to the residual stream less the deeper the model is. A parameter's values depend on `seed` and its
    name."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                scale = 0.02 if "embed" in name else float(parameter.shape[1]) ** -0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    scale /= math.sqrt(2 * model.config.num_hidden_layers)
                parameter.normal_(std=scale, generator=generator_of(seed, name))


def generator_of(seed: int, name: str) -> torch.Generator:
    """Chance that is a pure function of a run's seed and a parameter's name: the same in whatever order, and on
    whichever process, parameters are made."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def run_lengths(documents: Tensor) -> list[int]:
    """Lengths of the runs of equal numbers in each row, all rows one after the other."""
    changes = torch.ones_like(documents, dtype=torch.bool)
    changes[:, 1:] = documents[:, 1:] != documents[:, :-1]
    starts = changes.flatten().nonzero().flatten().tolist()
    return [end - start for start, end in zip(starts, [*starts[1:], documents.numel()], strict=True)]


def document_mask(documents: Tensor, dtype: torch.dtype) -> Tensor:
    """[rows, 1, length, length] to add to scores: 0 where a token (third) may see another (fourth), else -infinity.
    Padding sees padding, so that no line is empty."""
    length = documents.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
    seen = (documents[:, :, None] == documents[:, None, :]) & before
    return torch.zeros(seen.shape, dtype=dtype, device=documents.device).masked_fill(~seen, -math.inf)[:, None]


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """All [rows, length, heads, head]."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    grouped = q.shape[1] != k.shape[1]
    if grouped and mask is not None and q.is_cuda:
        # The one kernel that takes a mask there wants as many keys as queries; without it all scores would be held.
        repeat = q.shape[1] // k.shape[1]
        k, v, grouped = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1), False
    return functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, enable_gqa=grouped
    ).transpose(1, 2)


def _attend_each(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], dropout: float) -> Tensor:
    """Run by run: no score is computed that a mask would throw away."""
    if len(set(lengths)) == 1:
        parts = [part.reshape(-1, lengths[0], *part.shape[2:]) for part in (q, k, v)]
        return _attend(parts[0], parts[1], parts[2], None, dropout)
    split = [torch.split(part.flatten(0, 1), lengths) for part in (q, k, v)]
    mixed = [_attend(a[None], b[None], c[None], None, dropout)[0] for a, b, c in zip(*split, strict=True)]
    return torch.cat(mixed)


def _cross_entropy(x: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Of each row's target, float32 [rows]."""
    most = max(1, CHUNK_LOGITS // head.shape[0])
    if len(x) <= most:
        return _chunk_cross_entropy(x, head, targets)
    return torch.cat(
        [
            checkpoint(
                _chunk_cross_entropy,
                x[start : start + most],
                head,
                targets[start : start + most],
                use_reentrant=False,
                preserve_rng_state=False,
            )
            for start in range(0, len(x), most)
        ]
    )


def _chunk_cross_entropy(x: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(functional.linear(x, head).float(), targets, reduction="none")


def _angles(config: ModelConfig, positions: Tensor) -> tuple[Tensor, Tensor]:
    """[rows, length, 1, head]."""
    even = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=positions.device)
    frequencies = 1.0 / (config.rope_theta ** (even / config.head_dim))
    if config.rope_scaling is not None:
        frequencies = _stretched(frequencies, config.rope_scaling)
    angles = positions[..., None].to(torch.float32) * frequencies
    angles = torch.cat((angles, angles), dim=-1)[:, :, None]
    return angles.cos(), angles.sin()


def _stretched(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1's rule: by how many turns a pair makes within the length that was first trained."""
    turns = scaling.original_max_position_embeddings * frequencies / (2 * math.pi)
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = keep.clamp(0.0, 1.0)
    return frequencies * (keep + (1 - keep) / scaling.factor)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
