"""How fast data becomes tokens, beside transformers; how full rows are, beside padding; how long a step takes to make.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/train/data.py [--conversations 4000] [--rounds 5]

Encoding: the same conversations (scripts/corpus, two to six messages), the same folder (a byte-level BPE of 8,000
tokens that is learned from them, ChatML with {% generation %}), the same tokens and weights, which is checked:

- ours: `encode_all` with the template's marks, with a template without them (prefixes compared), and with the tokenizer
  of the embedded model
- transformers: `apply_chat_template` in a loop, one conversation a call, with and without the mask of the assistant;
  and all in one call

Figures are the best of the rounds, which take turns. Packing: lengths of a log-normal, 200 tokens in the middle, at
most 1,024, as chat data has them.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("up", "shared", "../scripts"))
import numpy as np
from corpus import conversations
from machine import describe
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from stoker.nn.bundle import default_folder
from stoker.spec import Run
from stoker.train import packing
from stoker.train.encoding import Rules, Sample, encoder_of
from stoker.train.formats import Chat
from stoker.train.source import open_source

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PLAIN = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")


def talks(count: int) -> list[list[dict[str, str]]]:
    found = []
    for _, talk in zip(range(count), conversations(1), strict=False):
        messages = [{"role": "system", "content": talk.system}] if talk.system else []
        for question, answer in talk.exchanges:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        found.append(messages)
    return found


def folder_of(place: Path, template: str, talks: list[list[dict[str, str]]]) -> Path:
    place.mkdir()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((message["content"] for talk in talks for message in talk), trainer)
    tokenizer.save(str(place / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": template}
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    return place


def best(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds[name] = min(seconds[name], time.perf_counter() - begun)
    return seconds


def encoding(place: Path, count: int, rounds: int) -> None:
    from transformers import PreTrainedTokenizerFast

    data = talks(count)
    marked, plain = folder_of(place / "marked", MARKED, data), folder_of(place / "plain", PLAIN, data)
    theirs = PreTrainedTokenizerFast.from_pretrained(marked)
    examples = [Chat(talk) for talk in data]
    rules = Rules(8192)
    with_marks, by_prefix, own = encoder_of(marked), encoder_of(plain), encoder_of(default_folder())
    mine = with_marks.encode_all(examples, rules)
    same = 0
    for talk, one, other in zip(data[:200], mine, by_prefix.encode_all(examples[:200], rules), strict=False):
        said = theirs.apply_chat_template(talk, return_dict=True, return_assistant_tokens_mask=True)
        assert isinstance(one, Sample)
        assert isinstance(other, Sample)
        assert one.chosen.tokens.tolist() == other.chosen.tokens.tolist() == said["input_ids"]
        assert one.chosen.weights.tolist() == other.chosen.weights.tolist() == said["assistant_masks"]
        same += 1
    tokens = sum(len(each.chosen.tokens) for each in mine if isinstance(each, Sample))
    print(f"{count:,} conversations, {tokens:,} tokens; {same} compared token by token, weights too: equal\n")
    ours_own = sum(len(each.chosen.tokens) for each in own.encode_all(examples, rules) if isinstance(each, Sample))
    seconds = best(
        {
            "Stoker, template with marks": lambda: with_marks.encode_all(examples, rules),
            "Stoker, template without": lambda: by_prefix.encode_all(examples, rules),
            "Stoker, its own tokenizer": lambda: own.encode_all(examples, rules),
            "transformers, a loop, mask": lambda: [
                theirs.apply_chat_template(talk, return_dict=True, return_assistant_tokens_mask=True) for talk in data
            ],
            "transformers, a loop, no mask": lambda: [theirs.apply_chat_template(talk) for talk in data],
            "transformers, one call, mask": lambda: theirs.apply_chat_template(
                data, return_dict=True, return_assistant_tokens_mask=True
            ),
        },
        rounds,
    )
    for name, took in seconds.items():
        made = ours_own if "own" in name else tokens
        print(f"  {name:32} {made / took:>12,.0f} tokens/s {1e6 * took / count:>8.0f} us each")


def filling() -> None:
    chance = np.random.default_rng(0)
    print()
    for count in (100_000, 1_000_000):
        lengths = np.clip(chance.lognormal(5.3, 0.9, count), 8, 1024).astype(np.int64)
        begun = time.perf_counter()
        sequence = packing.order(count, 0, 0)
        rows = packing.pack(lengths, sequence, 1024, packing=True)
        took = time.perf_counter() - begun
        full = lengths.sum() / (len(rows) * 1024)
        batches = lengths[sequence][: count // 8 * 8].reshape(-1, 8)
        padded = lengths.sum() / (batches.max(axis=1) * 8).sum()
        print(
            f"{count:>9,} examples: packed {full:.1%} full in {took:.1f} s; padded to the longest of 8 {padded:.1%}; "
            f"to the row {lengths.sum() / (count * 1024):.1%}"
        )


def steps(place: Path, count: int) -> None:
    with (place / "data.jsonl").open("w") as file:
        for talk in talks(count):
            file.write(json.dumps({"messages": talk}) + "\n")
    run = Run.model_validate({"name": "benchmark", "data": "data.jsonl", "batch": {"rows": 32, "microRows": 4}})
    print()
    for what in ("encoded", "from the cache"):
        begun = time.perf_counter()
        source = open_source(
            run, run.data, encoder_of(default_folder()), here=place, tell=lambda _: None, cache=place / "cache"
        )
        print(f"opened in {time.perf_counter() - begun:.2f} s ({what}); {source.report.tokens:,} tokens")
    source.step(0)
    each = []
    for number in range(source.steps):
        begun = time.perf_counter()
        source.step(number)
        each.append(time.perf_counter() - begun)
    print(f"32 rows of 1,024 tokens: {1e3 * np.median(each):.2f} ms in the middle, {1e3 * max(each):.2f} at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    print(describe())
    with tempfile.TemporaryDirectory() as place:
        encoding(Path(place), options.conversations, options.rounds)
        filling()
        steps(Path(place), options.conversations)


if __name__ == "__main__":
    main()
