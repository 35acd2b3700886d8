"""What the tests of nn share: the default weights once, and a small random model for shapes."""

from functools import cache

import numpy as np

from stoker.nn import bundle as bundles
from stoker.nn.bundle import Bundle
from stoker.nn.config import ModelConfig
from stoker.nn.decoder import Chunk, KVCache


@cache
def default_bundle() -> Bundle:
    return bundles.load()


def random_tokens(count: int, seed: int) -> list[int]:
    """Tokens of the default vocabulary, no control tokens among them."""
    return np.random.default_rng(seed).integers(8, 1500, size=count).tolist()


def tiny_config(**changes: int) -> ModelConfig:
    shape = {
        "vocab_size": 16,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "max_position_embeddings": 32,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    return ModelConfig(**{**shape, **changes}, rms_norm_eps=1e-5, rope_theta=10000.0)


def alone(bundle: Bundle, prompt: list[int], count: int) -> list[np.ndarray]:
    """The logits of `count` greedy steps of one sequence that has the decoder to itself."""
    decoder, cache_ = bundle.decoder, KVCache(bundle.config, 1, 512)
    logits = decoder.step(cache_, [], [], [], [Chunk(0, 0, decoder.embed(prompt))])
    lines = [logits[0]]
    for position in range(len(prompt), len(prompt) + count - 1):
        lines.append(decoder.step(cache_, [0], [position], [int(lines[-1].argmax())], [])[0])
    return lines
