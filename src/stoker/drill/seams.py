"""Answers that one replica began and another went on with. The text so far is encoded anew at the seam, not always into
the tokens by which it was made ("10" may have been "1" and "0"), and then another answer than the calm one is right:
the one that a replica gives in the calm, too, when it goes on at that place. Where it is, nobody has written down."""

from collections.abc import Awaitable, Callable

ASKS_AT_MOST = 160

Ask = Callable[[str, int], Awaitable[str]]
"""(begun, tokens): what the replica says, at most so many tokens, after the answer's beginning `begun`."""


async def seam_of(answer: str, ask: Ask, *, tokens: int) -> int | None:
    """After how many of its `tokens` at most a replica that goes on with what was said says `answer`; the last such
    place. None: there is no such place, so that nothing excuses the answer, or none within ASKS_AT_MOST asks."""
    left = ASKS_AT_MOST

    async def beginning(count: int) -> str:
        nonlocal left
        left -= 1
        return await ask("", count)

    # Whatever has more tokens begins with what has less, so the beginnings of the answer are the shorter ones.
    at, beyond = 0, tokens
    while beyond - at > 1:
        middle = (at + beyond) // 2
        if answer.startswith(await beginning(middle)):
            at = middle
        else:
            beyond = middle
    while at > 0 and left >= 2:
        begun = await beginning(at)
        left -= 1
        if begun and begun + await ask(begun, tokens - at) == answer:
            return at
        at -= 1
    return None
