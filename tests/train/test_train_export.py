"""A checkpoint becomes a folder that the engine, `transformers` and PEFT load."""

import json
import re

import pytest

from stoker.base.errors import Conflict, InvalidInput
from stoker.nn import bundle, weights_files
from stoker.registry import shards
from stoker.registry.heads import Keep
from stoker.registry.manifests import Manifest, name_of
from stoker.registry.runs import RunStore
from stoker.testing.stores import MemoryStore

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


def _piece(name, tensor):
    array = tensor.detach().contiguous().numpy()
    shape = tuple(array.shape)
    return shards.Piece(name, "F32", shape, shape, (0,) * len(shape), array.tobytes())


def _checkpoint(module):
    """What a run saves, over three shards: what is trained, and two moments of each, in a shard of their own so that no
    chunk has both."""
    store = RunStore(MemoryStore(), "tune")
    lease = store.claim()
    name = name_of(5, lease.epoch)
    pieces = [
        _piece(prefix + parameter_name, parameter if prefix == "model/" else parameter * 0)
        for prefix in ("model/", "adam_m/", "adam_v/")
        for parameter_name, parameter in module.named_parameters()
        if parameter.requires_grad
    ]
    weights = [piece for piece in pieces if piece.name.startswith("model/")]
    moments = [piece for piece in pieces if not piece.name.startswith("model/")]
    records = tuple(
        store.write(name, f"shard-{number}.safetensors", part, timeout_s=60)
        for number, part in enumerate((weights[::2], weights[1::2], moments))
    )
    manifest = Manifest("tune", name, 5, lease.epoch, 0.0, records, {"step": 5})
    store.commit(lease, manifest, Keep())
    return store, manifest


def _changed(module):
    """As after some steps: every parameter that is trained is another one."""
    import torch

    chance = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=chance))
    return module


def _tuned(base, /, **more):
    from model_builders import run_of

    from stoker.train.model import build

    run = run_of(**more)
    return run, _changed(build(run, base).module)


LORA = {"rank": 3, "alpha": 7.0, "targets": ("q_proj", "o_proj", "up_proj")}
EXPORTED = {"config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"}


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", ["llama", "llama untied", "llama 3", "qwen2", "qwen3"])
def test_transformers_loads_what_was_exported_with_the_trained_modules_logits(kind, method, tmp_path):
    import torch
    import transformers
    from model_builders import base_of, tokens_of

    from stoker.train.export import export

    base, out = tmp_path / "base", tmp_path / "exports" / "out"
    before = base_of(kind, base)
    run, module = _tuned(base, method=method, lora=LORA)
    digest = export(run, base, *_checkpoint(module), out, dtype="float32")
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert {path.name for path in out.iterdir()} == EXPORTED
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
    assert theirs.dtype == torch.float32
    tokens = tokens_of(40)
    with torch.no_grad():
        logits = module(tokens)
        torch.testing.assert_close(theirs(tokens).logits, logits, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(before(tokens).logits, logits, atol=1e-2)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # PEFT asks transformers for it
def test_peft_loads_an_exported_adapter(tmp_path):
    import peft
    import torch
    from model_builders import base_of, document_of, tokens_of

    from stoker.train.export import export

    base, out = tmp_path / "base", tmp_path / "out"
    theirs = base_of("qwen2", base)
    run, module = _tuned(base, base="base", lora=LORA)
    export(run, base, *_checkpoint(module), out, form="adapter", dtype="float32")
    assert {path.name for path in out.iterdir()} == EXPORTED - {"config.json", "model.safetensors"} | {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert document_of(out, "adapter_config.json")["base_model_name_or_path"] == "base"
    tokens = tokens_of(40)
    with torch.no_grad():
        got = peft.PeftModel.from_pretrained(theirs, out).eval()(tokens).logits
        torch.testing.assert_close(got, module(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_engine_serves_what_was_made_of_its_own_model(dtype, method, tmp_path):
    import numpy as np
    import torch

    from stoker.nn.decoder import Chunk, KVCache
    from stoker.train.export import export

    base = bundle.default_folder()
    run, module = _tuned(base, method=method)
    export(run, base, *_checkpoint(module), tmp_path / "out", dtype=dtype)
    served = bundle.load(tmp_path / "out")
    tokens, cache = list(range(20, 60)), KVCache(served.config, 1, 64)
    got = served.decoder.step(cache, [], [], [], [Chunk(0, 0, served.decoder.embed(tokens))])[0]
    with torch.no_grad():
        wanted = module(torch.tensor([tokens]))[0, -1].numpy()
        soft = module.image_projector(torch.eye(6)).numpy()
    assert np.linalg.norm(got - wanted) < 0.05 * np.linalg.norm(wanted)
    np.testing.assert_allclose(served.projector.project(np.eye(6, dtype=np.float32)), soft, atol=0.05)


def test_the_config_is_the_bases_but_for_the_type_of_the_weights(tmp_path):
    from model_builders import base_of, document_of

    from stoker.train.export import export

    base = tmp_path / "base"
    base_of("llama 3", base)
    document = {**document_of(base), "torch_dtype": "float32", "_note": "kept"}
    (base / "config.json").write_text(json.dumps(document))
    run, module = _tuned(base, method="full")
    export(run, base, *_checkpoint(module), tmp_path / "out")
    wanted = {**document, "dtype": "bfloat16", "torch_dtype": "bfloat16"}
    assert document_of(tmp_path / "out") == wanted


def test_large_weights_are_cut_into_files_with_an_index(tmp_path, monkeypatch):
    import torch
    import transformers
    from model_builders import base_of, tokens_of

    from stoker.train import export as exports

    monkeypatch.setattr(exports, "_BATCH_BYTES", 30_000)
    write = weights_files.write
    monkeypatch.setattr(weights_files, "write", lambda *args, **more: write(*args, **more, most_bytes=40_000))
    base = tmp_path / "base"
    base_of("qwen3 untied", base)
    run, module = _tuned(base, method="full")
    exports.export(run, base, *_checkpoint(module), tmp_path / "out", dtype="float32")
    assert len(list((tmp_path / "out").glob("model-*-of-*.safetensors"))) > 2
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokens = tokens_of(10)
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, module(tokens), atol=1e-5, rtol=1e-5)


@pytest.fixture
def small(tmp_path):
    """A base, a run of LoRA on it, and its module after some steps."""
    from model_builders import base_of

    base_of("llama", tmp_path / "base")
    return tmp_path / "base", *_tuned(tmp_path / "base", lora=LORA)


def test_exporting_again_to_the_same_folder_is_no_fault(small, tmp_path):
    from stoker.train.export import export

    base, run, module = small
    checkpoint = _checkpoint(module)
    first = export(run, base, *checkpoint, tmp_path / "out")
    assert export(run, base, *checkpoint, tmp_path / "out") == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "out"]


def test_another_folder_is_never_written_over(small, tmp_path):
    from stoker.train.export import export

    base, run, module = small
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(Conflict, match="out is there and holds something else"):
        export(run, base, *_checkpoint(module), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "out"]


@pytest.mark.parametrize("of", ["model/", "adam_v/"])
def test_one_bit_anywhere_in_the_checkpoint_and_nothing_is_written(of, small, tmp_path):
    """Also in the optimizer's part: `newest_whole` then takes an older checkpoint."""
    from stoker.train.export import export

    base, run, module = small
    store, manifest = _checkpoint(module)
    shard, piece = next(
        (shard, piece) for shard in manifest.shards for piece in shard.pieces if piece.name.startswith(of)
    )
    objects = store.store.objects
    key = store.prefix(manifest.name) + shard.key
    data = bytearray(objects[key])
    data[piece.start] ^= 1
    objects[key] = bytes(data)
    with pytest.raises(shards.Damaged):
        export(run, base, store, manifest, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_checkpoint_of_other_settings_is_refused(small, tmp_path):
    from model_builders import run_of

    from stoker.train.export import export

    base, _, module = small
    checkpoint = _checkpoint(module)
    other = run_of(lora={**LORA, "rank": 4})
    with pytest.raises(Conflict, match=r"has .*lora_A\.weight with shape \(3, 32\), and the model needs \(4, 32\)"):
        export(other, base, *checkpoint, tmp_path / "out")
    more = run_of(lora={**LORA, "targets": ("q_proj", "k_proj")})
    with pytest.raises(Conflict, match=r"has no model\.layers\.0\.self_attn\.k_proj\.lora_A\.weight"):
        export(more, base, *checkpoint, tmp_path / "out")
    with pytest.raises(Conflict, match=r"has no model\.embed_tokens\.weight, which the model needs"):
        export(run_of(method="full"), base, *checkpoint, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_full_run_has_no_adapter(small, tmp_path):
    from model_builders import run_of

    from stoker.train.export import export

    base, _, module = small
    with pytest.raises(InvalidInput, match="form is adapter, and the run's method is full: write merged"):
        export(run_of(method="full"), base, *_checkpoint(module), tmp_path / "out", form="adapter")
