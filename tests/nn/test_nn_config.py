import json
import math

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


LLAMA_2 = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.31.0",
    "use_cache": True,
    "vocab_size": 32000,
}
QWEN_2 = {
    **LLAMA_2,
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "sliding_window": 32768,
    "use_sliding_window": False,
    "max_window_layers": 28,
    "rope_theta": 1000000.0,
}
LLAMA_3_ROPE = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def _without(document, *names):
    return {name: value for name, value in document.items() if name not in names}


def test_what_transformers_leaves_out_means_what_it_says():
    config = configs.from_json(json.dumps(LLAMA_2))
    assert (config.head_dim, config.rope_theta, config.tie_word_embeddings) == (128, 10000.0, False)
    config = configs.from_json(json.dumps(_without(LLAMA_2, "num_key_value_heads")))
    assert config.num_key_value_heads == 32
    assert configs.from_json(json.dumps({**LLAMA_2, "head_dim": None})).head_dim == 128


def test_qwen3_has_no_head_dim_that_follows_from_others():
    document = {**LLAMA_2, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
    with pytest.raises(InvalidInput, match=r"config\.json: missing head_dim"):
        configs.from_json(json.dumps(document))


def test_a_sliding_window_that_is_not_in_use_changes_nothing():
    config = configs.from_json(json.dumps(QWEN_2))
    assert (config.architecture, config.has_qkv_bias, config.has_qk_norm) == ("Qwen2ForCausalLM", True, False)


@pytest.mark.parametrize("kind", ["rope_scaling", "rope_parameters"])
def test_llama_3_positions_are_read_both_ways(kind):
    given = {**LLAMA_3_ROPE, **({"rope_theta": 500000.0} if kind == "rope_parameters" else {})}
    document = {**LLAMA_2, "rope_theta": 500000.0, kind: given, "eos_token_id": [128001, 128009]}
    config = configs.from_json(json.dumps(document))
    assert config.rope_scaling == configs.RopeScaling(8.0, 1.0, 4.0, 8192)
    assert (config.rope_theta, config.eos_token_id) == (500000.0, (128001, 128009))
    assert configs.from_json(configs.to_json(config)) == config


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({**LLAMA_2, "sliding_window": 4096}, "sliding_window is '4096', and what that changes"),
        ({**LLAMA_2, "attention_bias": True}, "attention_bias is True"),
        ({**LLAMA_2, "mlp_bias": True}, "mlp_bias is True"),
        ({**LLAMA_2, "hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({**LLAMA_2, "num_local_experts": 8}, "num_local_experts is '8'"),
        ({**LLAMA_2, "quantization_config": {"bits": 4}}, "quantization_config is"),
        ({**LLAMA_2, "auto_map": {"AutoModel": "x.py"}}, "auto_map is"),
        ({**LLAMA_2, "partial_rotary_factor": 0.5}, "partial_rotary_factor is '0.5'"),
        ({**LLAMA_2, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling is .*linear.*known here are"),
        ({**LLAMA_2, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling is .*yarn"),
        ({**LLAMA_2, "rope_scaling": {**LLAMA_3_ROPE, "attention_factor": 2}}, "rope_scaling is"),
        ({**LLAMA_2, "rope_scaling": _without(LLAMA_3_ROPE, "factor")}, "rope_scaling is"),
        ({**LLAMA_2, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}}, "rope_parameters is .*dynamic"),
        ({**QWEN_2, "use_sliding_window": True}, "use_sliding_window is True"),
        ({**QWEN_2, "layer_types": ["full_attention", "sliding_attention"]}, "layer_types is"),
        ({**QWEN_2, "architectures": ["Qwen2MoeForCausalLM"]}, "Qwen2MoeForCausalLM.*what is known here is Llama"),
        ({**QWEN_2, "model_type": "llama"}, "model_type is 'llama'; Qwen2ForCausalLM is 'qwen2'"),
        ({**LLAMA_2, "hidden_size": 0}, "hidden_size is 0, not a whole number above 0"),
        ({**LLAMA_2, "vocab_size": "many"}, "vocab_size is 'many', not a whole number"),
        ({**LLAMA_2, "rms_norm_eps": -1.0}, "rms_norm_eps is -1.0, not a number above 0"),
        ({**LLAMA_2, "rms_norm_eps": math.inf}, "rms_norm_eps is inf, not a number above 0"),
        ({**LLAMA_2, "rope_theta": math.nan}, "rope_theta is nan, not a number above 0"),
        (
            {**LLAMA_2, "rope_scaling": {**LLAMA_3_ROPE, "factor": math.inf}},
            r"rope_scaling\.factor is inf, not a number",
        ),
        ({**LLAMA_2, "rope_scaling": {**LLAMA_3_ROPE, "factor": "8"}}, r"rope_scaling\.factor is '8', not a number"),
        ({**LLAMA_2, "num_hidden_layers": 10**8}, "num_hidden_layers is 100000000; 1,024 is the most"),
        ({**LLAMA_2, "vocab_size": 10**400}, "vocab_size is .*; 16,777,216 is the most"),
        ([], "is a list, not an object"),
    ],
)
def test_what_is_computed_in_another_way_is_refused(document, message):
    with pytest.raises(InvalidInput, match=message):
        configs.from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}, "computes LlamaForCausalLM"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False; the embedded engine computes True"),
        ({"rope_scaling": LLAMA_3_ROPE}, "rope_scaling is RopeScaling.*computes None"),
    ],
)
def test_the_engine_refuses_what_its_decoder_does_not_compute(changes, message, tmp_path):
    source = bundles.default_folder()
    for name in ("tokenizer.json", "model.safetensors", "image_projector.safetensors"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    document = {**json.loads((source / "config.json").read_text()), **changes}
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match=message) as refused:
        bundles.load(tmp_path)
    assert refused.value.hint == "serve these weights with vLLM"
