"""Questions that are in the training data are found; the same facts in other words are not."""

from collections.abc import Mapping, Sequence
from typing import Any

from stoker.train import contamination
from stoker.train.formats import example_of
from stoker.train.suites import Question

LONG = "the quick brown fox jumps over the lazy dog and then goes home to sleep until morning comes again at last"


def contaminated(questions: Sequence[Question], lines: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    return contamination.contaminated(questions, map(example_of, lines))


def ask(*texts: str, answer: Any = "Paris") -> list[Question]:
    return [
        Question("s", f"q{n}", answer, messages=[{"role": "user", "content": text}]) for n, text in enumerate(texts)
    ]


def chat(*said: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]}


def test_the_same_question_is_found_however_it_is_written() -> None:
    questions = ask("What is the capital of France?", "Name the capital of France.", "Which city governs France?")
    lines = [
        chat("what is the CAPITAL of  France", "Paris."),
        {"prompt": "Name the capital of France", "completion": "x"},
    ]
    assert contaminated(questions, lines) == {"s": ["q0", "q1"]}
    assert contaminated(questions, [chat("Tell me France's capital.", "Paris.")]) == {"s": []}
    asked, answer = chat("Which city governs France?", "x")["messages"]
    assert contaminated(questions, [{"prompt": [asked], "completion": [answer]}]) == {"s": ["q2"]}


def test_a_later_turn_counts_alone_and_with_those_before() -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    turns = [*talk, {"role": "user", "content": "Where is Rome?"}]
    questions = [*ask("Where is Rome?"), Question("t", "all", "Italy", messages=turns), *ask("Hello")]
    assert contaminated(questions[:2], [chat("Hi", "Yes?", "Where is Rome?", "Italy")]) == {"s": ["q0"], "t": ["all"]}
    assert contaminated(questions[2:], [chat("Hi", "Hello")]) == {"s": []}


def test_pictures_tell_questions_apart() -> None:
    def look(url: str) -> list[dict[str, Any]]:
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What colour is it?"}]
        return [{"role": "user", "content": parts}]

    questions = [Question("s", each, each, messages=look(f"data:{each}")) for each in ("red", "blue")]
    assert contaminated(
        questions, [{"messages": [*look("data:blue"), {"role": "assistant", "content": "It is blue."}]}]
    ) == {"s": ["blue"]}


def test_a_long_question_is_found_by_its_runs_of_words() -> None:
    words = LONG.split()
    half = " ".join(words[:17])
    assert contaminated(ask(LONG), [{"text": f"Once upon a time {half} and more"}]) == {"s": ["q0"]}
    assert contaminated(ask(LONG), [chat("x", half)]) == {"s": ["q0"]}
    assert contaminated(ask(LONG), [{"text": " ".join(words[:14])}]) == {"s": []}


def test_question_and_answer_in_a_plain_text_are_found_and_the_question_alone_is_not() -> None:
    questions = ask("Capital of France?", answer=["Paris", "Lutetia"])
    assert contaminated(questions, [{"text": "A quiz. Capital of France? Lutetia! Well done."}]) == {"s": ["q0"]}
    assert contaminated(questions, [{"text": "A quiz. Capital of France? Who knows."}]) == {"s": []}
    asked, answer = "Which port does the Redis server use?", "The Redis server listens on port 6379 by default."
    assert contaminated(ask(asked, answer=answer), [{"text": f"So: {asked} {answer}"}]) == {"s": ["q0"]}
    assert contaminated(ask(asked, answer=answer), [{"text": f"{asked} {answer}".replace("default", "law")}]) == {
        "s": []
    }


def test_a_prompt_and_its_completion_are_a_plain_text() -> None:
    line = {"prompt": "France is large. Capital of France?", "completion": "Paris it is"}
    assert contaminated(ask("Capital of France?"), [line]) == {"s": ["q0"]}
    assert contaminated(ask("Capital of France?", answer="Rome"), [line]) == {"s": []}


def test_preferences_are_found_in_each_of_their_shapes() -> None:
    good, bad = (chat("Hi", "Hello", "Where is Rome?", said)["messages"] for said in ("Italy", "Spain"))
    questions = [*ask("Where is Rome?"), Question("t", "all", "Italy", messages=good[:3])]
    both = {"s": ["q0"], "t": ["all"]}
    assert contaminated(questions, [{"chosen": good, "rejected": bad}]) == both
    assert contaminated(questions, [{"prompt": good[:3], "chosen": good, "rejected": bad}]) == both
    assert contaminated(questions, [{"prompt": good[:2], "chosen": good[2:], "rejected": bad[2:]}]) == both
    line = {"prompt": "Where is Rome?", "chosen": "Italy", "rejected": "Spain"}
    assert contaminated(questions, [line]) == {"s": ["q0"], "t": []}
