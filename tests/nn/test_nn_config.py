import json

import pytest
from nn_builders import tiny_config

from stoker.base.errors import InvalidInput
from stoker.nn import bundle as bundles
from stoker.nn import config as configs
from stoker.nn.config import ImageConfig


def test_a_config_comes_back_from_its_json():
    config = configs.ModelConfig(**{**vars(tiny_config()), "image": ImageConfig(grid=4, features=6, hidden=8)})
    assert configs.from_json(configs.to_json(config)) == config


def test_the_json_has_the_key_names_of_transformers():
    document = json.loads(configs.to_json(tiny_config()))
    assert document["model_type"] == "llama"
    assert document["architectures"] == ["LlamaForCausalLM"]
    assert document["tie_word_embeddings"] is True
    assert document["num_key_value_heads"] == 1


def test_a_missing_dimension_is_named():
    document = json.loads(configs.to_json(tiny_config()))
    del document["head_dim"]
    with pytest.raises(InvalidInput, match=r"config\.json: missing head_dim"):
        configs.from_json(json.dumps(document))


def test_a_variant_that_the_decoder_does_not_compute_is_refused():
    document = {**json.loads(configs.to_json(tiny_config())), "attention_bias": True}
    with pytest.raises(InvalidInput, match="attention_bias is True; this decoder computes False"):
        configs.from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 3}, r"num_attention_heads \(2\) must be a multiple of num_key_value_heads \(3\)"),
        ({"head_dim": 5}, r"head_dim \(5\) must be even"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, int], message: str):
    with pytest.raises(InvalidInput, match=message):
        tiny_config(**changes)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"has no config\.json"):
        bundles.load(tmp_path)


def test_the_default_weights_are_small():
    files = list(bundles.default_folder().iterdir())
    assert {file.name for file in files} == {
        "MODEL_CARD.md",
        "config.json",
        "image_projector.safetensors",
        "model.safetensors",
        "tokenizer.json",
    }
    assert sum(file.stat().st_size for file in files) < 5_000_000
