"""Bases become modules, and passes become logits."""

import json
import shutil

import numpy as np
import pytest

from stoker.base.errors import InvalidInput
from stoker.nn import bundle

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


def _embedded(**more):
    from model_builders import run_of

    from stoker.train.model import build

    return build(run_of(**more), bundle.default_folder())


def test_the_embedded_model_is_built_in_float32_and_is_the_one_that_is_served():
    import torch

    from stoker.nn.decoder import Chunk, KVCache

    model = _embedded(method="full")
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for parameter in model.module.parameters())
    names = [name for name, _ in model.module.named_parameters()]
    assert [name for name in names if not name.startswith("model.")] == [
        "image_projector.up.weight",
        "image_projector.up.bias",
        "image_projector.down.weight",
        "image_projector.down.bias",
    ]
    served, tokens = bundle.load(), list(range(20, 60))
    cache = KVCache(served.config, 1, 64)
    wanted = served.decoder.step(cache, [], [], [], [Chunk(0, 0, served.decoder.embed(tokens))])[0]
    with torch.no_grad():
        got = model.module(torch.tensor([tokens]))[0, -1].numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=0)


def test_lora_is_put_where_the_run_says_and_alone_is_trained():
    model = _embedded(lora={"rank": 4, "targets": ("q_proj", "down_proj")})
    trained = [name for name, parameter in model.module.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * 2 * 4
    assert trained[0] == "model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize("kind", ["llama", "llama untied", "llama 3", "qwen2", "qwen3"])
def test_packed_logits_are_those_of_transformers_for_each_document_alone(kind, tmp_path):
    import torch
    from model_builders import base_of, packed, run_of

    from stoker.train.model import build, forward

    theirs = base_of(kind, tmp_path)
    module = build(run_of(method="full"), tmp_path).module
    rows = packed([[9, 14, 5], [30]], width=32)
    with torch.no_grad():
        got = forward(module, rows)
        assert got.shape == (2, 32, 320)
        assert got.dtype == torch.float32
        for row, begin, end in ((0, 0, 9), (0, 9, 23), (0, 23, 28), (1, 0, 30)):
            alone = theirs(rows.tokens[row : row + 1, begin:end]).logits[0]
            torch.testing.assert_close(got[row, begin:end], alone, atol=1e-5, rtol=1e-4)


def test_rows_are_sent_with_the_places_that_count():
    from model_builders import packed

    rows = packed([[5, 3], [4]], width=8)
    assert rows.is_packed
    assert rows.kept.tolist() == [at for at, weight in enumerate(rows.weights.flatten().tolist()) if weight > 0]
    found = type(rows)(**{**vars(rows), "kept": None})
    assert found.places.tolist() == rows.kept.tolist()


def test_an_image_in_the_data_is_seen():
    """As the engine sees it: the soft tokens of its cells stand at the placeholders."""
    import torch

    from stoker.nn import tokenizer as tokenizers
    from stoker.train.model import forward, rows_on
    from stoker.train.rows import Rows

    model = _embedded(method="full")
    image = tokenizers.load(bundle.default_folder()).image
    tokens = np.array([[0, 3, *[image] * 16, 40, 1]])
    zeros = np.zeros_like(tokens)
    features = np.random.default_rng(0).standard_normal((16, 6)).astype(np.float32)
    rows = Rows(
        tokens, zeros, zeros.astype(np.float32), zeros.astype(np.int32), zeros.astype(np.int32), features, ((),)
    )
    with torch.no_grad():
        got = forward(model.module, rows_on(rows, "cpu"))
        embeddings = model.module.embed(torch.from_numpy(tokens))
        soft = bundle.load().projector.project(features)
        embeddings[0, 2:18] = torch.from_numpy(soft)
        torch.testing.assert_close(got, model.module(embeddings=embeddings), atol=1e-4, rtol=1e-4)


def test_compiled_layers_attend_by_a_mask_and_keep_their_names(monkeypatch):
    import torch

    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    model = _embedded(compile=True, method="full")
    assert compiled == list(model.module.model.layers)
    assert model.module.by_document is False


def test_the_digest_is_of_what_makes_the_model(tmp_path):
    from stoker.train.bases import digest_of

    folder = tmp_path / "base"
    shutil.copytree(bundle.default_folder(), folder)
    digest = digest_of(folder)
    assert digest == _embedded().base_digest
    (folder / "MODEL_CARD.md").write_text("other words")
    assert digest_of(folder) == digest
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert digest_of(folder) != digest


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"model_type": "mistral", "architectures": ["MistralForCausalLM"]}, "what is known here is LlamaForCausalLM"),
        ({"num_hidden_layers": 3}, r"the weights lack model\.layers\.2\.input_layernorm\.weight, .* \(9 in all\)"),
        (
            {"num_hidden_layers": 1},
            r"the weights have model\.layers\.1\..*, which config\.json's architecture does not",
        ),
        ({"intermediate_size": 40}, r"down_proj\.weight has shape \(32, 48\); config\.json says \(32, 40\)"),
        ({"vocab_size": 200}, r"tokenizer\.json has \d+ tokens, config\.json 200"),
        ({"tie_word_embeddings": False}, r"the weights lack lm_head\.weight \(1 in all\)"),
    ],
)
def test_weights_that_do_not_fit_their_config_are_refused(spoil, message, tmp_path):
    from model_builders import base_of, document_of, run_of

    from stoker.train.model import build

    base_of("llama", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**document_of(tmp_path), **spoil}))
    with pytest.raises(InvalidInput, match=message):
        build(run_of(method="full"), tmp_path)


def test_a_tied_head_that_the_file_says_once_more_and_old_buffers_are_passed_over(tmp_path):
    from model_builders import base_of, run_of
    from safetensors.torch import load_file, save_file

    from stoker.train.model import build

    base_of("llama", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = tensors["model.norm.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    names = {name for name, _ in build(run_of(method="full"), tmp_path).module.named_parameters()}
    assert names == tensors.keys() - {"lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"}


def test_what_passes_are_computed_in():
    import torch
    from model_builders import run_of

    from stoker.train.model import compute_type, computing

    assert compute_type(run_of(), "cpu") == torch.float32
    assert compute_type(run_of(precision="bfloat16"), "cpu") == torch.bfloat16
    assert compute_type(run_of(precision="float32"), "cuda") == torch.float32
    with computing(run_of(precision="bfloat16"), "cpu")():
        assert torch.is_autocast_enabled("cpu")
    with computing(run_of(), "cpu")():
        assert not torch.is_autocast_enabled("cpu")
