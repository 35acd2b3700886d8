"""A training step of Stoker's module beside transformers' LlamaForCausalLM with the same weights, on one thread.

    python benchmarks/train/model.py [--pairs N] [--json]

Two comparisons, each as pairs that take turns, so that a busy machine is busy for both; a ratio is the median of the
pairs' ratios. Seconds are those of the processor, which other processes do not have part in.

unpacked  rows of one length, every target counts: forward, loss, backward; the seconds of a step
packed    conversations of mixed lengths (log-normal, as chats are), of which the answers count: tokens that are not
          padding per second. Theirs: rows padded to the longest of each batch, as a Trainer does without packing. Ours:
          several in a row, which do not see each other
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stoker.nn import config as configs
from stoker.nn.torch_model import LanguageModel
from stoker.train.losses import sft
from stoker.train.model import TorchRows, rows_on
from stoker.train.packing import pack
from stoker.train.rows import Rows

SIZE = {
    "vocab_size": 8192,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
ROW = 512
BATCH = 8  # conversations in a padded batch


def models() -> tuple[LanguageModel, LlamaForCausalLM]:
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(LlamaConfig(**SIZE)).train()
    ours = LanguageModel(configs.from_json(theirs.config.to_json_string(use_diff=False))).train()
    ours.load_state_dict({name: value for name, value in theirs.state_dict().items() if name != "lm_head.weight"})
    return ours, theirs


def conversations(count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tokens, and which of them the assistant says: about half, at the end."""
    chance = np.random.default_rng(seed)
    lengths = np.clip(chance.lognormal(4.4, 0.8, count), 12, ROW).astype(int)
    found = []
    for length in lengths:
        said = np.arange(length) >= int(length * chance.uniform(0.3, 0.7))
        found.append((chance.integers(8, SIZE["vocab_size"], length), said))
    return found


def filled(groups: list[list[tuple[np.ndarray, np.ndarray]]]) -> TorchRows:
    width = -(-max(sum(len(tokens) for tokens, _ in group) for group in groups) // 8) * 8
    shape = (len(groups), width)
    tokens, targets = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    weights, documents = np.zeros(shape, np.float32), np.full(shape, -1, np.int32)
    positions = np.zeros(shape, np.int32)
    for row, group in enumerate(groups):
        at = 0
        for number, (ids, said) in enumerate(group):
            end = at + len(ids)
            tokens[row, at:end], targets[row, at : end - 1] = ids, ids[1:]
            weights[row, at : end - 1] = said[1:]
            documents[row, at:end], positions[row, at:end] = number, np.arange(len(ids))
            at = end
    features = np.zeros((0, 0), np.float32)
    return rows_on(Rows(tokens, targets, weights, documents, positions, features, ((),) * len(groups)), "cpu")


def timed(step: Callable[[], torch.Tensor], module: torch.nn.Module) -> float:
    module.zero_grad(set_to_none=True)
    begun_at = time.process_time()
    step().backward()
    return time.process_time() - begun_at


def pairs_of(one: Callable[[], float], other: Callable[[], float], count: int) -> list[tuple[float, float]]:
    one(), other()
    found = []
    for number in range(count):  # who is first takes turns, too
        if number % 2:
            second, first = other(), one()
        else:
            first, second = one(), other()
        found.append((first, second))
    return found


def theirs_on(model: LlamaForCausalLM, rows: TorchRows) -> torch.Tensor:
    """As a Trainer does: attention_mask for padding, labels of -100 where nothing counts."""
    labels = torch.full_like(rows.tokens, -100)
    labels[:, 1:] = torch.where(rows.weights[:, :-1] > 0, rows.targets[:, :-1], -100)
    return model(input_ids=rows.tokens, attention_mask=(rows.documents >= 0).long(), labels=labels).loss


def unpacked(ours: LanguageModel, theirs: LlamaForCausalLM, pairs: int) -> dict[str, float]:
    chance = np.random.default_rng(1)
    rows = filled([[(chance.integers(8, SIZE["vocab_size"], 256), np.ones(256, bool))] for _ in range(4)])
    with torch.no_grad():
        mean = sft(ours, rows) / rows.weights.sum()
        torch.testing.assert_close(mean, theirs_on(theirs, rows), atol=1e-4, rtol=1e-4)
    found = pairs_of(
        lambda: timed(lambda: sft(ours, rows) / rows.weights.sum(), ours),
        lambda: timed(lambda: theirs_on(theirs, rows), theirs),
        pairs,
    )
    return {
        "ours_s": statistics.median(one for one, _ in found),
        "theirs_s": statistics.median(other for _, other in found),
        "theirs_over_ours": statistics.median(other / one for one, other in found),
    }


def packed(ours: LanguageModel, theirs: LlamaForCausalLM, pairs: int) -> dict[str, float]:
    talks = conversations(32, seed=2)
    lengths = [len(tokens) for tokens, _ in talks]
    groups = pack(lengths, np.arange(len(talks)), ROW, packing=True)
    rows = [filled([[talks[index] for index in group]]) for group in groups]
    batches = [filled([[talk] for talk in talks[start : start + BATCH]]) for start in range(0, len(talks), BATCH)]
    for batch in batches:
        assert not batch.is_packed

    def ours_once() -> float:
        return sum(timed(lambda each=each: sft(ours, each), ours) for each in rows)

    def theirs_once() -> float:
        return sum(timed(lambda each=each: theirs_on(theirs, each), theirs) for each in batches)

    found = pairs_of(ours_once, theirs_once, pairs)
    tokens = sum(lengths)
    return {
        "tokens": tokens,
        "fill_packed": tokens / sum(each.tokens.numel() for each in rows),
        "fill_padded": tokens / sum(each.tokens.numel() for each in batches),
        "ours_tokens_per_s": statistics.median(tokens / one for one, _ in found),
        "theirs_tokens_per_s": statistics.median(tokens / other for _, other in found),
        "ours_over_theirs": statistics.median(other / one for one, other in found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ours, theirs = models()
    report = {
        "parameters": sum(parameter.numel() for parameter in ours.parameters()),
        "unpacked": unpacked(ours, theirs, arguments.pairs),
        "packed": packed(ours, theirs, arguments.pairs),
    }
    if arguments.json:
        print(json.dumps(report, indent=2))
        return
    one, other = report["unpacked"], report["packed"]
    print(f"{report['parameters'] / 1e6:.1f} M parameters, float32, one thread, medians of {arguments.pairs} pairs")
    print(
        f"unpacked, 4 x 256 tokens: ours {one['ours_s'] * 1e3:.0f} ms a step, transformers {one['theirs_s'] * 1e3:.0f}"
    )
    print(f"  transformers / ours {one['theirs_over_ours']:.3f} (goal: no less than 1.00)")
    print(
        f"packed, {other['tokens']} tokens of chats: ours {other['ours_tokens_per_s']:,.0f} tokens/s "
        f"({other['fill_packed']:.0%} of the slots filled), transformers padded "
        f"{other['theirs_tokens_per_s']:,.0f} ({other['fill_padded']:.0%})"
    )
    print(f"  ours / transformers {other['ours_over_theirs']:.2f} (goal: 1.50)")


if __name__ == "__main__":
    main()
