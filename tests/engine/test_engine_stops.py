import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.engine.stops import StopMatcher

SMALL = st.text(alphabet="abc", max_size=12)
STOPS = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=4)


def run(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    matcher = StopMatcher(stops)
    text = "".join(matcher.add(piece) for piece in pieces)
    return text + matcher.finish(), matcher.hit


def expected(stops: list[str], text: str) -> tuple[str, bool]:
    """Slow and plain: the first place where a stop string ends; the longest that ends there."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


@given(STOPS, st.lists(SMALL, max_size=6))
def test_how_the_text_is_cut_changes_nothing(stops: list[str], pieces: list[str]):
    assert run(stops, pieces) == expected(stops, "".join(pieces))


@given(STOPS, st.lists(SMALL, max_size=6))
def test_nothing_that_came_out_is_taken_back(stops: list[str], pieces: list[str]):
    matcher, out = StopMatcher(stops), ""
    wanted, _ = expected(stops, "".join(pieces))
    for piece in pieces:
        out += matcher.add(piece)
        assert wanted.startswith(out)


@pytest.mark.parametrize(
    ("stops", "pieces", "text", "hit"),
    [
        ([], ["abc"], "abc", False),
        (["END"], ["some EN", "D more"], "some ", True),
        (["END"], ["some EN", "E"], "some ENE", False),
        (["\n\n"], ["a\n", "b\n", "\nc"], "a\nb", True),
        (["ab", "abc"], ["xabc"], "x", True),
        (["bc", "abc"], ["xabc"], "x", True),
    ],
)
def test_stops(stops: list[str], pieces: list[str], text: str, hit: bool):
    assert run(stops, pieces) == (text, hit)


def test_text_that_can_be_no_stop_is_not_held_back():
    matcher = StopMatcher(["stop"])
    assert matcher.add("it goes on s") == "it goes on "
    assert matcher.add("o") == "so"
