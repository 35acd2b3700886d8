"""A folder of weights, loaded: what the engine serves and what training starts from and writes.

config.json  tokenizer.json  model.safetensors (or shards with their index)  [image_projector.safetensors]
"""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from stoker.base.errors import InvalidInput
from stoker.nn import config as configs
from stoker.nn import image as images
from stoker.nn import tokenizer as tokenizers
from stoker.nn import weights_files
from stoker.nn.config import ModelConfig
from stoker.nn.decoder import Decoder, refuse_what_is_not_computed
from stoker.nn.image import ImageProjector
from stoker.nn.tokenizer import Tokenizer


@dataclass(frozen=True)
class Bundle:
    config: ModelConfig
    tokenizer: Tokenizer
    decoder: Decoder
    projector: ImageProjector | None
    """None: the model takes text only."""


def default_folder() -> Path:
    """The weights that come with the package; nn/weights/MODEL_CARD.md says what they are."""
    return Path(str(resources.files("stoker.nn"))) / "weights"


def load(folder: Path | None = None) -> Bundle:
    """Raises InvalidInput when the folder is no model, its files do not fit each other, or the decoder does not compute
    what config.json says."""
    folder = folder or default_folder()
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InvalidInput(
                f"{folder} has no {name}",
                param="weights",
                hint="a folder that `stoker register` or an export made has it",
            )
    config = configs.load(folder)
    refuse_what_is_not_computed(config)
    tokenizer = tokenizers.load(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise InvalidInput(
            f"tokenizer.json has {tokenizer.vocab_size} tokens, config.json {config.vocab_size}", param="weights"
        )
    projector = images.load(folder, config.image, config.hidden_size) if config.image is not None else None
    return Bundle(config, tokenizer, Decoder(config, weights_files.read(folder)), projector)
