"""A seam in an answer, found by what a replica says that goes on. The replica here is as a language model is: what it
says follows from tokens, and text is encoded greedily, not always into the tokens by which it was made."""

import pytest
from drill_parts import ask

from stoker.drill.observed import Kill, Notice, was_hit
from stoker.drill.seams import ASKS_AT_MOST, seam_of

MADE = ("1", "0", " t", "imes", " is", ".")


def encoded(text: str) -> list[str]:
    """With "10" as one token, which the replica never says itself."""
    tokens: list[str] = []
    while text:
        token = next(each for each in ("10", *MADE) if text.startswith(each))
        tokens, text = [*tokens, token], text[len(token) :]
    return tokens


class Replica:
    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, begun: str, tokens: int) -> str:
        self.asked += 1
        said = encoded(begun)
        begin = len(said)
        while len(said) - begin < tokens:
            said.append(MADE[(len(said) + 3 * said.count("10")) % len(MADE)] if said else "1")
        return "".join(said[begin:])


async def broken_off(replica: Replica, at: int, tokens: int) -> str:
    begun = await replica("", at)
    return begun + await replica(begun, tokens - at)


async def test_an_answer_that_was_gone_on_with_at_a_token_is_explained_by_it() -> None:
    replica = Replica()
    calm = await replica("", 40)
    others = {at: answer for at in range(1, 40) if (answer := await broken_off(replica, at, 40)) != calm}
    assert others

    for answer in others.values():
        found = await seam_of(answer, replica, tokens=40)
        assert found is not None
        assert await broken_off(replica, found, 40) == answer


@pytest.mark.parametrize("spoil", [lambda text: text[:20] + text[21:], lambda text: text[:20] + text[19:], str.upper])
async def test_an_answer_that_no_seam_explains_is_not(spoil) -> None:  # type: ignore[no-untyped-def]
    replica = Replica()
    calm = await replica("", 40)
    replica.asked = 0

    assert await seam_of(spoil(calm), replica, tokens=40) is None
    assert replica.asked <= ASKS_AT_MOST


async def test_an_answer_that_ends_too_soon_is_not_explained() -> None:
    replica = Replica()
    assert await seam_of((await replica("", 40))[:-1], replica, tokens=40) is None


@pytest.mark.parametrize(
    ("began_at", "ended_at", "by_a_kill", "by_a_notice"),
    [(1.0, 2.9, False, False), (1.0, 3.0, True, True), (3.1, 4.0, False, True), (5.5, 6.0, False, False)],
)
def test_only_what_was_open_when_something_died_may_have_one(
    began_at: float, ended_at: float, by_a_kill: bool, by_a_notice: bool
) -> None:
    one = ask(0, "task", began_at=began_at, ended_at=ended_at)
    assert was_hit(one, [Kill("engine-general-1", 100, 3.0, 1)], None) is by_a_kill
    assert was_hit(one, [], Notice("worker-general-1", "general-1", given_at=3.0, ends_at=5.0)) is by_a_notice
    assert not was_hit(one, [], None)
