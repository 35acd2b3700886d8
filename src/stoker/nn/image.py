"""An image as the model sees it: for each cell of a small grid, its mean colour and how much the colour varies.

That is enough to name what colour an image is, and nothing more: it proves the path of an image from the request to
the answer. Decoding files is the engine's work; here an image is an array already.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.nn import weights_files
from stoker.nn.config import ImageConfig

Floats = NDArray[np.float32]

FILE = "image_projector.safetensors"

SIDE = 32
"""Pixels a side of the array that `cell_features` takes; a multiple of every grid in use."""


def cell_features(pixels: NDArray[np.uint8], grid: int) -> Floats:
    """[grid * grid, 6], row by row: the mean of red, green and blue from -1 to 1, and their deviation from 0 to 1."""
    if pixels.shape != (SIDE, SIDE, 3):
        raise ValueError(f"pixels have shape {pixels.shape}, not {(SIDE, SIDE, 3)}")
    cell = SIDE // grid
    scaled = pixels.astype(np.float32) / 127.5 - 1.0
    cells = scaled.reshape(grid, cell, grid, cell, 3).transpose(0, 2, 1, 3, 4).reshape(grid * grid, cell * cell, 3)
    return np.concatenate([cells.mean(axis=1), cells.std(axis=1)], axis=1)


@dataclass(frozen=True)
class ImageProjector:
    """Cell features to soft tokens, which stand in the prompt where the placeholders are."""

    up_weight: Floats
    up_bias: Floats
    down_weight: Floats
    down_bias: Floats

    def project(self, features: Floats) -> Floats:
        hidden = np.maximum(features @ self.up_weight.T + self.up_bias, 0.0)
        soft_tokens: Floats = hidden @ self.down_weight.T + self.down_bias
        return soft_tokens


def load(folder: Path, image: ImageConfig, hidden_size: int) -> ImageProjector:
    tensors = {name: value.astype(np.float32) for name, value in weights_files.read_file(folder / FILE).items()}
    if tensors["up.weight"].shape != (image.hidden, image.features) or tensors["down.weight"].shape[0] != hidden_size:
        raise ValueError(f"{FILE} in {folder} does not have the shape that config.json says")
    return ImageProjector(tensors["up.weight"], tensors["up.bias"], tensors["down.weight"], tensors["down.bias"])
