"""Make the default weights of the embedded engine: tokenizer, decoder and image projector, from `scripts/corpus`.

    python scripts/make_model.py --out DIR [--steps N] [--threads N] [--seed N]

Needs the train extra (torch) and safetensors; no network and no data. On two cores the default takes about
20 minutes and prints the loss as it goes. DIR then holds config.json, tokenizer.json, model.safetensors and
image_projector.safetensors; copied to src/stoker/nn/weights they are what the engine loads.
The same seed gives the same text, pictures and order; the weights agree up to rounding (threads and CPU matter).
"""

import argparse
import itertools
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from corpus import conversations, pictures, stories
from safetensors.torch import save_file
from torch.nn import functional

from stoker.nn import config as configs
from stoker.nn import tokenizer as tokenizers
from stoker.nn.image import cell_features
from stoker.nn.tokenizer import ImagePart, Message, Tokenizer
from stoker.nn.torch_model import ImageProjector, LanguageModel

LENGTH = 192  # tokens in a row of a batch; conversations are packed into rows one after the other
BATCH = 16
PEAK_RATE = 3e-3
QUESTION_WEIGHT = 0.1  # of a question's tokens in the loss: what matters is the answer
TOKENIZER_TEXTS = 30_000
IMAGE = configs.ImageConfig(grid=4, features=6, hidden=64)
CONFIG = configs.ModelConfig(
    vocab_size=1536,
    hidden_size=192,
    intermediate_size=512,
    num_hidden_layers=4,
    num_attention_heads=6,
    num_key_value_heads=3,
    head_dim=32,
    max_position_embeddings=8192,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    bos_token_id=0,
    eos_token_id=1,
    image=IMAGE,
)


@dataclass
class Example:
    """One document as tokens, the weight of each in the loss, and the features of its image, if it has one."""

    tokens: list[int]
    weights: list[float]
    features: np.ndarray | None = None


def conversation_example(tokenizer: Tokenizer, system: str | None, exchanges: list[tuple[str, str]]) -> Example:
    messages = [Message("system", [system])] if system else []
    tokens: list[int] = []
    weights: list[float] = []
    for question, answer in exchanges:
        messages.append(Message("user", [question]))
        prompt = tokenizer.chat_prompt(messages)
        reply = [*tokenizer.encode(answer), tokenizer.end]
        weights += [QUESTION_WEIGHT] * (len(prompt) - len(tokens)) + [1.0] * len(reply)
        tokens = prompt + reply
        messages.append(Message("assistant", [answer]))
    return Example(tokens, weights)


def picture_example(tokenizer: Tokenizer, rng: random.Random) -> Example:
    pixels, question, answer = pictures.exchange(rng)
    parts: list[str | ImagePart] = [ImagePart(IMAGE.tokens), question]
    if rng.random() < 0.5:
        parts.reverse()
    prompt = tokenizer.chat_prompt([Message("user", parts)])
    reply = [*tokenizer.encode(answer), tokenizer.end]
    weights = [0.0] * len(prompt) + [1.0] * len(reply)
    return Example(prompt + reply, weights, cell_features(pixels, IMAGE.grid))


def text_example(tokenizer: Tokenizer, text: str) -> Example:
    tokens = [*tokenizer.text_prompt(text), tokenizer.end]
    return Example(tokens, [0.5] * len(tokens))


def examples(tokenizer: Tokenizer, seed: int) -> Iterator[Example]:
    rng = random.Random(seed)
    talks, texts = conversations(seed + 1), stories(seed + 2)
    while True:
        kind = rng.random()
        if kind < 0.80:
            talk = next(talks)
            yield conversation_example(tokenizer, talk.system, talk.exchanges)
        elif kind < 0.92:
            yield picture_example(tokenizer, rng)
        else:
            yield text_example(tokenizer, next(texts))


@dataclass
class Batch:
    tokens: torch.Tensor
    weights: torch.Tensor
    features: torch.Tensor


def batches(tokenizer: Tokenizer, seed: int) -> Iterator[Batch]:
    """Rows of whole documents, the last one of a row cut. `features` holds the cells of all images, in order."""
    source = examples(tokenizer, seed)
    while True:
        tokens = np.zeros((BATCH, LENGTH + 1), dtype=np.int64)
        weights = np.zeros((BATCH, LENGTH + 1), dtype=np.float32)
        features = [np.zeros((0, IMAGE.features), dtype=np.float32)]
        for row in range(BATCH):
            used = 0
            while used < LENGTH + 1:
                example = next(source)
                room = LENGTH + 1 - used
                if example.features is not None:
                    if len(example.tokens) > room:
                        continue  # an image is never cut in two
                    features.append(example.features)
                part = example.tokens[:room]
                tokens[row, used : used + len(part)] = part
                weights[row, used : used + len(part)] = example.weights[:room]
                used += len(part)
        yield Batch(torch.from_numpy(tokens), torch.from_numpy(weights), torch.from_numpy(np.concatenate(features)))


def loss_of(model: LanguageModel, projector: ImageProjector, batch: Batch, image_token: int) -> torch.Tensor:
    inputs, targets, weights = batch.tokens[:, :-1], batch.tokens[:, 1:], batch.weights[:, 1:]
    embeddings = model.embed(inputs)
    places = (inputs == image_token).unsqueeze(-1)
    # A row ends with a whole document or in one without images, so that all cells have their place in `inputs`.
    embeddings = embeddings.masked_scatter(places, projector(batch.features).to(embeddings.dtype))
    logits = model(embeddings=embeddings)
    each = functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return (each * weights.flatten()).sum() / weights.sum()


def rate_at(step: int, steps: int) -> float:
    """Linear warm-up over the first 3 %, then a cosine down to a fiftieth."""
    warm = max(1, steps * 3 // 100)
    if step < warm:
        return PEAK_RATE * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return PEAK_RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def initialise(model: LanguageModel) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            scale = 0.02 if "embed" in name else parameter.shape[1] ** -0.5
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                scale /= math.sqrt(2 * CONFIG.num_hidden_layers)
            torch.nn.init.normal_(parameter, std=scale)


def train(tokenizer: Tokenizer, steps: int, seed: int, out: Path, *, bfloat16: bool) -> None:
    torch.manual_seed(seed)
    model, projector = LanguageModel(CONFIG), ImageProjector(IMAGE, CONFIG.hidden_size)
    initialise(model)
    parameters = [*model.parameters(), *projector.parameters()]
    print(f"parameters: {sum(p.numel() for p in parameters):,}", flush=True)
    matrices = [p for p in parameters if p.dim() == 2]
    vectors = [p for p in parameters if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)
    began, average = time.monotonic(), None
    for step, batch in enumerate(itertools.islice(batches(tokenizer, seed), steps)):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            loss = loss_of(model, projector, batch, tokenizer.image)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average = loss.item() if average is None else 0.95 * average + 0.05 * loss.item()
        if step % 50 == 0 or step == steps - 1:
            tokens = (step + 1) * BATCH * LENGTH
            elapsed = time.monotonic() - began
            print(f"step {step} loss {average:.4f} tokens {tokens:,} ({tokens / elapsed:,.0f}/s)", flush=True)
        if step % 500 == 499 or step == steps - 1:
            save(model, projector, out)


def save(model: LanguageModel, projector: ImageProjector, out: Path) -> None:
    for name, module in (("model", model), ("image_projector", projector)):
        tensors = {key: value.detach().to(torch.float16).contiguous() for key, value in module.state_dict().items()}
        path = out / f"{name}.safetensors"
        save_file(tensors, path, metadata={"format": "pt"})
        path.chmod(0o644)  # it writes them for the owner alone
    (out / "config.json").write_text(configs.to_json(CONFIG), encoding="utf-8")


def make_tokenizer(seed: int, out: Path) -> Tokenizer:
    texts: list[str] = []
    for talk in itertools.islice(conversations(seed + 3), TOKENIZER_TEXTS):
        texts += [text for exchange in talk.exchanges for text in exchange]
    texts += itertools.islice(stories(seed + 4), TOKENIZER_TEXTS // 10)
    rng = random.Random(seed)
    for _ in range(200):
        _, question, answer = pictures.exchange(rng)
        texts += [question, answer]
    print(f"corpus for the tokenizer: {sum(map(len, texts)):,} characters", flush=True)
    content = tokenizers.train(texts, CONFIG.vocab_size)
    (out / "tokenizer.json").write_text(content, encoding="utf-8")
    tokenizer = Tokenizer(content)
    if tokenizer.vocab_size != CONFIG.vocab_size:
        raise SystemExit(f"the corpus gave {tokenizer.vocab_size} tokens, not {CONFIG.vocab_size}: it is too uniform")
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1900)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--float32", action="store_true", help="no bfloat16, for CPUs that are slow at it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(arguments.seed, arguments.out)
    train(tokenizer, arguments.steps, arguments.seed, arguments.out, bfloat16=not arguments.float32)


if __name__ == "__main__":
    main()
