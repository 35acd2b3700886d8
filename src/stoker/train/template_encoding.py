"""Examples -> tokens by a folder of Hugging Face's: tokenizer.json and a chat template, as vLLM and transformers read
them. The whole conversation is one text, tokenized once; which tokens the assistant says is told by their places in it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stoker.base.errors import InvalidInput
from stoker.nn.hf_tokenizer import HfTokenizer
from stoker.train.chat_templates import ChatTemplate
from stoker.train.encoding import Encoded, Outcome, Rules, Sample, each_or_error, sample_of
from stoker.train.formats import Chat, Example, Preference, Prompt, Text
from stoker.train.messages import Message

_VERSION = "template 1"
"""Another one when other tokens or weights come out for the same line."""

_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class _Spoken:
    """A conversation as text; (start, end, weight) of passages whose tokens weigh something else."""

    text: str
    passages: list[tuple[int, int, float]]
    other: float


class TemplateEncoder:
    def __init__(self, folder: Path, text: str) -> None:
        """`text` is the content of tokenizer.json. Raises InvalidInput."""
        self._tokenizer = HfTokenizer(text)
        self.vocab_size = self._tokenizer.vocab_size
        config = _json_of(folder / "tokenizer_config.json")
        special = {**_texts_of(_json_of(folder / "special_tokens_map.json")), **_texts_of(config)}
        sources = _templates_of(folder, config)
        enders = self._enders(folder, special)
        added = self._tokenizer.added
        self._templates = {
            name: ChatTemplate(source, special, enders=enders, added=added) for name, source in sources.items()
        }
        end = special.get("eos_token")
        self._end = self._tokenizer.id_of(end) if end is not None else None
        decides = json.dumps([_VERSION, text, special, sources, sorted(enders)], sort_keys=True)
        self.digest = hashlib.sha256(decides.encode()).hexdigest()

    def encode(self, example: Example, rules: Rules) -> Sample | None:
        return each_or_error(self.encode_all([example], rules)[0])

    def encode_all(self, examples: Sequence[Example], rules: Rules) -> list[Outcome]:
        drafts: list[tuple[_Spoken, ...] | Text | Prompt | ValueError] = []
        for example in examples:
            try:
                drafts.append(self._draft(example, rules))
            except ValueError as exc:
                drafts.append(exc)
        spoken = iter(self._spoken([each for draft in drafts if isinstance(draft, tuple) for each in draft]))
        plain = iter(self._plain([draft for draft in drafts if isinstance(draft, (Text, Prompt))], rules))
        outcomes: list[Outcome] = []
        for draft in drafts:
            if isinstance(draft, ValueError):
                outcomes.append(draft)
            elif isinstance(draft, tuple):
                encoded = [next(spoken) for _ in draft]
                outcomes.append(sample_of(encoded[0], encoded[1] if len(encoded) > 1 else None, rules))
            else:
                outcomes.append(sample_of(next(plain), None, rules))
        return outcomes

    def _draft(self, example: Example, rules: Rules) -> tuple[_Spoken, ...] | Text | Prompt:
        match example:
            case Text() | Prompt():
                if self._end is None:
                    raise ValueError("is a text, and tokenizer_config.json names no eos_token that would end it")
                return example
            case Chat():
                return (self._conversation(example.messages, example.tools, 0, rules.other_weight),)
            case Preference():
                asked = len(example.prompt)
                return tuple(
                    self._conversation([*example.prompt, *answer], example.tools, asked, 0.0)
                    for answer in (example.chosen, example.rejected)
                )

    def _conversation(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], first: int, other: float
    ) -> _Spoken:
        """What the assistant says counts from message `first` on."""
        template = self._templates.get("tool_use" if tools else "default") or self._templates.get("default")
        if template is None:
            raise ValueError("is a conversation, and the base has no chat template; prompt or text would do")
        text, said = template.said(messages, tools)
        passages = []
        for each in said:
            counts = each.message >= first
            weight = 0.0 if messages[each.message].get("weight") == 0 else 1.0 if counts else other
            passages.append((each.start, each.end, weight))
        return _Spoken(text, passages, other)

    def _spoken(self, spoken: Sequence[_Spoken]) -> Iterator[Encoded]:
        found = self._tokenizer.encode_with_places([each.text for each in spoken])
        for each, (tokens, places) in zip(spoken, found, strict=True):
            weights = np.full(len(tokens), each.other, np.float32)
            for start, end, weight in each.passages:
                weights[(places[:, 0] < end) & (places[:, 1] > start)] = weight
            weights[:1] = 0.0
            yield Encoded(tokens, weights)

    def _plain(self, examples: Sequence[Text | Prompt], rules: Rules) -> Iterator[Encoded]:
        """The tokenizer's own first token (<s>) before, and the end token after it."""
        whole = [each.text if isinstance(each, Text) else each.prompt + each.completion for each in examples]
        asked = ["" if isinstance(each, Text) else each.prompt for each in examples]
        found = self._tokenizer.encode([*whole, *asked], special=True)
        for number, example in enumerate(examples):
            tokens = self._without_end(found[number])
            before = self._without_end(found[len(examples) + number])
            if isinstance(example, Text):
                before = []
            elif tokens[: len(before)] != before:
                # The engine is asked with the tokens of the prompt alone, so it never sees one that reaches beyond it.
                tokens = before + self._tokenizer.encode([example.completion], special=False)[0]
            tokens = [*tokens, -1 if self._end is None else self._end]
            weights = np.ones(len(tokens), np.float32)
            weights[: len(before)] = rules.other_weight
            weights[:1] = 0.0
            yield Encoded(np.array(tokens, np.int32), weights)

    def _without_end(self, tokens: list[int]) -> list[int]:
        return tokens[:-1] if tokens and tokens[-1] == self._end else tokens

    def _enders(self, folder: Path, special: Mapping[str, str]) -> frozenset[str]:
        """Tokens at which an engine stops."""
        found = {special["eos_token"]} if "eos_token" in special else set()
        for name in ("generation_config.json", "config.json"):
            numbers = _json_of(folder / name).get("eos_token_id")
            for number in numbers if isinstance(numbers, list) else [numbers]:
                token = self._tokenizer.token_of(number) if isinstance(number, int) and number >= 0 else None
                if token is not None:
                    found.add(token)
        return frozenset(found)


def _json_of(path: Path) -> dict[str, Any]:
    """Nothing where there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise InvalidInput(f"{path} is not JSON: {exc}", param="base") from exc
    if not isinstance(value, dict):
        raise InvalidInput(f"{path} is no JSON object", param="base")
    return value


def _texts_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens, each a text or an object with `content`."""
    found = {}
    for name in _SPECIAL:
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            found[name] = value
    return found


def _templates_of(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """By name: default, tool_use. Files go before what tokenizer_config.json says, as in transformers."""
    files = {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    if (folder / "chat_template.jinja").is_file():
        files["default"] = folder / "chat_template.jinja"
    if files:
        return {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    said = config.get("chat_template")
    if isinstance(said, list):
        return {each["name"]: each["template"] for each in said}
    return {"default": said} if isinstance(said, str) else {}
