"""Llama, Qwen2 and Qwen3 as `transformers` computes them, and documents that do not see each other."""

import pytest
from hf_models import KINDS, hf_model, saved, tokens_of

from stoker.nn import config as configs
from stoker.nn import weights_files

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


def _read(folder):
    import torch

    from stoker.nn.torch_model import LanguageModel

    model = LanguageModel(configs.load(folder))
    tensors = {name: tensor.to(torch.float32) for name, tensor in weights_files.tensors(folder)}
    model.load_state_dict(tensors, strict=True)
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_transformers(kind, tmp_path):
    import torch

    theirs = saved(kind, tmp_path)
    tokens = tokens_of(100, rows=2)
    with torch.no_grad():
        torch.testing.assert_close(_read(tmp_path)(tokens), theirs(tokens).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_transformers_reads_with_the_same_logits(kind, tmp_path):
    import torch
    import transformers

    first, second = tmp_path / "theirs", tmp_path / "ours"
    theirs = saved(kind, first)
    model = _read(first)
    second.mkdir()
    (second / "config.json").write_text(configs.to_json(model.config, dtype="float32"))
    tensors = model.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    weights_files.write(second, shapes, tensors.__getitem__, dtype="float32")
    again = transformers.AutoModelForCausalLM.from_pretrained(second).eval()
    assert type(again) is type(theirs)
    assert configs.load(second) == configs.load(first)
    tokens = tokens_of(64)
    with torch.no_grad():
        torch.testing.assert_close(again(tokens).logits, theirs(tokens).logits, atol=1e-5, rtol=1e-5)


def test_sharded_weights_of_transformers_are_read(tmp_path):
    import torch

    theirs = saved("qwen3", tmp_path, max_shard_size="10KB")
    assert len(weights_files.files(tmp_path)) > 2
    tokens = tokens_of(20)
    with torch.no_grad():
        torch.testing.assert_close(_read(tmp_path)(tokens), theirs(tokens).logits, atol=1e-5, rtol=1e-5)


def test_shards_that_are_written_transformers_reads(tmp_path):
    import torch
    import transformers

    theirs = saved("llama untied", tmp_path / "theirs")
    model = _read(tmp_path / "theirs")
    folder = tmp_path / "ours"
    folder.mkdir()
    (folder / "config.json").write_text(configs.to_json(model.config, dtype="float32"))
    tensors = model.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    weights_files.write(folder, shapes, tensors.__getitem__, dtype="float32", most_bytes=20_000)
    names = [path.name for path in weights_files.files(folder)]
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    assert len(names) > 2
    again = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = tokens_of(20)
    with torch.no_grad():
        torch.testing.assert_close(again(tokens).logits, theirs(tokens).logits, atol=1e-5, rtol=1e-5)


def _packed(lengths, row):
    """One row of documents one after the other, with padding up to `row`."""
    import torch

    documents = torch.full((1, row), -1, dtype=torch.int32)
    positions = torch.zeros((1, row), dtype=torch.int32)
    at = 0
    for number, length in enumerate(lengths):
        documents[0, at : at + length] = number
        positions[0, at : at + length] = torch.arange(length)
        at += length
    return documents, positions


@pytest.mark.parametrize("by_document", [True, False])
def test_a_document_has_the_logits_that_it_has_alone(by_document):
    import torch

    model = _ours("qwen3")
    model.by_document = by_document
    lengths, tokens = (7, 20, 3), tokens_of(32)
    documents, positions = _packed(lengths, 32)
    with torch.no_grad():
        packed = model(tokens, documents=documents, positions=positions)[0]
        at = 0
        for length in lengths:
            alone = model(tokens[:, at : at + length])[0]
            torch.testing.assert_close(packed[at : at + length], alone, atol=1e-5, rtol=1e-5)
            at += length


@pytest.mark.parametrize("by_document", [True, False])
def test_another_neighbour_changes_no_bit_of_a_document(by_document):
    import torch

    model = _ours("llama 3")
    model.by_document = by_document
    tokens = tokens_of(32, rows=2)
    documents, positions = _packed((12, 20), 32)
    documents, positions = documents.repeat(2, 1), positions.repeat(2, 1)
    other = tokens.clone()
    other[0, :12] = (other[0, :12] + 1) % 96
    with torch.no_grad():
        before = model(tokens, documents=documents, positions=positions)
        after = model(other, documents=documents, positions=positions)
    assert torch.equal(before[0, 12:], after[0, 12:])
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0, :12], after[0, :12])


def test_no_gradient_goes_from_one_document_to_another():
    import torch

    model = _ours("llama")
    embeddings = model.embed(tokens_of(32)).detach().requires_grad_()
    documents, positions = _packed((12, 18), 32)
    model(embeddings=embeddings, documents=documents, positions=positions)[0, 12:30].square().sum().backward()
    assert torch.equal(embeddings.grad[0, :12], torch.zeros(12, 32))
    assert embeddings.grad[0, 12:30].abs().min() > 0


def test_documents_of_one_length_are_attended_to_as_a_batch_with_the_same_result():
    import torch

    model = _ours("llama")
    tokens = tokens_of(32)
    documents, positions = _packed((8, 8, 8, 8), 32)
    with torch.no_grad():
        by_document = model(tokens, documents=documents, positions=positions)
        model.by_document = False
        by_mask = model(tokens, documents=documents, positions=positions)
    torch.testing.assert_close(by_document, by_mask, atol=1e-5, rtol=1e-5)


def test_runs_end_with_their_row():
    import torch

    from stoker.nn.torch_model import run_lengths

    assert run_lengths(torch.tensor([[0, 0, 1, -1], [0, 0, 0, 0], [0, 1, 2, 2]])) == [2, 1, 1, 4, 1, 1, 2]


def test_losses_at_chosen_places_are_those_of_all_logits_also_in_chunks(monkeypatch):
    import torch
    from torch.nn import functional

    from stoker.nn import torch_model

    model = _ours("qwen2 untied")
    tokens, targets = tokens_of(32, rows=2), tokens_of(33, rows=2)[:, 1:]
    kept = torch.tensor([0, 3, 4, 31, 32, 50, 63])
    wanted = functional.cross_entropy(model(tokens).flatten(0, 1)[kept], targets.flatten()[kept], reduction="none")
    wanted.sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for most in (1 << 25, 3 * 96):
        monkeypatch.setattr(torch_model, "CHUNK_LOGITS", most)
        model.zero_grad()
        losses = model(tokens, targets=targets, kept=kept)
        torch.testing.assert_close(losses, wanted, atol=1e-5, rtol=1e-5)
        losses.sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5, rtol=1e-4)


def test_a_pass_in_which_nothing_counts_has_gradients_of_zero():
    import torch

    model = _ours("llama untied")
    losses = model(tokens_of(8), targets=tokens_of(8), kept=torch.zeros(0, dtype=torch.int64))
    assert losses.shape == (0,)
    losses.sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.count_nonzero() for parameter in model.parameters())


def test_recomputing_changes_no_bit_of_losses_and_gradients_even_with_dropout():
    import torch

    from stoker.nn.torch_model import LanguageModel

    base = _ours("llama")
    tokens = tokens_of(24)
    documents, positions = _packed((10, 14), 24)
    results = []
    for recompute in (False, True):
        model = LanguageModel(base.config, dropout=0.3, recompute=recompute)
        model.load_state_dict(base.state_dict())
        torch.manual_seed(1)
        loss = model(tokens, documents=documents, positions=positions).square().mean()
        loss.backward()
        results.append([loss, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_dropout_is_for_training_alone():
    import torch

    from stoker.nn.torch_model import LanguageModel

    base = _ours("llama")
    model = LanguageModel(base.config, dropout=0.5)
    model.load_state_dict(base.state_dict())
    tokens = tokens_of(8)
    with torch.no_grad():
        assert not torch.equal(model(tokens), base(tokens))
        assert torch.equal(model.eval()(tokens), base(tokens))


def test_under_autocast_the_result_is_near():
    import torch

    model, tokens = _ours("qwen3"), tokens_of(32)
    documents, positions = _packed((12, 20), 32)
    with torch.no_grad():
        exact = model(tokens, documents=documents, positions=positions)
        for by_document in (True, False):
            model.by_document = by_document
            with torch.autocast("cpu", dtype=torch.bfloat16):
                rough = model(tokens, documents=documents, positions=positions)
            assert rough.dtype == torch.bfloat16
            assert (rough.float() - exact).norm() < 0.03 * exact.norm()


def test_images_stand_where_their_placeholders_are():
    import dataclasses

    import torch

    from stoker.nn.config import ImageConfig
    from stoker.nn.torch_model import LanguageModel

    base = _ours("llama")
    config = dataclasses.replace(base.config, image=ImageConfig(grid=1, features=6, hidden=8))
    model = LanguageModel(config, image_token=6).eval()
    model.load_state_dict(base.state_dict(), strict=False)
    tokens = torch.tensor([[1, 6, 2], [6, 3, 4]])
    features = torch.arange(12.0).view(2, 6)
    with torch.no_grad():
        got = model(tokens, features=features)
        embeddings = model.embed(tokens)
        embeddings[0, 1], embeddings[1, 0] = model.image_projector(features)
        assert torch.equal(got, model(embeddings=embeddings))


def test_without_an_image_the_projector_has_gradients_of_zero():
    """Else processes with images and processes without would wait for each other."""
    import dataclasses

    from stoker.nn.config import ImageConfig
    from stoker.nn.torch_model import LanguageModel

    config = dataclasses.replace(_ours("llama").config, image=ImageConfig(grid=1, features=6, hidden=8))
    model = LanguageModel(config, image_token=6)
    model(tokens_of(4) % 6).sum().backward()
    gradients = [parameter.grad for parameter in model.image_projector.parameters()]
    assert [gradient.count_nonzero().item() for gradient in gradients] == [0, 0, 0, 0]


def test_random_weights_depend_on_seed_and_name():
    import torch

    from stoker.nn.torch_model import LanguageModel, initialise

    config = _ours("qwen2").config
    one, same, other = LanguageModel(config), LanguageModel(config), LanguageModel(config)
    initialise(one, 5)
    torch.randn(3)
    initialise(same, 5)
    initialise(other, 6)
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name))
        if parameter.dim() == 2:
            assert not torch.equal(parameter, other.get_parameter(name))
    assert one.model.layers[0].self_attn.q_proj.weight.std().item() == pytest.approx(32**-0.5, rel=0.1)
    assert not one.model.layers[0].self_attn.q_proj.bias.count_nonzero()


def _ours(kind):
    from stoker.nn.torch_model import LanguageModel

    theirs = hf_model(kind)
    document = theirs.config.to_json_string(use_diff=False)
    model = LanguageModel(configs.from_json(document))
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    model.load_state_dict({name: value for name, value in theirs.state_dict().items() if name not in tied})
    return model
