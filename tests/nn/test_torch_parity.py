"""The torch module that training trains is the model that the engine serves. Run by `make test-torch`."""

import numpy as np
import pytest
from nn_builders import default_bundle, random_tokens

from stoker.nn.bundle import default_folder
from stoker.nn.decoder import Chunk, KVCache
from stoker.nn.image import SIDE, cell_features

pytestmark = pytest.mark.torch


def _torch_model():
    import torch
    from safetensors.torch import load_file

    from stoker.nn.torch_model import LanguageModel

    model = LanguageModel(default_bundle().config)
    tensors = load_file(default_folder() / "model.safetensors")
    model.load_state_dict({name: tensor.to(torch.float32) for name, tensor in tensors.items()}, strict=True)
    return model


def test_the_torch_module_gives_the_logits_of_the_decoder():
    import torch

    bundle, tokens = default_bundle(), random_tokens(100, seed=5)
    with torch.no_grad():
        wanted = _torch_model()(torch.tensor([tokens]))[0, -1].numpy()
    cache = KVCache(bundle.config, 1, 128)
    got = bundle.decoder.step(cache, [], [], [], [Chunk(0, 0, bundle.decoder.embed(tokens))])
    np.testing.assert_allclose(got[0], wanted, atol=1e-4, rtol=0)


def test_the_torch_projector_gives_the_soft_tokens_of_the_engine():
    import torch
    from safetensors.torch import load_file

    from stoker.nn.torch_model import ImageProjector

    bundle = default_bundle()
    assert bundle.config.image is not None
    assert bundle.projector is not None
    module = ImageProjector(bundle.config.image, bundle.config.hidden_size)
    tensors = load_file(default_folder() / "image_projector.safetensors")
    module.load_state_dict({name: tensor.to(torch.float32) for name, tensor in tensors.items()}, strict=True)
    pixels = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    features = cell_features(pixels, bundle.config.image.grid)
    with torch.no_grad():
        wanted = module(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(bundle.projector.project(features), wanted, atol=1e-5)
