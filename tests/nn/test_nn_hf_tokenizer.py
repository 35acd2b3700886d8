"""Other people's tokenizers: which part of a text a token stands for, and special tokens where asked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from stoker.base.errors import InvalidInput
from stoker.nn.hf_tokenizer import HfTokenizer


def a_tokenizer() -> Tokenizer:
    """Bytes, as GPT-2's, with a first token; cut and padded, as some files ask for."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["one two  three\n\n four"] * 4, trainer)
    first = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), first])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    return tokenizer


TOKENIZER = HfTokenizer(a_tokenizer().to_str())


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="one tw\n<|end>", max_size=30))
def test_each_token_has_its_place_and_white_space_too(text: str):
    ((tokens, places),) = TOKENIZER.encode_with_places([text])
    assert "".join(text[start:end] for start, end in places.tolist()) == text
    assert [tokens.tolist()] == TOKENIZER.encode([text], special=False)


def test_the_bytes_of_a_character_stand_at_its_place():
    ((tokens, places),) = TOKENIZER.encode_with_places(["a🔥b"])
    assert len(tokens) == 6
    assert places.tolist() == [[0, 1], *[[1, 2]] * 4, [2, 3]]


def test_the_text_of_a_special_token_is_that_token_and_the_first_one_is_put_where_it_is_asked_for():
    assert TOKENIZER.encode(["<|end|>"], special=False) == [[1]]
    assert TOKENIZER.encode(["<|end|>", ""], special=True) == [[0, 1], [0]]
    assert TOKENIZER.added == {"<s>", "<|end|>"}
    assert (TOKENIZER.id_of("<|end|>"), TOKENIZER.token_of(1), TOKENIZER.id_of("none")) == (1, "<|end|>", None)


def test_nothing_is_cut_or_padded():
    assert len(TOKENIZER.encode(["a" * 20, "a"], special=False)[0]) == 20
    assert len(TOKENIZER.encode(["a" * 20, "a"], special=False)[1]) == 1


def test_half_a_surrogate_pair_becomes_a_question_mark():
    assert TOKENIZER.encode(["a\ud800b"], special=False) == TOKENIZER.encode(["a?b"], special=False)


def test_what_is_no_tokenizer_is_told():
    for text in ("{}", "not JSON", '{"version": "1.0"}'):
        with pytest.raises(InvalidInput, match=r"tokenizer\.json cannot be read"):
            HfTokenizer(text)
