"""Very short stories from a small grammar."""

import random

from corpus.talk import NAMES, loosely

ANIMALS = ["cat", "dog", "fox", "bird", "mouse", "horse", "rabbit", "owl"]
COLOURS = ["red", "green", "blue", "yellow", "white", "black", "brown"]
THINGS = ["ball", "hat", "boat", "lamp", "book", "bell", "kite", "stone"]
PLACES = ["in the garden", "by the river", "in the forest", "at the station", "on the hill", "near the sea"]
ENDS = ["They were happy.", "Then they went home.", "It was a good day.", "Everyone slept well that night."]
PROBLEMS = ["it was lost", "it was broken", "it was too heavy", "it fell into the water"]
HELPS = ["helped to find it", "helped to mend it", "helped to carry it", "pulled it out"]


def story(rng: random.Random, animal: str | None = None) -> str:
    name, friend = rng.sample(NAMES, 2)
    animal, colour, thing = animal or rng.choice(ANIMALS), rng.choice(COLOURS), rng.choice(THINGS)
    number = rng.randrange(len(PROBLEMS))
    return (
        f"Once there was a {animal} called {name}. {name} had a {colour} {thing}. One day {rng.choice(PLACES)}, "
        f"{PROBLEMS[number]}. {friend} came and {HELPS[number]}. {rng.choice(ENDS)}"
    )


def request(rng: random.Random) -> tuple[str, str]:
    animal = rng.choice(ANIMALS)
    asked = [
        f"Tell me a story about a {animal}.",
        f"Write a short story about a {animal}.",
        f"A story about a {animal}, please.",
    ]
    if rng.random() < 0.3:
        return loosely(rng, rng.choice(["Tell me a story.", "Write a short story."])), story(rng)
    return loosely(rng, rng.choice(asked)), story(rng, animal)
