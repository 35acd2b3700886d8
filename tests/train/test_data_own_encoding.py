"""Stoker's own tokenizer: what is trained on is what the embedded engine reads, token by token."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from data_builders import assistant, call, own_encoder, pixel, user
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.engine import parsing
from stoker.engine.parsing import Served
from stoker.nn import bundle
from stoker.nn.bundle import default_folder
from stoker.nn.tokenizer import SPECIAL
from stoker.train.encoding import Rules, Sample, encoder_of
from stoker.train.formats import Chat, Preference, Prompt, Text

BUNDLE = bundle.load()
TOKENIZER = BUNDLE.tokenizer
BOS, END, SYSTEM, USER, ASSISTANT, TOOL, IMAGE = range(7)
RULES = Rules(max_length=8192)
CELLS = 16


def encoded(example: Any, rules: Rules = RULES) -> Sample:
    sample = own_encoder().encode(example, rules)
    assert sample is not None
    return sample


def asked(messages: list[Any]) -> list[int]:
    """The prompt that the engine makes of a request."""
    served = Served(BUNDLE, "embedded", "vision", 100_000)
    return list(parsing.chat({"messages": messages}, served).generation.prompt)


def counted(sample: Sample) -> list[int]:
    return list(sample.chosen.tokens[sample.chosen.weights == 1.0].tolist())


def test_a_chat_is_what_the_engine_reads_and_each_answer_counts_with_its_end():
    messages = [
        {"role": "system", "content": "Be brief."},
        user("What is 2+2?"),
        assistant("4"),
        user([{"type": "text", "text": "And "}, {"type": "text", "text": "3+3?"}]),
        assistant("6, of course."),
    ]
    sample = encoded(Chat(messages))
    assert [*sample.chosen.tokens.tolist(), ASSISTANT] == asked(messages)
    for number in (2, 4):
        prompt = asked(messages[:number])
        assert sample.chosen.tokens[: len(prompt)].tolist() == prompt
        assert sample.chosen.weights[len(prompt) - 1] == 0.0
    assert counted(sample) == [*TOKENIZER.encode("4"), END, *TOKENIZER.encode("6, of course."), END]
    assert sample.chosen.tokens.dtype == np.int32
    assert sample.chosen.weights.dtype == np.float32


def test_every_token_has_its_weight():
    sample = encoded(Chat([user("a"), assistant("b"), user("c")]), Rules(64, question_weight=0.25))
    assert sample.chosen.tokens.tolist() == [
        *(BOS, USER, *TOKENIZER.encode("a"), END),
        *(ASSISTANT, *TOKENIZER.encode("b"), END),
        *(USER, *TOKENIZER.encode("c"), END),
    ]
    assert sample.chosen.weights.tolist() == [0.0, 0.25, 0.25, 0.25, 0.25, 1.0, 1.0, 0.25, 0.25, 0.25]


def test_a_call_of_a_tool_is_what_the_assistant_says():
    messages = [
        user("Weather?"),
        assistant(None, tool_calls=[call()]),
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        assistant("Sunny."),
    ]
    sample = encoded(Chat(messages, [{"type": "function", "function": {"name": "weather"}}]))
    assert [*sample.chosen.tokens.tolist(), ASSISTANT] == asked(messages)
    said = TOKENIZER.decode(counted(sample))
    assert said.endswith("}]Sunny.")
    assert '"name": "weather"' in said
    assert "sunny" not in said


def test_an_image_takes_its_placeholders_which_never_count():
    messages = [
        user([pixel((200, 0, 0)), {"type": "text", "text": "Which colour?"}, pixel((0, 0, 200))]),
        assistant("red"),
    ]
    sample = encoded(Chat(messages), Rules(8192, train_on="all"))
    assert [*sample.chosen.tokens.tolist(), ASSISTANT] == asked(messages)
    is_image = sample.chosen.tokens == IMAGE
    assert is_image.sum() == 2 * CELLS
    assert sample.chosen.weights.tolist() == [0.0 if at == 0 or is_image[at] else 1.0 for at in range(len(is_image))]
    assert sample.chosen.features is not None
    assert sample.chosen.features.shape == (2 * CELLS, 6)
    assert sample.chosen.features[0, 0] > 0 > sample.chosen.features[-1, 0]  # red first


def test_an_image_is_never_cut_in_two():
    messages = [user([pixel((200, 0, 0)), pixel((0, 0, 200)), {"type": "text", "text": "?"}]), assistant("red")]
    sample = encoded(Chat([assistant("x"), *messages]), Rules(5 + 2 * CELLS - 1, train_on="all"))
    assert sample.truncated
    assert (sample.chosen.tokens == IMAGE).sum() == CELLS
    assert sample.chosen.features is not None
    assert len(sample.chosen.features) == CELLS
    assert len(sample.chosen.tokens) == 5 + CELLS
    none = encoded(Chat([assistant("x"), *messages]), Rules(5 + CELLS - 1, train_on="all"))
    assert none.chosen.features is None
    assert len(none.chosen.tokens) == 5


def test_a_prompt_is_what_completions_are_asked_with():
    sample = encoded(Prompt("2+2 is ", "4."))
    prompt = TOKENIZER.text_prompt("2+2 is ")
    assert sample.chosen.tokens.tolist() == [*prompt, *TOKENIZER.encode("4."), END]
    assert sample.chosen.weights.tolist() == [0.0] * len(prompt) + [1.0] * (len(sample.chosen.tokens) - len(prompt))


def test_all_of_a_text_counts_but_its_first_token():
    sample = encoded(Text("Once upon"))
    assert sample.chosen.tokens.tolist() == [BOS, *TOKENIZER.encode("Once upon"), END]
    assert sample.chosen.weights.tolist() == [0.0] + [1.0] * (len(sample.chosen.tokens) - 1)


def test_a_message_of_weight_0_is_kept_out_whatever_else_counts():
    messages = [user("a"), assistant("b", weight=0), user("c"), assistant("d", weight=1)]
    assert counted(encoded(Chat(messages))) == [*TOKENIZER.encode("d"), END]
    sample = encoded(Chat(messages), Rules(64, train_on="all"))
    assert sample.chosen.weights.tolist() == [0.0, *[1.0] * 3, 0.0, 0.0, 0.0, *[1.0] * 6]


def test_of_a_preference_the_prompt_is_the_same_and_only_answers_count():
    prompt = [user("a"), assistant("b"), user("c")]
    example = Preference(prompt, [assistant("yes")], [assistant("no"), user("?"), assistant("yes")])
    sample = encoded(example, Rules(8192, train_on="all", question_weight=0.5))
    assert sample.rejected is not None
    shared = len(asked(prompt))
    assert sample.chosen.tokens[:shared].tolist() == sample.rejected.tokens[:shared].tolist() == asked(prompt)
    assert counted(sample) == [*TOKENIZER.encode("yes"), END]
    assert counted(Sample(sample.rejected)) == [*TOKENIZER.encode("no"), END, *TOKENIZER.encode("yes"), END]
    assert sample.length == len(sample.chosen.tokens) + len(sample.rejected.tokens)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(SPECIAL) | st.text(max_size=8), min_size=1, max_size=4))
def test_no_text_becomes_a_control_token(pieces: list[str]):
    text = "".join(pieces)
    tokens = encoded(Chat([user(text), assistant(text)])).chosen.tokens.tolist()
    assert [token for token in tokens if token < len(SPECIAL)] == [BOS, USER, END, ASSISTANT, END]


def test_what_is_too_long_is_cut_dropped_or_told():
    example = Chat([user("a"), assistant("b " * 50)])
    whole = encoded(example)
    cut = encoded(example, Rules(20))
    assert (cut.truncated, cut.chosen.tokens.tolist()) == (True, whole.chosen.tokens[:20].tolist())
    assert cut.chosen.weights.tolist() == whole.chosen.weights[:20].tolist()
    assert own_encoder().encode(example, Rules(20, too_long="drop")) is None
    with pytest.raises(ValueError, match=f"has {whole.length} tokens; maxLength is 20; tooLong truncate or drop would"):
        own_encoder().encode(example, Rules(20, too_long="fail"))
    exact = Rules(whole.length, too_long="fail")
    assert encoded(example, exact).truncated is False


def test_what_is_cut_before_anything_counts_is_dropped():
    assert own_encoder().encode(Chat([user("a " * 50), assistant("b")]), Rules(20)) is None


def test_two_answers_share_the_room():
    long, short = assistant("b " * 50), assistant("c")
    sample = encoded(Preference([user("a")], [long], [short]), Rules(30))
    assert sample.rejected is not None
    assert (sample.truncated, len(sample.rejected.tokens), sample.length) == (True, 7, 30)
    both = encoded(Preference([user("a")], [long], [assistant("d " * 60)]), Rules(31))
    assert both.rejected is not None
    assert (len(both.chosen.tokens), len(both.rejected.tokens)) == (16, 15)


def test_what_the_model_cannot_learn_from_is_told(tmp_path):
    config = json.loads((default_folder() / "config.json").read_text())
    del config["stoker_image"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_bytes((default_folder() / "tokenizer.json").read_bytes())
    blind = encoder_of(tmp_path)
    assert blind.digest != own_encoder().digest
    with pytest.raises(ValueError, match="holds an image, and the model sees none"):
        blind.encode(Chat([user([pixel((0, 0, 0))]), assistant("black")]), RULES)
    broken = user([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])
    with pytest.raises(ValueError, match="the image cannot be decoded"):
        own_encoder().encode(Chat([broken, assistant("black")]), RULES)
    with pytest.raises(ValueError, match="nothing in it counts in the loss"):
        own_encoder().encode(Chat([user("a"), assistant("b", weight=0)]), RULES)


def test_training_data_needs_no_engine_until_there_are_messages():
    script = (
        "import sys, stoker.train.source, stoker.train.encoding as e, stoker.nn.bundle as b\n"
        "e.encoder_of(b.default_folder())\n"
        "print(sorted({'torch', 'jinja2', 'PIL', 'boto3'} & set(sys.modules)), 'stoker.engine.parsing' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[0] == "[] False"
