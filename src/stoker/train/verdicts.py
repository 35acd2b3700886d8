"""What an evaluation leaves behind, in the run's store, and how anybody comes to the same verdict from it.

    evaluations/DIGEST/samples.jsonl     each question's answer and score, of the model and of its base
    evaluations/DIGEST/verdict.json      the verdict, and all that it was made from; written last

DIGEST is that of the weights. `again` judges the samples anew by the rules that are written beside them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.base.errors import Conflict, InvalidInput, NotFound
from stoker.registry.stores import Store
from stoker.registry.weights import short
from stoker.spec import plain, read_section
from stoker.spec.run import Evaluation
from stoker.train.gate import Answered, Verdict, judge

FORMAT = "stoker-verdict/1"
_SAMPLES_BYTES = 1 << 30


@dataclass(frozen=True)
class Evaluated:
    """`about`: for people and the model's card (run, checkpoint, suites and their digests, who computed). `base` None:
    there was none to compare with."""

    digest: str
    verdict: Verdict
    wanted: Evaluation
    expected: Mapping[str, Sequence[str]]
    contaminated: Mapping[str, Sequence[str]]
    tuned: Sequence[Answered]
    base: Sequence[Answered] | None
    about: Mapping[str, Any]
    at: float
    seed: int = 0
    resamples: int = 10_000

    def judged(self) -> Verdict:
        return judge(
            self.wanted,
            self.expected,
            self.tuned,
            self.base,
            self.contaminated,
            seed=self.seed,
            resamples=self.resamples,
        )


def write(store: Store, evaluated: Evaluated) -> None:
    """Raises as `Store.put`. An earlier evaluation of the same weights is written over."""
    place, samples = _place(evaluated.digest), _samples(evaluated)
    document = {
        "format": FORMAT,
        "digest": evaluated.digest,
        "at": evaluated.at,
        "verdict": as_json(evaluated.verdict),
        "wanted": plain(evaluated.wanted),
        "expected": {name: list(ids) for name, ids in evaluated.expected.items()},
        "contaminated": {name: list(ids) for name, ids in evaluated.contaminated.items()},
        "is_compared": evaluated.base is not None,
        "seed": evaluated.seed,
        "resamples": evaluated.resamples,
        "samples_sha256": hashlib.sha256(samples).hexdigest(),
        "about": dict(evaluated.about),
    }
    store.put(place + "samples.jsonl", [samples])
    store.put(place + "verdict.json", [json.dumps(document, indent=1, allow_nan=False).encode() + b"\n"])


def as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "passed": verdict.passed,
        "score": verdict.score,
        "by_suite": dict(verdict.by_suite),
        "difference": None if verdict.difference is None else list(verdict.difference),
        "reasons": list(verdict.reasons),
    }


def read(store: Store, digest: str) -> Evaluated:
    """Raises NotFound, Conflict when it is damaged or its samples are not those that it was made from."""
    place = _place(digest)
    try:
        verdict, _ = store.read(place + "verdict.json")
        samples, _ = store.read(place + "samples.jsonl", most_bytes=_SAMPLES_BYTES)
    except NotFound as error:
        raise NotFound(f"weights {short(digest)} have not been evaluated; {store.url} has no verdict") from error
    try:
        return _evaluated(json.loads(verdict), samples, digest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidInput) as error:
        raise Conflict(
            f"the verdict about {short(digest)} in {store.url} is damaged: {error}", hint="evaluate it again"
        ) from error


def again(store: Store, digest: str) -> Evaluated:
    """The evaluation, judged anew from its samples. Raises as `read`, and Conflict when another verdict comes out than
    was written down."""
    found = read(store, digest)
    judged = found.judged()
    if judged != found.verdict:
        raise Conflict(
            f"the samples about {short(digest)} come to another verdict than was written down: "
            f"passed {judged.passed}, score {judged.score}, and not passed {found.verdict.passed}, score "
            f"{found.verdict.score}",
            hint="evaluate it again",
            code="verdict_differs",
        )
    return found


def find(store: Store, digest: str) -> str:
    """The whole digest of one evaluation, by its beginning. Raises NotFound, which names those that there are."""
    keys = [stat.key for stat in store.list("evaluations/") if stat.key.endswith("/verdict.json")]
    there = [key.split("/")[1] for key in keys]
    found = [each for each in there if digest and each.startswith(digest)]
    if len(found) != 1:
        raise NotFound(
            f"{'no' if not found else 'more than one'} evaluation of {digest}; there are: "
            + (", ".join(short(each) for each in there) or "none")
        )
    return found[0]


def _place(digest: str) -> str:
    return f"evaluations/{digest}/"


def _samples(evaluated: Evaluated) -> bytes:
    of_base = () if evaluated.base is None else evaluated.base
    pairs = [*(("tuned", each) for each in evaluated.tuned), *(("base", each) for each in of_base)]
    return b"".join(
        json.dumps({"model": model, "suite": s.suite, "id": s.id, "score": s.score, "said": s.said}).encode() + b"\n"
        for model, s in pairs
    )


def _evaluated(document: Mapping[str, Any], samples: bytes, digest: str) -> Evaluated:
    if document["format"] != FORMAT or document["digest"] != digest:
        raise ValueError("it is the verdict about something else")
    if hashlib.sha256(samples).hexdigest() != document["samples_sha256"]:
        raise ValueError("its samples have changed")
    answered: dict[str, list[Answered]] = {"tuned": [], "base": []}
    for line in samples.splitlines():
        value = json.loads(line)
        score = None if value["score"] is None else float(value["score"])
        answered[value["model"]].append(Answered(value["suite"], value["id"], score, value["said"]))
    said = document["verdict"]
    difference = said["difference"]
    return Evaluated(
        digest=digest,
        verdict=Verdict(
            said["passed"] is True,
            tuple(said["reasons"]),
            said["score"],
            said["by_suite"],
            None if difference is None else (difference[0], difference[1], difference[2]),
        ),
        wanted=read_section(Evaluation, document["wanted"]),
        expected=document["expected"],
        contaminated=document["contaminated"],
        tuned=answered["tuned"],
        base=answered["base"] if document["is_compared"] else None,
        about=document["about"],
        at=float(document["at"]),
        seed=int(document["seed"]),
        resamples=int(document["resamples"]),
    )
