"""The forward pass in numpy, for a batch in which each sequence stands at its own position.

The runner of the engine calls `step` once for each step: the running sequences give one token each, joining ones a
chunk of their prompt. Projections and the MLP run over all rows at once; attention runs for each sequence.

What a sequence gets does not depend on who shares its batch, bit for bit: same prompt and same seed, same text. Sums
run in another order when shapes change, so every shape that a sequence's sums depend on is a function of that sequence
alone: decoding attends over a length rounded up to one of BUCKETS, prompts are cut at multiples of BLOCK only, and
matrix products sum at most DEPTH terms and follow the `RowRule` that was seen to hold for the BLAS at hand.
tests/nn/test_nn_decoder.py holds this.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stoker.base.errors import InvalidInput
from stoker.nn.config import LLAMA, ModelConfig

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]

BLOCK = 64
"""A prompt may be computed in several steps, cut at multiples of this."""

BUCKETS = [64, 128, 192, 256, 384, 512, 768, *(1024 << n for n in range(16))]
"""Lengths that decoding attends over. More of them waste less and make more groups; each group costs calls."""

DEPTH = 256
"""Most terms that one matrix product sums: OpenBLAS blocks at 320 or more, and how it blocks depends on the rows."""

WIDTH = 512
"""Most columns of one: OpenBLAS does up to a million multiplications without copying the weight first, and the copy
costs more than they do.
"""


class KVCache:
    """Keys and values of all sequences: slot `s`, position `p`. Memory is taken as positions are written."""

    def __init__(self, config: ModelConfig, slots: int, context: int) -> None:
        self.slots, self.context = slots, context
        shape = (config.num_hidden_layers, slots, config.num_key_value_heads, context, config.head_dim)
        self.keys: Floats = np.zeros(shape, dtype=np.float32)
        self.values: Floats = np.zeros(shape, dtype=np.float32)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a sequence to another slot, so that running ones lie side by side."""
        self.keys[:, target, :, :length] = self.keys[:, source, :, :length]
        self.values[:, target, :, :length] = self.values[:, source, :, :length]


@dataclass(frozen=True)
class Chunk:
    """Part of a prompt: rows for positions `start`, `start + 1`, ... of `slot`. `start` is a multiple of BLOCK."""

    slot: int
    start: int
    embeddings: Floats


@dataclass(frozen=True)
class RowRule:
    """How products must be shaped so that a row's result is the same bits whichever rows are computed with it."""

    multiple: int
    """Rows are filled up to a multiple of this."""
    tile: int | None
    """None: all rows at once. Else so many rows at a time, so that every product has the same shape; slower."""


class _Matrix:
    """A weight, applied to rows; see DEPTH and WIDTH for why it is kept in parts."""

    def __init__(self, weight: Floats) -> None:
        """`weight` as in the file: [outputs, inputs]."""
        transposed = weight.T
        self.inputs, self.outputs = transposed.shape
        self._parts = [
            (slice(row, row + DEPTH), slice(column, column + WIDTH), _cut(transposed, row, column))
            for row in range(0, self.inputs, DEPTH)
            for column in range(0, self.outputs, WIDTH)
        ]

    def __call__(self, rows: Floats, tile: int | None = None) -> Floats:
        if len(self._parts) == 1 and tile is None:
            return rows @ self._parts[0][2]
        result: Floats = np.empty((len(rows), self.outputs), dtype=np.float32)
        shape = (-1,) if tile is None else (-1, tile)
        x: Floats = rows.reshape(*shape, self.inputs)
        out: Floats = result.reshape(*shape, self.outputs)
        for inputs, outputs, weight in self._parts:
            if inputs.start == 0:
                np.matmul(x[..., inputs], weight, out=out[..., outputs])
            else:
                out[..., outputs] += x[..., inputs] @ weight
        return result


def _cut(transposed: Floats, row: int, column: int) -> Floats:
    return np.ascontiguousarray(transposed[row : row + DEPTH, column : column + WIDTH])


@dataclass(frozen=True)
class _Layer:
    qkv: _Matrix
    out: _Matrix
    gate: _Matrix
    up: _Matrix
    down: _Matrix


@dataclass(frozen=True)
class _Group:
    """Sequences that decode over the same padded length."""

    rows: slice | Ints
    slots: slice | Ints
    length: int
    mask: Floats


def refuse_what_is_not_computed(config: ModelConfig) -> None:
    """Raises InvalidInput for a model that can be trained, and that another engine has to serve."""
    for name, value, computed in (
        ("architectures", config.architecture, LLAMA),
        ("tie_word_embeddings", config.tie_word_embeddings, True),
        ("rope_scaling", config.rope_scaling, None),
    ):
        if value != computed:
            raise InvalidInput(
                f"config.json: {name} is {value}; the embedded engine computes {computed}",
                param=name,
                hint="serve these weights with vLLM",
            )


class Decoder:
    def __init__(self, config: ModelConfig, tensors: Mapping[str, NDArray[np.floating]]) -> None:
        """`tensors` by the names of Hugging Face's Llama. Raises InvalidInput when one is missing or misshapen, or when
        the config asks for what is not computed here."""
        refuse_what_is_not_computed(config)
        self.config = config
        weights = _Weights(config, tensors)
        self.embeddings = weights.take("model.embed_tokens.weight", config.vocab_size, config.hidden_size)
        self._layers = [weights.layer(number) for number in range(config.num_hidden_layers)]
        self._norm = weights.take("model.norm.weight", config.hidden_size)
        self._head = _Matrix(self.embeddings * self._norm)
        self._turns = _turns(config)
        self._kv_heads = np.arange(config.num_key_value_heads)
        first = self._layers[0]
        self.row_rule = _row_rule([first.qkv, first.out, first.gate, first.down, self._head])
        """None: the BLAS at hand treats rows differently whatever one does; answers then agree up to rounding only."""
        self._multiple, self._tile = (self.row_rule.multiple, self.row_rule.tile) if self.row_rule else (1, None)

    def embed(self, tokens: Sequence[int] | Ints) -> Floats:
        return self.embeddings[np.asarray(tokens, dtype=np.intp)]

    def step(
        self,
        cache: KVCache,
        slots: Sequence[int],
        positions: Sequence[int],
        tokens: Sequence[int],
        chunks: Sequence[Chunk],
    ) -> Floats:
        """Compute one token for each running sequence and the chunks of joining ones.

        Returns logits [running + chunks, vocabulary]: what comes after each running sequence's token, then what comes
        after each chunk's last row. Keys and values are left in the cache.
        """
        x, starts = self._forward(cache, slots, positions, tokens, chunks)
        last = [*range(len(slots)), *(start - 1 for start in starts[1:])]
        return self._logits(x[last] if chunks else x)[: len(last)]  # without chunks, `last` are the first rows

    def hidden(self, cache: KVCache, chunks: Sequence[Chunk]) -> list[Floats]:
        """The last hidden states of each chunk's rows, normalised: what the output layer sees.

        The chunks are computed in their order, so several that are whole prompts may share a slot.
        """
        x, starts = self._forward(cache, (), (), (), chunks)
        rows = _normalised(x, self.config.rms_norm_eps) * self._norm
        return [rows[start : start + len(chunk.embeddings)] for chunk, start in zip(chunks, starts, strict=False)]

    def _forward(
        self,
        cache: KVCache,
        slots: Sequence[int],
        positions: Sequence[int],
        tokens: Sequence[int],
        chunks: Sequence[Chunk],
    ) -> tuple[Floats, list[int]]:
        """The rows after the last layer, and where each chunk's begin, and the last one's end."""
        running = len(slots)
        at = np.array(positions, dtype=np.intp)
        where = np.array(slots, dtype=np.intp)
        rows = [self.embeddings[np.array(tokens, dtype=np.intp)]] if running else []
        rows += [chunk.embeddings for chunk in chunks]
        starts = np.cumsum([running, *(len(chunk.embeddings) for chunk in chunks)]).tolist()
        total = starts[-1]
        if missing := -total % self._multiple:
            rows.append(np.zeros((missing, self.config.hidden_size), dtype=np.float32))
        x: Floats = rows[0].copy() if len(rows) == 1 else np.concatenate(rows)
        turns = self._turns[_row_positions(at, chunks, len(x))]
        groups = _groups(where, at)
        # exp() of a gate below -88 overflows to infinity, and x / infinity is the zero that it should be.
        with np.errstate(over="ignore"):
            for number, layer in enumerate(self._layers):
                keys, values = cache.keys[number], cache.values[number]
                q, k, v = self._qkv(layer, x, turns)
                mixed = np.zeros_like(q)
                if running:
                    keys[where[:, None], self._kv_heads, at[:, None]] = k[:running]
                    values[where[:, None], self._kv_heads, at[:, None]] = v[:running]
                    for group in groups:
                        mixed[group.rows] = _attend_one(q[group.rows], keys, values, group)
                for chunk, start in zip(chunks, starts, strict=False):
                    part = slice(start, start + len(chunk.embeddings))
                    mixed[part] = _attend_chunk(
                        q[part], k[part], v[part], keys[chunk.slot], values[chunk.slot], chunk.start
                    )
                x += layer.out(mixed.reshape(len(x), -1), self._tile)
                x += self._mlp(layer, x)
        return x, starts

    def _qkv(self, layer: _Layer, x: Floats, turns: NDArray[np.complex64]) -> tuple[Floats, Floats, Floats]:
        """Queries [rows, kv heads, queries of each, head], keys and values [rows, kv heads, head], turned."""
        config, count = self.config, len(x)
        flat = layer.qkv(_normalised(x, config.rms_norm_eps), self._tile)
        turned = config.query_size + config.kv_size
        heads = np.ascontiguousarray(flat[:, :turned]).view(np.complex64).reshape(count, -1, config.head_dim // 2)
        heads *= turns
        both = heads.view(np.float32)
        q = both[:, : config.num_attention_heads].reshape(count, config.num_key_value_heads, -1, config.head_dim)
        v = flat[:, turned:].reshape(count, config.num_key_value_heads, config.head_dim)
        return q, both[:, config.num_attention_heads :], v

    def _mlp(self, layer: _Layer, x: Floats) -> Floats:
        x = _normalised(x, self.config.rms_norm_eps)
        gate = layer.gate(x, self._tile)
        scale = np.negative(gate)
        np.exp(scale, out=scale)
        scale += 1.0
        gate /= scale
        gate *= layer.up(x, self._tile)
        return layer.down(gate, self._tile)

    def _logits(self, x: Floats) -> Floats:
        if missing := -len(x) % self._multiple:
            x = np.concatenate([x, np.zeros((missing, x.shape[1]), dtype=np.float32)])
        return self._head(_normalised(x, self.config.rms_norm_eps), self._tile)


def _normalised(x: Floats, eps: float) -> Floats:
    """RMS norm without its weight, which is part of the matrix that follows."""
    scale = np.vecdot(x, x)
    scale /= x.shape[1]
    scale += eps
    np.sqrt(scale, out=scale)
    result: Floats = x / scale[:, None]
    return result


def _row_positions(at: Ints, chunks: Sequence[Chunk], count: int) -> NDArray[np.intp]:
    parts = [at, *(np.arange(chunk.start, chunk.start + len(chunk.embeddings)) for chunk in chunks)]
    positions = np.concatenate(parts)
    missing = count - len(positions)  # the rows that make it a multiple
    return np.pad(positions, (0, missing)) if missing else positions


def _groups(slots: Ints, positions: Ints) -> list[_Group]:
    members: dict[int, list[int]] = {}
    for row, position in enumerate(positions.tolist()):
        members.setdefault(BUCKETS[bisect_left(BUCKETS, position + 1)], []).append(row)
    groups = []
    for length, rows in members.items():
        here = np.array(rows, dtype=np.intp)
        mask = np.zeros((len(rows), 1, 1, length), dtype=np.float32)
        mask[np.arange(length) > positions[here, None, None, None]] = -np.inf
        groups.append(_Group(_run(here), _run(slots[here]), length, mask))
    return groups


def _run(numbers: Ints) -> slice | Ints:
    """A slice when the numbers are consecutive, because indexing with it copies nothing."""
    first, count = int(numbers[0]), len(numbers)
    if int(numbers[-1]) - first == count - 1 and (count < 3 or bool((np.diff(numbers) == 1).all())):
        return slice(first, first + count)
    return numbers


def _attend_one(q: Floats, keys: Floats, values: Floats, group: _Group) -> Floats:
    """One query position for each sequence of the group."""
    length = group.length
    if length > keys.shape[2]:  # the cache ends before the bucket does
        length = keys.shape[2]
    scores = q @ keys[:, :, :length][group.slots].swapaxes(2, 3)
    scores += group.mask[..., :length]
    return _weighted(scores, values[:, :, :length][group.slots])


def _attend_chunk(q: Floats, k: Floats, v: Floats, keys: Floats, values: Floats, start: int) -> Floats:
    """A run of positions of one sequence, block by block; writes its keys and values first."""
    count = len(q)
    keys[:, start : start + count] = k.swapaxes(0, 1)
    values[:, start : start + count] = v.swapaxes(0, 1)
    q = q.transpose(1, 2, 0, 3)
    blocks = []
    for first in range(0, count, BLOCK):
        queries = q[:, :, first : first + BLOCK]
        length = min(start + first + BLOCK, keys.shape[1])
        scores = queries @ keys[:, None, :length].swapaxes(2, 3)
        rows = np.arange(start + first, start + first + queries.shape[2])
        scores += np.where(np.arange(length) > rows[:, None], np.float32(-np.inf), np.float32(0.0))
        blocks.append(_weighted(scores, values[:, None, :length]))
    joined = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=2)
    return joined.transpose(2, 0, 1, 3)


def _weighted(scores: Floats, values: Floats) -> Floats:
    """Softmax of the scores, applied to the values. Overwrites the scores."""
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    total = np.add.reduce(scores, axis=-1, keepdims=True)
    result: Floats = scores @ values
    result /= total
    return result


def _row_rule(matrices: Sequence[_Matrix]) -> RowRule | None:
    """The cheapest rule that holds for the BLAS at hand, None when none does.

    OpenBLAS computes the rows that fill no tile of its own with another kernel, and kernels differ between CPUs: with
    AVX-512 all rows of any product are treated alike, with AVX2 those of products of up to eight rows. Trying takes a
    few milliseconds and knows no names of CPUs: equal rows must give equal bits.
    """
    chance = np.random.default_rng(0)
    rows = [(matrix, chance.standard_normal((1, matrix.inputs), dtype=np.float32)) for matrix in matrices]
    for rule in (RowRule(2, None), RowRule(4, None), RowRule(8, None), RowRule(8, 8), RowRule(4, 4)):
        counts = [rule.multiple, 2 * rule.multiple, 3 * rule.multiple, 96]
        if all(
            len({line.tobytes() for count in counts for line in matrix(row.repeat(count, axis=0), rule.tile)}) == 1
            for matrix, row in rows
        ):
            return rule
    return None


def _turns(config: ModelConfig) -> NDArray[np.complex64]:
    """[position, 1, head / 2]: rotary positions as unit complex numbers."""
    frequencies = config.rope_theta ** (-np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim)
    angles = np.outer(np.arange(config.max_position_embeddings), frequencies)
    turns: NDArray[np.complex64] = np.exp(1j * angles).astype(np.complex64)
    return turns[:, None, :]


class _Weights:
    """The tensors of the file, brought into the form that the steps want."""

    def __init__(self, config: ModelConfig, tensors: Mapping[str, NDArray[np.floating]]) -> None:
        self._config, self._tensors = config, tensors

    def take(self, name: str, *shape: int) -> Floats:
        if name not in self._tensors:
            raise InvalidInput(f"the weights have no tensor {name}", param=name)
        tensor = self._tensors[name]
        if tensor.shape != shape:
            raise InvalidInput(f"tensor {name} has shape {tensor.shape}; config.json says {shape}", param=name)
        return tensor.astype(np.float32)

    def layer(self, number: int) -> _Layer:
        config, prefix = self._config, f"model.layers.{number}."
        size, inner = config.hidden_size, config.intermediate_size
        before = self.take(prefix + "input_layernorm.weight", size)
        between = self.take(prefix + "post_attention_layernorm.weight", size)
        q = self._paired(self.take(prefix + "self_attn.q_proj.weight", config.query_size, size))
        k = self._paired(self.take(prefix + "self_attn.k_proj.weight", config.kv_size, size))
        v = self.take(prefix + "self_attn.v_proj.weight", config.kv_size, size)
        q *= config.head_dim**-0.5  # the scale of the scores
        return _Layer(
            qkv=_Matrix(np.concatenate([q, k, v]) * before),
            out=_Matrix(self.take(prefix + "self_attn.o_proj.weight", size, config.query_size)),
            gate=_Matrix(self.take(prefix + "mlp.gate_proj.weight", inner, size) * between),
            up=_Matrix(self.take(prefix + "mlp.up_proj.weight", inner, size) * between),
            down=_Matrix(self.take(prefix + "mlp.down_proj.weight", size, inner)),
        )

    def _paired(self, weight: Floats) -> Floats:
        """Put the two numbers that a rotary position turns side by side: a pair is then one complex number.

        Llama's files have the first halves of all pairs of a head, then the second halves. Queries and keys change
        alike, so that their products stay.
        """
        half = self._config.head_dim // 2
        heads = weight.reshape(-1, 2, half, weight.shape[1])
        return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(weight.shape)
