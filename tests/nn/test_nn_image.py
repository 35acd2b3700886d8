import numpy as np
import pytest
from nn_builders import default_bundle

from stoker.nn.image import SIDE, cell_features


def test_the_features_of_a_cell_are_its_mean_and_its_deviation():
    pixels = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    pixels[:, SIDE // 2 :] = (255, 0, 255)
    pixels[: SIDE // 2, : SIDE // 4] = 255  # half of the upper left cell of a 2 x 2 grid
    features = cell_features(pixels, 2)
    assert features.shape == (4, 6)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[0], [0, 0, 0, 1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(features[1], [1, -1, 1, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(features[2], [-1, -1, -1, 0, 0, 0], atol=1e-6)


def test_an_array_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"pixels have shape \(2, 2, 3\), not \(32, 32, 3\)"):
        cell_features(np.zeros((2, 2, 3), dtype=np.uint8), 4)


def test_an_image_becomes_one_embedding_for_each_cell():
    bundle = default_bundle()
    assert bundle.config.image is not None
    assert bundle.projector is not None
    features = cell_features(np.zeros((SIDE, SIDE, 3), dtype=np.uint8), bundle.config.image.grid)
    assert bundle.projector.project(features).shape == (bundle.config.image.tokens, bundle.config.hidden_size)
