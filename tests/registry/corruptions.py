"""Damage at random to the checkpoints of a run, and whether anybody was told.

A run of three checkpoints, each of two shards, is damaged in one way, read, and put right again. Used by tests and by
benchmarks/train/integrity.py.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field

from checkpoint_builders import RUN, read_state, save, tensors_of

from stoker.registry.heads import Keep
from stoker.registry.manifests import Manifest
from stoker.registry.runs import NoneWhole, RunStore
from stoker.registry.stores import Store

STEPS = (10, 20, 30)
NEWEST = "checkpoints/s00000030-e0001-0/"

Objects = MutableMapping[str, bytes]
Damage = Callable[[random.Random, Objects], bool]
"""Changes objects; whether the newest checkpoint must not be used any more."""


def make_run(store: Store) -> None:
    runs = RunStore(store, RUN, writer="maker")
    lease = runs.claim()
    for step in STEPS:
        lease = save(runs, lease, step, keep=Keep(last=len(STEPS), best=0), world=2)


def _some(chance: random.Random, objects: Objects, *, ending: str = "") -> str:
    return chance.choice(sorted(key for key in objects if key.startswith(NEWEST) and key.endswith(ending)))


def flip_a_bit(chance: random.Random, objects: Objects) -> bool:
    key = _some(chance, objects)
    data = bytearray(objects[key])
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    objects[key] = bytes(data)
    return True


def flip_some_bytes(chance: random.Random, objects: Objects) -> bool:
    key = _some(chance, objects)
    data = bytearray(objects[key])
    begin = chance.randrange(len(data))
    length = min(len(data) - begin, chance.randint(1, 64))
    data[begin : begin + length] = bytes(each ^ 0x5A for each in data[begin : begin + length])
    objects[key] = bytes(data)
    return True


def cut_off(chance: random.Random, objects: Objects) -> bool:
    key = _some(chance, objects)
    objects[key] = objects[key][: chance.randrange(len(objects[key]))]
    return True


def empty(chance: random.Random, objects: Objects) -> bool:
    objects[_some(chance, objects)] = b""
    return True


def lengthen(chance: random.Random, objects: Objects) -> bool:
    objects[_some(chance, objects)] += chance.randbytes(chance.randint(1, 100))
    return True


def remove(chance: random.Random, objects: Objects) -> bool:
    del objects[_some(chance, objects)]
    return True


def of_another_step(chance: random.Random, objects: Objects) -> bool:
    """The same name, the same size, the same tensors: of another step."""
    key = _some(chance, objects, ending=".safetensors")
    objects[key] = objects[key.replace("s00000030", f"s{chance.choice(STEPS[:-1]):08d}")]
    return True


def swap_ranks(chance: random.Random, objects: Objects) -> bool:
    one, other = (f"{NEWEST}shard-{rank:05d}.safetensors" for rank in (0, 1))
    objects[one], objects[other] = objects[other], objects[one]
    return True


def manifest_of_another_step(chance: random.Random, objects: Objects) -> bool:
    step = chance.choice(STEPS[:-1])
    objects[f"{NEWEST}manifest.json"] = objects[f"checkpoints/s{step:08d}-e0001-0/manifest.json"]
    return True


def rewrite_the_manifest(chance: random.Random, objects: Objects) -> bool:
    """A manifest that is one, and says something else."""
    key = f"{NEWEST}manifest.json"
    document = json.loads(objects[key])
    shard = chance.choice(document["shards"])
    piece = chance.choice(shard["pieces"])
    change = chance.randrange(4)
    if change == 0:
        document["state"]["step"] = chance.randrange(10**6)
    elif change == 1:
        shard["chunks"][0] = chance.randbytes(32).hex()
    elif change == 2:
        piece["name"] += "x"
    else:
        document["shards"] = document["shards"][::-1]
    objects[key] = json.dumps(document).encode()
    return True


def garbage(chance: random.Random, objects: Objects) -> bool:
    objects[_some(chance, objects)] = chance.randbytes(chance.randint(1, 2000))
    return True


def zeros(chance: random.Random, objects: Objects) -> bool:
    """A file whose length was written, and whose content was not: a power failure."""
    key = _some(chance, objects)
    objects[key] = bytes(len(objects[key]))
    return True


def one_more(chance: random.Random, objects: Objects) -> bool:
    """Nobody names it: no matter."""
    objects[f"{NEWEST}shard-{chance.randint(2, 9):05d}.safetensors"] = chance.randbytes(50)
    return False


def a_later_one_that_was_not_committed(chance: random.Random, objects: Objects) -> bool:
    """Shards and a manifest of a step that HEAD never named: no matter, whatever a listing shows."""
    for key in [key for key in objects if key.startswith(NEWEST)]:
        objects[key.replace("s00000030", "s00000040")] = objects[key]
    return False


def damage_head(chance: random.Random, objects: Objects) -> bool:
    """The copy says the same."""
    key = chance.choice(("HEAD", "HEAD.copy"))
    data = bytearray(objects[key])
    if chance.random() < 0.5:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    else:
        del data[chance.randrange(len(data)) :]
    objects[key] = bytes(data)
    return False


DAMAGES: Mapping[str, tuple[Damage, int]] = {
    "a bit flipped": (flip_a_bit, 6),
    "bytes changed": (flip_some_bytes, 2),
    "cut off": (cut_off, 3),
    "empty": (empty, 1),
    "longer": (lengthen, 1),
    "missing": (remove, 1),
    "shard of another step": (of_another_step, 2),
    "shards of two ranks swapped": (swap_ranks, 1),
    "manifest of another step": (manifest_of_another_step, 1),
    "manifest rewritten": (rewrite_the_manifest, 1),
    "garbage": (garbage, 1),
    "zeros": (zeros, 1),
    "an object too many": (one_more, 1),
    "a later one that was not committed": (a_later_one_that_was_not_committed, 1),
    "HEAD damaged": (damage_head, 2),
}
"""With how often each is done, beside the others."""


@dataclass
class Tally:
    done: Counter[str] = field(default_factory=Counter)
    silent: list[str] = field(default_factory=list)
    """Wrong bytes were returned, or a damaged checkpoint was used."""
    lost: list[str] = field(default_factory=list)
    """It did not fall back to the newest that is whole, or did not say why."""


def damage_and_read(store: Store, objects: Objects, count: int, seed: int) -> Tally:
    """So many times: damage the newest checkpoint (each third time the one before it as well), load, put it right."""
    whole = dict(objects)
    chance = random.Random(seed)
    tally = Tally()
    kinds = [kind for kind, (_, weight) in DAMAGES.items() for _ in range(weight)]
    for number in range(count):
        kind = chance.choice(kinds)
        is_damaged = DAMAGES[kind][0](chance, objects)
        expected = 20 if is_damaged else 30
        if is_damaged and number % 3 == 0:
            key = f"checkpoints/s00000020-e0001-0/shard-0000{chance.randrange(2)}.safetensors"
            data = bytearray(objects[key])
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            objects[key] = bytes(data)
            expected = 10
        tally.done[kind] += 1
        _judge(store, expected, f"{number} of seed {seed}: {kind}", tally)
        for key in [key for key in objects if whole.get(key) != objects[key]]:
            if key not in whole:
                del objects[key]
        for key, data in whole.items():
            if objects.get(key) != data:
                objects[key] = data
    return tally


def _judge(store: Store, expected: int, what: str, tally: Tally) -> None:
    runs = RunStore(store, RUN, writer="reader")
    read: dict[int, dict[str, bytes]] = {}

    def use(manifest: Manifest) -> None:
        read[manifest.step] = read_state(runs, manifest)

    try:
        found, skipped = runs.newest_whole(use)
    except NoneWhole as exc:
        tally.lost.append(f"{what}: {exc}")
        return
    if found is None or read[found.step] != tensors_of(found.step) or found.state["step"] != found.step:
        tally.silent.append(what)
    elif found.step > expected:
        tally.silent.append(f"{what}: step {found.step} was used")
    elif found.step < expected or [each.step for each in skipped] != [step for step in (30, 20) if step > expected]:
        tally.lost.append(f"{what}: step {found.step}, skipped {skipped}")
    elif not all(each.why for each in skipped):
        tally.lost.append(f"{what}: without a reason")
