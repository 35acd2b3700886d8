"""Which questions of a suite are in the training data.

A question is, when what its user says, letters and digits alone, is what a user says in the data, pictures included; or
when it is long and half of its runs of 13 words are somewhere in the data (13 as in GPT-3: Brown et al. 2020,
arXiv 2005.14165, appendix C); or when question and answer stand one after the other in a plain text, or in a prompt and
its completion. The same facts in other words are what a suite is for, and are not found.
"""

import hashlib
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from stoker.train.formats import Chat, Example, Preference, Prompt, Text
from stoker.train.messages import Message
from stoker.train.suites import Question

RUN_WORDS = 13
_SHARE = 0.5
_NO_WORD = re.compile(r"[\W_]+")


def contaminated(questions: Sequence[Question], examples: Iterable[Example]) -> dict[str, list[str]]:
    """Ids by suite, in the order of the suite. `examples`: what is trained on, gone through once."""
    asked = {(each.suite, each.id): each for each in questions}
    by_text: dict[str, set[tuple[str, str]]] = defaultdict(set)
    by_run: dict[str, set[tuple[str, str]]] = defaultdict(set)
    in_text: dict[int, dict[str, list[tuple[list[str], tuple[str, str]]]]] = defaultdict(lambda: defaultdict(list))
    runs: dict[tuple[str, str], int] = {}
    for key, question in asked.items():
        text = _said_by_user(question.messages) if question.prompt is None else " ".join(_words(question.prompt))
        by_text[text].add(key)
        words = text.split()
        for run in set(_runs(words, RUN_WORDS)):
            by_run[run].add(key)
            runs[key] = runs.get(key, 0) + 1
        for answer in question.answer if isinstance(question.answer, list) else [question.answer]:
            both = [*words, *(_words(answer) if isinstance(answer, str) else [])]
            first = both[:RUN_WORDS]
            if first:
                in_text[len(first)][" ".join(first)].append((both, key))
    found: set[tuple[str, str]] = set()
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for example in examples:
        for text in _questions_in(example):
            found |= by_text.get(text, set())
        for words in _texts_in(example):
            for run in _runs(words, RUN_WORDS):
                for key in by_run.get(run, ()):
                    seen[key].add(run)
        plain = _words(_plain_text(example))
        for length, wanted in in_text.items():
            for start, run in enumerate(_runs(plain, length)):
                for both, key in wanted.get(run, ()):
                    if plain[start : start + len(both)] == both:
                        found.add(key)
    found |= {key for key, there in seen.items() if len(there) >= _SHARE * runs[key]}
    ids: dict[str, list[str]] = {question.suite: [] for question in questions}
    for suite, id in asked:
        if (suite, id) in found:
            ids[suite].append(id)
    return ids


def _runs(words: Sequence[str], length: int) -> Iterator[str]:
    return (" ".join(words[start : start + length]) for start in range(len(words) - length + 1))


def _words(text: str) -> list[str]:
    return _NO_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).split()


def _of_content(content: object) -> list[str]:
    """Words, and of a picture its digest."""
    if isinstance(content, str):
        return _words(content)
    words: list[str] = []
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, Mapping):
            continue
        if isinstance(part.get("text"), str):
            words += _words(part["text"])
        elif part.get("type") == "image_url":
            words.append(hashlib.sha256(json.dumps(part.get("image_url")).encode()).hexdigest())
    return words


def _said_by_user(messages: Sequence[Message]) -> str:
    return " ".join(
        word for each in messages if each.get("role") == "user" for word in _of_content(each.get("content"))
    )


def _conversations(example: Example) -> list[Sequence[Message]]:
    match example:
        case Chat(messages):
            return [messages]
        case Preference(prompt, chosen, rejected):
            return [[*prompt, *chosen], [*prompt, *rejected]]
        case Prompt(prompt, completion):
            return [[{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]]
        case Text():
            return []


def _plain_text(example: Example) -> str:
    match example:
        case Text(text):
            return text
        case Prompt(prompt, completion):
            return f"{prompt} {completion}"
        case _:
            return ""


def _questions_in(example: Example) -> Iterator[str]:
    """Each message of a user, and all of them up to each: a suite may ask either."""
    for messages in _conversations(example):
        so_far: list[Message] = []
        for message in messages:
            if message["role"] == "user":
                so_far.append(message)
                yield _said_by_user([message])
                yield _said_by_user(so_far)


def _texts_in(example: Example) -> Iterator[list[str]]:
    yield _words(_plain_text(example))
    for messages in _conversations(example):
        for message in messages:
            yield _of_content(message.get("content"))
