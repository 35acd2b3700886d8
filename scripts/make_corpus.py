"""Write the data that the embedded model is made of: chat, pictures and stories from `scripts/corpus`, as JSON lines.

    python scripts/make_corpus.py --out DIR [--lines N] [--seed N]

DIR then holds train.jsonl and validation.jsonl, which `stoker train examples/embedded/run.yaml` reads. Same seed, same
bytes. No network and no data of others.
"""

import argparse
import base64
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path

from corpus import conversations, pictures, stories
from PIL import Image

PICTURES, STORIES = 0.12, 0.08
HELD_BACK = 200


def lines(seed: int) -> Iterator[str]:
    chance = random.Random(seed)
    talks, texts = conversations(seed + 1), stories(seed + 2)
    while True:
        kind = chance.random()
        if kind < PICTURES:
            yield json.dumps({"messages": picture(chance)})
        elif kind < PICTURES + STORIES:
            yield json.dumps({"text": next(texts)})
        else:
            talk = next(talks)
            messages = [{"role": "system", "content": talk.system}] if talk.system else []
            for question, answer in talk.exchanges:
                messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            yield json.dumps({"messages": messages})


def picture(chance: random.Random) -> list[dict[str, object]]:
    pixels, question, answer = pictures.exchange(chance)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    parts: list[dict[str, object]] = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": question},
    ]
    if chance.random() < 0.5:
        parts.reverse()
    return [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=20)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, seed, count in (("train", asked.seed, asked.lines), ("validation", asked.seed + 1000, HELD_BACK)):
        source = lines(seed)
        with (asked.out / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(count):
                file.write(next(source) + "\n")


if __name__ == "__main__":
    main()
