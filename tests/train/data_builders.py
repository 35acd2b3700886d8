"""What the tests of training data share: lines, runs, the default encoder, folders like Hugging Face's."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from stoker.nn.bundle import default_folder
from stoker.spec import Run
from stoker.train.encoding import Encoder, Sample, encoder_of
from stoker.train.source import Source, open_source

Json = dict[str, Any]

TEXTS = [
    "What is a spot instance? It is a machine that can be taken away.",
    "You are helpful. Hello, how are you? Fine, thanks; and you?",
    'What is the weather in Paris? {"name": "weather", "arguments": {"city": "Paris"}} It is sunny: 21 degrees.',
    "system user assistant tool function tools available call result",
]


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def assistant(text: str | None, **more: Any) -> Json:
    return {"role": "assistant", "content": text, **more}


def chat(*turns: str, **more: Any) -> Json:
    """A line: the user, the assistant, and so on."""
    return {"messages": [(user, assistant)[at % 2](text) for at, text in enumerate(turns)], **more}


def call(name: str = "weather", arguments: Any = '{"city": "Paris"}', number: str = "call_1") -> Json:
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


def lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


@cache
def own_encoder() -> Encoder:
    return encoder_of(default_folder())


def a_run(**keys: Any) -> Run:
    return Run.model_validate({"name": "test", "data": "data.jsonl", **keys})


def a_source(
    folder: Path,
    values: Sequence[Any] | bytes,
    *,
    told: list[str] | None = None,
    cache: Path | None = None,
    **keys: Any,
) -> Source:
    data = values if isinstance(values, bytes) else lines(*values)
    (folder / "data.jsonl").write_bytes(data)
    run = a_run(**keys)
    said = [] if told is None else told
    return open_source(run, run.data, own_encoder(), here=folder, tell=said.append, cache=cache)


# Folders like Hugging Face's


@cache
def _bpe(special: tuple[str, ...], metaspace: bool) -> str:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>" if metaspace else None))
    if metaspace:  # as Llama 2 and Mistral before its tekken
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Metaspace()
        alphabet = sorted({letter for text in TEXTS for letter in text} | set("\n▁[]/_<>|0123456789ABCDEFGILNORSTUV"))
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    if metaspace or "<|begin_of_text|>" in special:
        bos = "<s>" if metaspace else "<|begin_of_text|>"
        tokenizer.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=True),
                processors.TemplateProcessing(
                    single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, special.index(bos))]
                ),
            ]
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return str(tokenizer.to_str())


def hf_folder(
    folder: Path,
    template: str | list[Mapping[str, str]] | None,
    special: Sequence[str],
    *,
    eos: str,
    bos: str | None = None,
    metaspace: bool = False,
    as_file: bool = False,
) -> Path:
    """tokenizer.json, tokenizer_config.json, and the chat template in it or beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(_bpe(tuple(special), metaspace))
    config: Json = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": eos,
        "clean_up_tokenization_spaces": False,
    }
    if bos is not None:
        config["bos_token"] = {"content": bos, "__type": "AddedToken", "lstrip": False, "normalized": False}
    if template is not None and as_file:
        assert isinstance(template, str)
        (folder / "chat_template.jinja").write_text(template)
    elif template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def counted(folder: Path, sample: Sample) -> str:
    """The text of the tokens that count."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return str(tokenizer.decode(sample.chosen.tokens[sample.chosen.weights == 1.0].tolist(), skip_special_tokens=False))


def pixel(colour: tuple[int, int, int]) -> Json:
    """An image part."""
    import base64
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), colour, np.uint8)).save(file, "PNG")
    return {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()},
    }
