"""Synthetic pictures, each with the colour that most of it has."""

import random

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# The colours as people name them, a few shades of each.
SHADES: dict[str, list[tuple[int, int, int]]] = {
    "red": [(255, 0, 0), (220, 20, 40), (180, 0, 0), (230, 50, 50)],
    "green": [(0, 255, 0), (0, 128, 0), (30, 160, 60), (60, 200, 80)],
    "blue": [(0, 0, 255), (30, 60, 220), (0, 0, 160), (60, 110, 230)],
    "yellow": [(255, 255, 0), (240, 220, 30), (255, 235, 80)],
    "orange": [(255, 165, 0), (255, 130, 0), (240, 140, 30)],
    "purple": [(128, 0, 128), (150, 40, 180), (100, 20, 150)],
    "pink": [(255, 192, 203), (255, 150, 180), (255, 120, 180)],
    "brown": [(139, 69, 19), (110, 60, 20), (150, 90, 50)],
    "black": [(0, 0, 0), (20, 20, 20), (30, 25, 28)],
    "white": [(255, 255, 255), (245, 245, 245), (250, 248, 240)],
    "grey": [(128, 128, 128), (100, 100, 105), (165, 165, 165)],
}
SIDE = 32


def picture(rng: random.Random) -> tuple[str, Pixels]:
    """A ground of one colour, often with a patch of another on less than a third of it, and a little noise."""
    name, other = rng.sample(list(SHADES), 2)
    noise = np.random.default_rng(rng.getrandbits(32))
    pixels = np.empty((SIDE, SIDE, 3), dtype=np.float64)
    pixels[:] = rng.choice(SHADES[name])
    pixels += noise.normal(0, 8, size=3)
    if rng.random() < 0.5:
        height, width = rng.randint(4, 18), rng.randint(4, 18)
        top, left = rng.randint(0, SIDE - height), rng.randint(0, SIDE - width)
        pixels[top : top + height, left : left + width] = rng.choice(SHADES[other])
    if rng.random() < 0.3:
        pixels += np.linspace(-15, 15, SIDE)[:, None, None]
    pixels += noise.normal(0, rng.choice([0, 0, 4, 10]), size=pixels.shape)
    return name, np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def exchange(rng: random.Random) -> tuple[Pixels, str, str]:
    """The picture, the question that stands after it, and the answer."""
    name, pixels = picture(rng)
    asked = [
        "What colour is this image?",
        "What colour is this image?",
        "What color is this image?",
        "What colour is this?",
        "What color is this?",
        "Which colour do you see?",
        "Describe this image.",
        "Describe this picture.",
        "What is in this image?",
        "Name the dominant colour of this picture.",
        "What is the main color of the image?",
        "what colour is it",
    ]
    return pixels, rng.choice(asked), f"This image is mostly {name}."
