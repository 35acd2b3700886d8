import json

import pytest
from hf_models import hf_model, saved, tokens_of

from stoker.nn import config as configs

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


def _base(kind="llama"):
    from stoker.nn.torch_model import LanguageModel

    theirs = hf_model(kind)
    model = LanguageModel(configs.from_json(theirs.config.to_json_string(use_diff=False)))
    model.load_state_dict(theirs.state_dict(), strict=False)
    return model.eval()


def _tuned(kind="llama", *, targets=("q_proj", "down_proj"), rank=4, alpha=8.0, dropout=0.0, seed=1):
    """With an update that is not 0, as after some steps."""
    import torch

    from stoker.nn import lora

    model = _base(kind)
    lora.inject(model, targets, rank=rank, alpha=alpha, dropout=dropout, seed=seed)
    chance = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for layer in lora.layers_of(model):
            layer.lora_B.weight.normal_(0, 0.2, generator=chance)
    return model


def test_a_new_update_changes_no_bit():
    import torch

    from stoker.nn import lora

    model, tokens = _base(), tokens_of(16)
    with torch.no_grad():
        before = model(tokens)
        lora.inject(model, lora.TARGETS, rank=4, alpha=8.0, seed=1)
        assert torch.equal(model(tokens), before)


def test_only_the_update_is_trained_and_names_of_the_base_stay():
    from stoker.nn import lora

    names = set(_base().state_dict())
    model = _tuned(targets=lora.TARGETS)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(model.state_dict()) - trained == names
    assert all(lora.is_update(name) for name in trained)
    assert len(trained) == 2 * 7 * 2
    assert "model.layers.1.self_attn.q_proj.lora_A.weight" in trained
    model(tokens_of(8)).sum().backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == trained


def test_the_merged_weight_is_the_base_plus_the_product():
    import torch

    from stoker.nn import lora

    base, model = _base(), _tuned(rank=4, alpha=8.0)
    tokens = tokens_of(16)
    with torch.no_grad():
        before = model(tokens)
        lora.merge(model)
        for name in ("self_attn.q_proj", "mlp.down_proj"):
            layer = model.get_submodule(f"model.layers.0.{name}")
            product = layer.lora_B.weight @ layer.lora_A.weight
            wanted = base.get_submodule(f"model.layers.0.{name}").weight + 2.0 * product
            torch.testing.assert_close(layer.weight, wanted)
        torch.testing.assert_close(model(tokens), before, atol=1e-4, rtol=1e-5)


def test_merging_twice_is_merging_once():
    import torch

    from stoker.nn import lora

    model = _tuned()
    lora.merge(model)
    once = {name: value.clone() for name, value in model.state_dict().items()}
    lora.merge(model)
    assert all(torch.equal(value, once[name]) for name, value in model.state_dict().items())


def test_without_the_update_the_model_is_the_base_and_afterwards_it_is_not():
    import torch

    from stoker.nn import lora

    base, model, tokens = _base(), _tuned(), tokens_of(16)
    with torch.no_grad():
        tuned = model(tokens)
        with lora.without(model):
            assert torch.equal(model(tokens), base(tokens))
        assert torch.equal(model(tokens), tuned)
        assert not torch.equal(tuned, base(tokens))
    with pytest.raises(RuntimeError), lora.without(model):
        raise RuntimeError
    assert all(layer.is_on for layer in lora.layers_of(model))


def test_a_merged_update_cannot_be_left_out():
    from stoker.nn import lora

    model = _tuned()
    lora.merge(model)
    with pytest.raises(ValueError, match="merged into the weights"), lora.without(model):
        pass


def test_the_beginning_depends_on_the_seed_and_each_name_alone():
    import torch

    one, same, fewer, other = _tuned(seed=1), _tuned(seed=1), _tuned(seed=1, targets=("down_proj",)), _tuned(seed=2)
    name = "model.layers.1.mlp.down_proj.lora_A.weight"
    assert torch.equal(one.get_parameter(name), same.get_parameter(name))
    assert torch.equal(one.get_parameter(name), fewer.get_parameter(name))
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))
    first = one.get_parameter("model.layers.0.mlp.down_proj.lora_A.weight")
    assert not torch.equal(one.get_parameter(name), first)
    assert one.get_parameter(name).abs().max() <= 48**-0.5  # kaiming's bound for 48 inputs and a = sqrt(5)


def test_dropout_is_of_the_updates_input_alone():
    import torch

    model, tokens = _tuned(dropout=0.5), tokens_of(16)
    torch.manual_seed(0)
    with torch.no_grad():
        still = model(tokens)
        assert torch.equal(still, model(tokens))
        assert not torch.equal(still, model.train()(tokens))


def test_a_target_that_is_nowhere_is_named():
    from stoker.nn import lora

    with pytest.raises(ValueError, match="the model has no wq for LoRA"):
        lora.inject(_base(), ("q_proj", "wq"), rank=2, alpha=2.0, seed=1)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # PEFT asks transformers for it
@pytest.mark.parametrize("kind", ["llama", "llama untied", "qwen2", "qwen3"])
def test_peft_loads_the_adapter_and_computes_the_same(kind, tmp_path):
    import peft
    import torch

    from stoker.nn import lora, weights_files

    base = saved(kind, tmp_path / "base")
    targets = ("q_proj", "v_proj", "gate_proj", "down_proj")
    model = _tuned(kind, targets=targets, rank=3, alpha=7.0)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    document = lora.peft_config(rank=3, alpha=7.0, dropout=0.0, targets=targets, base=str(tmp_path / "base"))
    (adapter / "adapter_config.json").write_text(json.dumps(document))
    update = {lora.peft_name(name): value for name, value in model.state_dict().items() if lora.is_update(name)}
    weights_files.write_file(adapter / "adapter_model.safetensors", update, dtype="float32")
    theirs = peft.PeftModel.from_pretrained(base, adapter).eval()
    tokens = tokens_of(40, rows=2)
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, model(tokens), atol=1e-5, rtol=1e-5)
        with theirs.disable_adapter():
            assert not torch.allclose(theirs(tokens).logits, model(tokens), atol=1e-2)
