"""The decoder computes what `transformers` computes, however the work is cut and whoever shares the batch."""

import random
from pathlib import Path

import numpy as np
import pytest
from nn_builders import alone, default_bundle, random_tokens, tiny_config

from stoker.base.errors import InvalidInput
from stoker.nn.decoder import BUCKETS, Chunk, Decoder, KVCache

GOLDEN = np.load(Path(__file__).with_name("golden.npz"))


def test_logits_are_those_of_transformers():
    bundle = default_bundle()
    tokens = GOLDEN["tokens"].tolist()
    for position, wanted in zip(GOLDEN["positions"].tolist(), GOLDEN["logits"], strict=True):
        cache = KVCache(bundle.config, 1, 256)
        got = bundle.decoder.step(cache, [], [], [], [Chunk(0, 0, bundle.decoder.embed(tokens[: position + 1]))])
        np.testing.assert_allclose(got[0], wanted, atol=1e-4, rtol=0)


def test_decoding_token_by_token_gives_the_same_logits_as_the_whole_prompt():
    bundle = default_bundle()
    tokens = GOLDEN["tokens"].tolist()
    cache = KVCache(bundle.config, 1, 256)
    lines = {}
    for position, token in enumerate(tokens):
        lines[position] = bundle.decoder.step(cache, [0], [position], [token], [])[0]
    for position, wanted in zip(GOLDEN["positions"].tolist(), GOLDEN["logits"], strict=True):
        np.testing.assert_allclose(lines[position], wanted, atol=1e-4, rtol=0)


def test_a_prompt_in_chunks_is_the_prompt_in_one():
    bundle = default_bundle()
    decoder, tokens = bundle.decoder, random_tokens(200, seed=1)
    whole, chunked = KVCache(bundle.config, 1, 256), KVCache(bundle.config, 3, 256)
    wanted = decoder.step(whole, [], [], [], [Chunk(0, 0, decoder.embed(tokens))])
    for start in (0, 64, 128):
        got = decoder.step(chunked, [], [], [], [Chunk(2, start, decoder.embed(tokens[start : start + 64]))])
    got = decoder.step(chunked, [], [], [], [Chunk(2, 192, decoder.embed(tokens[192:]))])
    np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=0)
    np.testing.assert_allclose(chunked.keys[:, 2], whole.keys[:, 0], atol=1e-4, rtol=0)


def test_eight_ragged_sequences_together_are_the_eight_alone():
    """Sequences join at random steps, in chunks, and pause at random: each gets the logits it gets by itself."""
    bundle = default_bundle()
    decoder, rng = bundle.decoder, random.Random(3)
    prompts = [random_tokens(count, seed=count) for count in (3, 40, 63, 64, 65, 130, 190, 260)]
    wanted = [alone(bundle, prompt, 12) for prompt in prompts]
    cache = KVCache(bundle.config, 8, 512)
    computed, got = [0] * 8, [[] for _ in prompts]
    while any(len(lines) < 12 for lines in got):
        running = [n for n in range(8) if got[n] and len(got[n]) < 12 and rng.random() < 0.8]
        joining = [n for n in range(8) if computed[n] < len(prompts[n]) and rng.random() < 0.4]
        cuts = [min(64 * rng.randint(1, 3), len(prompts[n]) - computed[n]) for n in joining]
        if not running and not joining:
            continue
        logits = decoder.step(
            cache,
            running,
            [len(prompts[n]) + len(got[n]) - 1 for n in running],
            [int(got[n][-1].argmax()) for n in running],
            [
                Chunk(n, computed[n], decoder.embed(prompts[n][computed[n] : computed[n] + cut]))
                for n, cut in zip(joining, cuts, strict=True)
            ],
        )
        for row, n in enumerate(running):
            got[n].append(logits[row])
        for row, (n, cut) in enumerate(zip(joining, cuts, strict=True)):
            computed[n] += cut
            if computed[n] == len(prompts[n]):
                got[n].append(logits[len(running) + row])
    # Bit for bit where this CPU's BLAS allows it (see RowRule), up to rounding elsewhere.
    tolerance = 1e-4 if decoder.row_rule is None else 0
    for lines, expected in zip(got, wanted, strict=True):
        np.testing.assert_allclose(np.array(lines), np.array(expected), atol=tolerance, rtol=0)


def test_a_moved_sequence_goes_on_as_before():
    bundle = default_bundle()
    decoder, prompt = bundle.decoder, random_tokens(70, seed=2)
    wanted = alone(bundle, prompt, 2)[1]
    cache = KVCache(bundle.config, 4, 128)
    first = decoder.step(cache, [], [], [], [Chunk(3, 0, decoder.embed(prompt))])
    cache.move(3, 0, len(prompt))
    cache.keys[:, 3] = np.nan  # whatever is left there is not read
    got = decoder.step(cache, [0], [len(prompt)], [int(first[0].argmax())], [])
    np.testing.assert_allclose(got[0], wanted, atol=1e-6, rtol=0)


def test_a_context_that_is_no_bucket_is_filled_to_its_last_position():
    bundle = default_bundle()
    assert 70 not in BUCKETS
    cache, tokens = KVCache(bundle.config, 1, 70), random_tokens(70, seed=4)
    bundle.decoder.step(cache, [], [], [], [Chunk(0, 0, bundle.decoder.embed(tokens[:69]))])
    got = bundle.decoder.step(cache, [0], [69], [tokens[69]], [])
    roomy = KVCache(bundle.config, 1, 256)
    wanted = bundle.decoder.step(roomy, [], [], [], [Chunk(0, 0, bundle.decoder.embed(tokens))])
    np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=0)


def test_weights_without_a_tensor_are_refused():
    with pytest.raises(InvalidInput, match=r"the weights have no tensor model\.embed_tokens\.weight"):
        Decoder(tiny_config(), {})


def test_weights_of_another_shape_are_refused():
    wrong = {"model.embed_tokens.weight": np.zeros((16, 9), dtype=np.float16)}
    with pytest.raises(InvalidInput, match=r"has shape \(16, 9\); config.json says \(16, 8\)"):
        Decoder(tiny_config(), wrong)
