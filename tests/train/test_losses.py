"""Sums over passes: packed or not, and beside formulas written out plainly."""

import pytest

pytestmark = pytest.mark.torch

LENGTHS = [[7, 12, 4], [20], [3, 3, 9, 5]]


@pytest.fixture(autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


def _model(seed=2, *, tied=True, architecture="LlamaForCausalLM", dropout=0.0):
    from stoker.nn.config import ModelConfig
    from stoker.nn.torch_model import LanguageModel, initialise

    config = ModelConfig(320, 32, 48, 2, 4, 2, 8, 128, 1e-5, 1e4, 0, 1, None, architecture, tied)
    model = LanguageModel(config, dropout=dropout)
    initialise(model, seed)
    return model


def _gradients(model, value):
    model.zero_grad()
    value.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}


def _near(one, other, **tolerance):
    import torch

    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance)


def _log_p(model, rows):
    """Of a row of one document, from all logits: the weighted sum of its targets' log probabilities."""
    logits = model(rows.tokens).log_softmax(dim=-1)
    return (logits.gather(-1, rows.targets[..., None])[..., 0] * rows.weights).sum()


def test_the_loss_of_packed_rows_is_the_sum_of_their_documents_alone():
    from model_builders import alone, packed

    from stoker.train.losses import sft

    model, rows = _model(), packed(LENGTHS, width=24)
    together = sft(model, rows)
    apart = sum(sft(model, each) for each in alone(rows))
    plain = -sum(_log_p(model, each) for each in alone(rows))
    assert together.item() == pytest.approx(apart.item(), rel=1e-6)
    assert together.item() == pytest.approx(plain.item(), rel=1e-6)
    wanted = _gradients(model, plain)
    _near(_gradients(model, together), wanted, atol=1e-4, rtol=1e-4)
    _near(_gradients(model, apart), wanted, atol=1e-4, rtol=1e-4)


def test_padding_on_the_right_changes_nothing():
    from model_builders import alone, packed

    from stoker.train.losses import sft

    model, wide = _model(architecture="Qwen3ForCausalLM"), packed([[20]], width=64)
    assert not wide.is_packed
    (narrow,) = alone(wide)
    assert narrow.tokens.shape == (1, 20)
    assert sft(model, wide).item() == pytest.approx(sft(model, narrow).item(), rel=1e-6)


def test_a_pass_with_nothing_that_counts_is_zero_and_so_are_its_gradients():
    from model_builders import packed

    from stoker.train.losses import Dpo, frozen_copy, sft

    rows = packed([[5, 5]], width=16)
    rows.weights.zero_()
    rows.documents.fill_(-1)
    rows = type(rows)(**{**vars(rows), "kept": None})
    model = _model()
    for loss in (sft, Dpo(0.1, frozen_copy(model))):
        value = loss(model, rows)
        assert value.item() == 0.0
        gradients = _gradients(model, value)
        assert len(gradients) == len(list(model.parameters()))
        assert not any(gradient.count_nonzero() for gradient in gradients.values())


PAIRS = [[9, 5, 6, 11], [14, 13], [4, 8, 7, 3]]


@pytest.mark.parametrize("kind", ["copy", "lora"])
def test_dpo_is_the_plain_formula_over_unpacked_pairs(kind):
    import torch
    from model_builders import alone, packed
    from torch.nn import functional

    from stoker.nn import lora
    from stoker.train.losses import Dpo

    base, model = _model(), _model()
    rows, chance = packed(PAIRS, width=32), torch.Generator().manual_seed(4)
    if kind == "lora":
        lora.inject(model, ("q_proj", "up_proj"), rank=2, alpha=4.0, seed=1)
        with torch.no_grad():
            for layer in lora.layers_of(model):
                layer.lora_B.weight.normal_(0, 0.3, generator=chance)
        loss = Dpo(0.7, None)
    else:
        loss = Dpo(0.7, base)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=chance))
    got = loss(model, rows)
    each = alone(rows)
    plain = torch.zeros(())
    for chosen, rejected in zip(each[::2], each[1::2], strict=True):
        with torch.no_grad():
            before = _log_p(base, chosen) - _log_p(base, rejected)
        gain = (_log_p(model, chosen) - _log_p(model, rejected)) - before
        plain = plain - functional.logsigmoid(0.7 * gain)
    assert len(each) == 10
    assert got.item() == pytest.approx(plain.item(), rel=1e-5)
    assert abs(plain.item() - 5 * 0.6931) > 0.05  # not where it begins
    _near(_gradients(model, got), _gradients(model, plain), atol=1e-4, rtol=1e-3)


def test_dpo_begins_at_log_2_a_pair_even_with_dropout_in_the_reference():
    """The reference is in evaluation; what is trained has its dropout."""
    import math

    from model_builders import packed, run_of

    from stoker.nn import lora
    from stoker.train.losses import Dpo, loss_of

    run = run_of(objective="dpo", dataset={"format": "preference"})
    model = _model(dropout=0.4)
    lora.inject(model, ("q_proj",), rank=2, alpha=4.0, seed=1)
    loss, rows = loss_of(run, model), packed(PAIRS, width=32)
    assert isinstance(loss, Dpo)
    assert loss.reference is None
    assert loss(model.eval(), rows).item() == pytest.approx(5 * math.log(2), rel=1e-6)
    model.train()
    assert loss(model, rows).item() != pytest.approx(5 * math.log(2), rel=1e-6)
    assert model.training
    assert all(layer.is_on for layer in lora.layers_of(model))


def test_a_full_run_compares_with_a_frozen_copy_of_the_beginning():
    import math

    import torch
    from model_builders import packed, run_of

    from stoker.train.losses import loss_of

    run = run_of(objective="dpo", method="full", dpo={"beta": 0.3})
    model = _model()
    loss, rows = loss_of(run, model), packed(PAIRS, width=32)
    assert loss.beta == 0.3
    assert not any(parameter.requires_grad for parameter in loss.reference.parameters())
    assert loss(model, rows).item() == pytest.approx(5 * math.log(2), rel=1e-6)
    with torch.no_grad():
        model.model.norm.weight.mul_(1.5)
    assert loss(model, rows).item() != pytest.approx(5 * math.log(2), rel=1e-3)


def test_sft_is_what_a_run_gets_without_a_word():
    from model_builders import run_of

    from stoker.train.losses import loss_of, sft

    assert loss_of(run_of(), _model()) is sft
