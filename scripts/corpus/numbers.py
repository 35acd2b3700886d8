"""Counting, tables and sums, small enough to be learned by heart."""

import random

from corpus.talk import loosely

WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]


def _or_word(rng: random.Random, number: int) -> str:
    return WORDS[number] if number <= 20 and rng.random() < 0.3 else str(number)


def counting(rng: random.Random) -> tuple[str, str]:
    kind = rng.random()
    if kind < 0.65:
        last = rng.choice([3, 4, 5, 5, 5, 6, 7, 8, 9, 10, 10, 12, 15, 20])
        asked = [
            f"Count to {_or_word(rng, last)}.",
            f"Count from 1 to {last}.",
            f"Please count to {_or_word(rng, last)}.",
        ]
        return loosely(rng, rng.choice(asked)), ", ".join(str(n) for n in range(1, last + 1)) + "."
    if kind < 0.8:
        first = rng.randint(3, 10)
        return f"Count down from {_or_word(rng, first)}.", ", ".join(str(n) for n in range(first, 0, -1)) + "."
    step = rng.choice([2, 3, 5, 10])
    numbers = ", ".join(str(n) for n in range(step, step * 6, step))
    return loosely(rng, f"Count by {rng.choice([WORDS[step], str(step)])}s."), f"{numbers}."


def product(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    if rng.random() < 0.1:
        return loosely(rng, f"Write the table of {a}."), ", ".join(f"{a} x {n} = {a * n}" for n in range(1, 6)) + "."
    left, right = _or_word(rng, a), _or_word(rng, b)
    asked = [
        f"What is {left} times {right}?",
        f"What is {left} times {right}?",
        f"What is {a} x {b}?",
        f"What is {a} * {b}?",
        f"{a} * {b}",
        f"{a} x {b} = ?",
        f"Multiply {left} by {right}.",
        f"How much is {left} times {right}?",
        f"Calculate {a} times {b}.",
    ]
    return loosely(rng, rng.choice(asked)), f"{a} times {b} is {a * b}."


def total(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    left, right = _or_word(rng, a), _or_word(rng, b)
    asked = [
        f"What is {left} plus {right}?",
        f"What is {a} + {b}?",
        f"{a} + {b}",
        f"Add {left} and {right}.",
        f"{a} + {b} = ?",
    ]
    return loosely(rng, rng.choice(asked)), f"{a} plus {b} is {a + b}."


def difference(rng: random.Random) -> tuple[str, str]:
    b, c = rng.randint(0, 12), rng.randint(0, 12)
    a = b + c
    left, right = _or_word(rng, a), _or_word(rng, b)
    asked = [f"What is {left} minus {right}?", f"What is {a} - {b}?", f"{a} - {b}", f"Take {right} from {left}."]
    return loosely(rng, rng.choice(asked)), f"{a} minus {b} is {c}."


def comparison(rng: random.Random) -> tuple[str, str]:
    a, b = rng.sample(range(21), 2)
    if rng.random() < 0.5:
        return f"Which is larger, {a} or {b}?", f"{max(a, b)} is larger than {min(a, b)}."
    return f"Which is smaller, {a} or {b}?", f"{min(a, b)} is smaller than {max(a, b)}."


def order(rng: random.Random) -> tuple[str, str]:
    number = rng.randint(0, 19)
    if rng.random() < 0.5:
        return loosely(rng, f"What comes after {_or_word(rng, number)}?"), f"After {number} comes {number + 1}."
    return loosely(rng, f"What comes before {_or_word(rng, number + 1)}?"), f"Before {number + 1} comes {number}."


def plain(rng: random.Random) -> str:
    a = rng.randint(1, 10)
    table = "".join(f"{a} times {n} is {a * n}.\n" for n in range(1, 11))
    return rng.choice([table, ", ".join(str(n) for n in range(1, 21)) + "."])
