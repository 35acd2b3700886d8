"""Ask a model the questions of its suites, keep what it said, score it. Torch only where the embedded decoder does not
compute the architecture."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stoker.base.clock import Clock, SystemClock
from stoker.base.errors import Conflict, InvalidInput, NotFound
from stoker.registry.stores import Store
from stoker.registry.weights import short
from stoker.spec import Run
from stoker.train import asking, exporting, places, reading, suites, transforms, verdicts
from stoker.train.asking import Ask
from stoker.train.contamination import contaminated
from stoker.train.formats import Example
from stoker.train.gate import Answered, Verdict, judge
from stoker.train.suites import Question
from stoker.train.verdicts import Evaluated

_SHOWN = 3
_EPOCHS = 10
"""Of a run with a transform, what it makes in so many epochs is searched for the questions."""


def evaluate(
    run: Run,
    *,
    here: Path,
    state: Path,
    url: str | None,
    key: str | None,
    tell: Callable[[str], None],
    model: str | None = None,
    checkpoints: str | None = None,
    clock: Clock | None = None,
) -> tuple[Verdict, str]:
    """Of the run's newest whole checkpoint, exported; or of a model behind an OpenAI `url`. Samples and verdict are
    kept in the run's store under evaluations/DIGEST/. Returns the verdict, and the digest of the weights that it is
    about.

    A server that does not say which weights it serves (see `asking.served_digest`) gets a verdict about its address,
    with which nothing can be registered. `model`: its name there; `register_as`, or else the run's name, by default.
    Raises InvalidInput when `data` is not what the run's checkpoints have learned from."""
    if not run.evaluation.suites:
        raise InvalidInput(
            "the run file has no evaluation.suites, so there is nothing to ask",
            param="evaluation.suites",
            hint="docs/training/evaluate.md shows how one is written",
        )
    read = {suite.name: places.read(suite.data, here) for suite in run.evaluation.suites}
    asked = {suite.name: suites.read_suite(suite, read[suite.name]) for suite in run.evaluation.suites}
    every = [question for questions in asked.values() for question in questions]
    store = exporting.store_of(run, here=here, state=state, checkpoints=checkpoints)
    files = reading.read_files(run.data, here)
    exporting.compare_data(run, store, reading.digest_of(files))
    found = contaminated(every, _trained_on(run, files, here, tell))
    about: dict[str, Any] = {
        "run": run.name,
        "suites": {name: {"data_sha256": _sha256(data)} for name, data in read.items()},
    }
    if url is None:
        exported = exporting.newest(run, store, here=here, state=state, tell=tell)
        ask, by = asking.of_folder(run, exported.folder)
        digest, base_folder = exported.digest, exported.base
        about |= {"checkpoint": exported.checkpoint, "step": exported.step, "by": by}
        tell(f"step {exported.step}, weights {short(digest)}: {len(every)} questions to {by}")
    else:
        name = model or run.register_as or run.name
        ask, digest = asking.endpoint(url, key, name), _digest_of_server(url, key, name, tell)
        base_folder = _base(run, here, state)
        about |= {"by": url, "model": name}
        tell(f"{len(every)} questions to {name} at {url}")
    tuned = _answers(run, asked, ask, tell)
    base: Sequence[Answered] | None = None
    if run.base != "scratch":
        ask, by = asking.of_folder(run, base_folder)
        tell(f"the same questions to the base, by {by}")
        base = _answers(run, asked, ask, lambda _: None)
    expected = {name: [question.id for question in questions] for name, questions in asked.items()}
    verdict = judge(run.evaluation, expected, tuned, base, found)
    at = (clock or SystemClock()).now()
    verdicts.write(store, Evaluated(digest, verdict, run.evaluation, expected, found, tuned, base, about, at))
    return verdict, digest


def again(run: Run, digest: str, *, here: Path, state: Path, checkpoints: str | None = None) -> tuple[Verdict, str]:
    """The verdict of an earlier evaluation, judged anew from its samples. `digest` may be the beginning of one. Raises
    Conflict when another one comes out."""
    store = exporting.store_of(run, here=here, state=state, checkpoints=checkpoints)
    found = verdicts.again(store, verdicts.find(store, digest))
    return found.verdict, found.digest


def passed(run: Run, store: Store, digest: str, *, here: Path) -> Evaluated | None:
    """The evaluation by which these weights may be registered: judged anew, by the rules that the run file and the
    questions that the suites' files have now. None: there is none. Raises Conflict when what is there does not hold;
    InvalidInput when a suite's file is gone."""
    try:
        found = verdicts.again(store, digest)
    except NotFound:
        return None
    if found.wanted != run.evaluation:
        raise Conflict(
            f"weights {short(digest)} were evaluated by other rules than the run file's evaluation has now",
            hint="evaluate them again: `stoker evaluate RUN.yaml`",
            code="other_rules",
        )
    for suite in run.evaluation.suites:
        asked = found.about.get("suites", {}).get(suite.name, {}).get("data_sha256")
        if _sha256(places.read(suite.data, here)) != asked:
            raise Conflict(
                f"suite {suite.name} ({suite.data}) has changed since weights {short(digest)} were evaluated",
                hint="evaluate them again: `stoker evaluate RUN.yaml`",
                code="other_questions",
            )
    if not found.verdict.passed:
        failed = "\n".join(reason for reason in found.verdict.reasons if reason.startswith("failed:"))
        raise Conflict(
            f"weights {short(digest)} did not pass their evaluation:\n{failed}",
            hint="train on, or change the data; `--unevaluated` registers them all the same",
            code="not_passed",
        )
    return found


def _answers(
    run: Run, asked: Mapping[str, Sequence[Question]], ask: Ask, tell: Callable[[str], None]
) -> list[Answered]:
    found: list[Answered] = []
    for suite in run.evaluation.suites:
        questions = asked[suite.name]
        said = ask(questions, suite.max_tokens)
        silent = [(q.id, each.why) for q, each in zip(questions, said, strict=True) if each.text is None]
        for id, why in silent[:_SHOWN]:
            tell(f"{suite.name}: {id} has no answer: {why}")
        answered = [(q, each.text) for q, each in zip(questions, said, strict=True) if each.text is not None]
        marks = suites.scores(suite.check, [q for q, _ in answered], [text for _, text in answered])
        scored = {q.id: mark for (q, _), mark in zip(answered, marks, strict=True)}
        found += [
            Answered(suite.name, q.id, scored.get(q.id), each.text if each.text is not None else each.why)
            for q, each in zip(questions, said, strict=True)
        ]
    return found


def _trained_on(run: Run, files: Sequence[reading.File], here: Path, tell: Callable[[str], None]) -> Iterator[Example]:
    """Without the lines that cannot be used: training has said what is wrong with them."""
    for _, example in _read(run, files, here, tell):
        if not isinstance(example, ValueError):
            yield example


def _read(run: Run, files: Sequence[reading.File], here: Path, tell: Callable[[str], None]) -> Iterator[reading.Read]:
    dataset = run.dataset
    if dataset.transform is None:
        yield from reading.examples_of(files, dataset.format, tell)
        return
    transform = transforms.load(dataset.transform, here)
    lines = [line for line, trouble in reading.lines_of_files(files, tell) if trouble is None]
    for epoch in range(min(run.epochs, _EPOCHS)):
        yield from reading.transformed(lines, transform, seed=run.seed, epoch=epoch, format=dataset.format)


def _base(run: Run, here: Path, state: Path) -> Path:
    from stoker.train.bases import base_folder

    return here if run.base == "scratch" else base_folder(run, here=here, cache=state / "cache")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of_server(url: str, key: str | None, name: str, tell: Callable[[str], None]) -> str:
    digest = asking.served_digest(url, key, name)
    if digest is not None:
        return digest
    tell(
        f"{url} does not say which weights {name} has, so that nothing can be registered by this verdict; serve it "
        "under the name NAME@DIGEST to bind the verdict to weights"
    )
    return "url-" + hashlib.sha256(f"{url}\0{name}".encode()).hexdigest()[:32]
