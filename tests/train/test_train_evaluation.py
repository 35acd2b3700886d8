"""From a run's checkpoint to a verdict, to a model in service: with the weights that come with Stoker in place of
what a run makes, and the real decoder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stoker.base.errors import Conflict, InvalidInput, NotFound
from stoker.cli.app import run as stoker
from stoker.nn.bundle import default_folder
from stoker.registry import flat
from stoker.registry.folders import FolderStore
from stoker.registry.models import Models, digest_of
from stoker.testing import ManualClock
from stoker.train import evaluation, exporting, verdicts
from stoker.train.exporting import Exported
from stoker.train.transforms import chance

RUN = """
name: tune
data: data.jsonl
evaluation:
  leastScore: 0.9
  suites: [{name: products, data: products.jsonl, check: contains, maxTokens: 16}]
"""

TOLD = """
def told(example, rng):
    asked = {"role": "user", "content": f"What is {example['a']} times {rng.choice((3, 9))}?"}
    return {"messages": [asked, {"role": "assistant", "content": "x"}]}
"""


class World:
    """A run that has ended: its folder, its store, and what its newest checkpoint exports to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "run.yaml"
        self.file.write_text(RUN)
        self.lines(
            "data.jsonl", {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
        )
        self.exam([(a, b, a * b) for a in (2, 7) for b in (3, 9)])
        self.store = FolderStore(folder / "store")
        self.weights = shutil.copytree(default_folder(), folder / "exported")
        self.state = folder / "state"
        self.heard: list[str] = []

    def lines(self, name: str, *values: object) -> None:
        (self.folder / name).write_text("".join(json.dumps(value) + "\n" for value in values))

    def exam(self, products: list[tuple[int, int, int]]) -> None:
        self.lines("products.jsonl", *(question(a, b, right) for a, b, right in products))

    @property
    def digest(self) -> str:
        return digest_of(self.weights)[0]

    def says(self, command: str, *options: str) -> int:
        return stoker([command, str(self.file), "--state", str(self.state), *options])

    def models(self) -> Models:
        return Models(FolderStore(self.state / "models"))


def question(a: int, b: int, right: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"What is {a} times {b}?"}]
    return {"id": f"{a}x{b}", "messages": messages, "answer": str(right)}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)

    def newest(*_: object, **__: object) -> Exported:
        return Exported(made.weights, made.digest, default_folder(), "s00000012-e0001-0", 12)

    monkeypatch.setattr(exporting, "store_of", lambda *_, **__: made.store)
    monkeypatch.setattr(exporting, "newest", newest)
    return made


Said = Callable[[], tuple[str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def read() -> tuple[str, str]:
        captured = capsys.readouterr()
        return captured.out, captured.err

    return read


def test_evaluated_registered_and_the_same_again(world: World, said: Said) -> None:
    score = world.folder / "score"
    assert world.says("evaluate", "--score-file", str(score)) == 0
    out, err = said()
    assert out.splitlines() == [
        "passed: products: 4 of 4 right, 1.000",
        "passed: mean over suites 1.000, at least 0.9 is wanted",
        "passed: difference from the base +0.000, 95 % interval +0.000 to +0.000 over 4 questions; its lower end has "
        "to be -0.02 at least",
        "passed: no question is in the training data",
        f"passed  weights {world.digest}",
    ]
    assert "4 questions to the embedded engine" in err
    assert score.read_text() == "1.0\n"

    assert world.says("register", "--json") == 0
    registered = json.loads(said()[0])
    assert (registered["model"], registered["digest"], registered["before"]) == ("tune", world.digest, None)
    assert registered["card"]["evaluation"]["score"] == 1.0
    assert registered["card"]["checkpoint"] == "s00000012-e0001-0"
    current = world.models().current("tune")
    assert current is not None
    assert current.digest == world.digest
    assert world.says("register") == 0
    out, err = said()
    assert out == f"tune  {world.digest}\n"
    assert "it was served already" in err
    assert "tune: {weights: models:tune}" in err
    assert len(world.models().versions("tune")) == 1

    assert world.says("evaluate", "--again", world.digest[:8], "--json") == 0
    assert json.loads(said()[0])["digest"] == world.digest


def test_what_was_not_evaluated_or_is_another_is_not_registered(world: World, said: Said) -> None:
    assert world.says("register") == 1
    assert "have not been evaluated\n\nhint: `stoker evaluate RUN.yaml` does it" in said()[1]
    assert world.says("evaluate") == 0
    (world.weights / "MODEL_CARD.md").write_text("another")
    assert world.says("register") == 1
    assert f"weights {world.digest[:12]}, of step 12, have not been evaluated" in said()[1]
    assert world.models().versions("tune") == []
    assert world.says("register", "--unevaluated") == 0
    (version,) = world.models().versions("tune")
    assert version.card["evaluation"] is None


def test_a_verdict_that_came_after_the_registration_is_on_the_card(world: World, said: Said) -> None:
    assert world.says("register", "--unevaluated") == 0
    assert world.says("evaluate") == 0
    said()
    assert world.says("register", "--json") == 0
    registered = json.loads(said()[0])
    assert (registered["digest"], registered["card"]["evaluation"]["score"]) == (world.digest, 1.0)
    (version,) = world.models().versions("tune")
    assert version.card == registered["card"]
    card = world.state / "models" / "tune" / "versions" / world.digest / "card.json"
    before = card.stat().st_ino
    for option in ((), ("--unevaluated",)):
        assert world.says("register", *option) == 0
        assert card.stat().st_ino == before


def test_what_failed_is_not_registered_and_the_score_is_there_all_the_same(world: World, said: Said) -> None:
    world.exam([(2, 3, 6), (2, 4, 9)])
    score = world.folder / "score"
    assert world.says("evaluate", "--score-file", str(score), "--json") == 1
    verdict = json.loads(said()[0])
    assert (verdict["passed"], verdict["score"]) == (False, 0.5)
    assert score.read_text() == "0.5\n"
    assert world.says("register") == 1
    err = said()[1]
    assert "did not pass their evaluation:\nfailed: mean over suites 0.500, at least 0.9 is wanted" in err
    assert world.models().versions("tune") == []


def test_without_a_score_there_is_no_score_file_not_even_an_earlier_one(world: World, said: Said) -> None:
    score = world.folder / "score"
    score.write_text("0.99\n")
    world.lines(
        "products.jsonl", question(2, 3, 6), {"messages": [{"role": "user", "content": "x " * 9000}], "answer": "y"}
    )
    assert world.says("evaluate", "--score-file", str(score)) == 1
    assert not score.exists()
    out, err = said()
    assert "failed: products: the model: 1 of 2 have no answer: 2" in out
    assert "products: 2 has no answer: the context of tuned is 2048 tokens" in err


def test_questions_from_the_training_data_fail_it(world: World, said: Said) -> None:
    told = [{"role": "user", "content": "what is 7 times 9"}, {"role": "assistant", "content": "63"}]
    world.lines("data.jsonl", "what is 2 times 3", {"messages": told}, {"messages": told[:1]})
    assert world.says("evaluate") == 1
    assert "failed: products: 1 of 4 are in the training data: 7x9" in said()[0]


def test_questions_that_a_transform_makes_fail_it_in_whichever_epoch_and_those_that_it_drops_do_not(
    world: World, said: Said
) -> None:
    seed = next(n for n in range(100) if [chance(n, epoch, 0).choice((3, 9)) for epoch in range(2)] == [3, 9])
    world.file.write_text(RUN + f"epochs: 2\nseed: {seed}\ndataset: {{transform: 'own.py:told'}}\n")
    (world.folder / "own.py").write_text(TOLD)
    world.lines("data.jsonl", {"a": 7, "messages": [{"role": "user", "content": "What is 2 times 9?"}]})
    assert world.says("evaluate") == 1
    assert "failed: products: 2 of 4 are in the training data: 7x3, 7x9" in said()[0]
    world.file.write_text(world.file.read_text().replace("epochs: 2", "epochs: 1"))
    assert world.says("evaluate") == 1
    assert "failed: products: 1 of 4 are in the training data: 7x3" in said()[0]


def test_a_model_that_began_from_random_weights_has_no_base(world: World, said: Said) -> None:
    world.file.write_text(RUN + "base: scratch\nmethod: full\n")
    assert world.says("evaluate") == 0
    assert "note: not compared with a base: it began from random weights" in said()[0]


def test_other_rules_ask_for_another_evaluation(world: World, said: Said) -> None:
    assert world.says("evaluate") == 0
    world.file.write_text(RUN.replace("0.9", "0.5"))
    assert world.says("register") == 1
    assert "were evaluated by other rules" in said()[1]


def test_other_questions_ask_for_another_evaluation(world: World, said: Said) -> None:
    assert world.says("evaluate") == 0
    before = (world.folder / "products.jsonl").read_bytes()
    for after in (before.replace(b'"6"', b'"7"'), b"{"):
        (world.folder / "products.jsonl").write_bytes(after)
        assert world.says("register") == 1
        assert "suite products (products.jsonl) has changed since weights" in said()[1]
        assert world.models().versions("tune") == []
    (world.folder / "products.jsonl").write_bytes(before)
    assert world.says("register") == 0


@pytest.mark.parametrize(
    ("file", "old", "new", "why"),
    [
        ("samples.jsonl", b'"score": 0.0', b'"score": 1.0', "is damaged: its samples have changed"),
        ("verdict.json", b'"passed": false', b'"passed": true', "come to another verdict than was written down"),
        ("verdict.json", b'"leastScore": 0.9', b'"leastScore": 0.1', "come to another verdict than was written down"),
        ("verdict.json", b"{", b"[", "is damaged"),
    ],
)
def test_a_verdict_that_was_touched_is_worth_nothing(world: World, file: str, old: bytes, new: bytes, why: str) -> None:
    world.exam([(2, 3, 6), (2, 4, 9)])
    assert world.says("evaluate") == 1
    key = f"evaluations/{world.digest}/{file}"
    world.store.put(key, [world.store.get(key).replace(old, new)])
    with pytest.raises(Conflict, match=why):
        verdicts.again(world.store, world.digest)
    assert world.says("register") == 1


def test_a_verdict_holds_all_that_it_was_made_from(world: World) -> None:
    assert world.says("evaluate") == 0
    found = verdicts.again(world.store, world.digest)
    assert found.judged() == found.verdict
    assert [(each.id, each.score) for each in found.tuned] == [("2x3", 1.0), ("2x9", 1.0), ("7x3", 1.0), ("7x9", 1.0)]
    assert "6" in found.tuned[0].said
    assert found.base is not None
    assert found.about["run"] == "tune"
    assert found.about["by"] == "the embedded engine"
    with pytest.raises(NotFound, match=f"no evaluation of 123; there are: {world.digest[:12]}"):
        verdicts.find(world.store, "123")


def test_back_serves_the_version_before(world: World, said: Said) -> None:
    assert world.says("register", "--back") == 1
    assert "tune has no version before the one that is served" in said()[1]
    first = world.digest
    assert world.says("register", "--unevaluated") == 0
    (world.weights / "MODEL_CARD.md").write_text("second")
    assert world.says("register", "--unevaluated") == 0
    said()
    assert world.says("register", "--back") == 0
    out, _ = said()
    assert out == f"tune  {first}\n"


def test_what_was_damaged_is_mended_and_not_gone_back_to(world: World, said: Said) -> None:
    first = world.digest
    assert world.says("register", "--unevaluated") == 0
    place = world.state / "models" / "tune" / "versions" / first
    for file in ("model.safetensors", "config.json", "card.json"):
        (place / file).unlink()
    said()
    assert world.says("register", "--unevaluated") == 0
    err = said()[1]
    assert "model.safetensors in" not in err  # without its card it was none, and goes on
    assert "it was served already" in err
    whole = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert world.says("register", "--unevaluated") == 0
    err = said()[1]
    assert f"tune/versions/{first}/model.safetensors in " in err
    assert "was damaged, and is written anew" in err
    assert (place / "model.safetensors").read_bytes() == whole

    (world.weights / "MODEL_CARD.md").write_text("second")
    assert world.says("register", "--unevaluated") == 0
    (place / "model.safetensors").unlink()
    assert world.says("register", "--back") == 1
    assert f"tune {first[:12]} lacks its model.safetensors" in said()[1]
    assert served(world) == world.digest


def test_files_for_a_clusters_replicas(world: World, said: Said) -> None:
    """The hub's weights and their note go; what stays is of one version, and says so at the end."""
    folder = world.folder / "bucket" / "general"
    place, to = FolderStore(folder), str(folder)
    for key, data in {".stoker-weights": b"org/x complete", "old-1.safetensors": b"x", "config.json": b"{}"}.items():
        place.put(key, [data])
    assert world.says("register", "--unevaluated", "--to", to) == 0
    names = {stat.key for stat in place.list()}
    assert names == {path.name for path in default_folder().iterdir()} | {".stoker-registered"}
    assert flat.laid_out(place) == world.digest
    assert f"the files of {world.digest[:12]} are in {to}" in said()[1]
    assert world.says("register", "--unevaluated", "--to", to) == 0
    assert "the files of" not in said()[1]
    place.delete(["model.safetensors"])
    assert world.says("register", "--unevaluated", "--to", to) == 0
    assert (folder / "model.safetensors").exists()
    place.put(".stoker-weights", [b"org/x begun 5a5a"])
    (world.weights / "MODEL_CARD.md").write_text("second")
    assert world.says("register", "--unevaluated", "--to", to) == 1
    assert "weights of org/x are on their way to" in said()[1]


def test_what_is_served_stays_where_the_files_cannot_be_laid_out(world: World, said: Said) -> None:
    first, refused = world.digest, world.folder / "refused"
    assert world.says("register", "--unevaluated") == 0
    refused.write_text("a file, and no folder")
    (world.weights / "MODEL_CARD.md").write_text("second")
    assert world.says("register", "--unevaluated", "--to", str(refused)) == 2
    assert "is a file; a store is a folder" in said()[1]
    assert served(world) == first
    assert world.says("register", "--unevaluated") == 0
    assert world.says("register", "--back", "--to", str(refused)) == 2
    assert served(world) == world.digest
    refused.unlink()
    assert world.says("register", "--back", "--to", str(refused)) == 0
    assert (served(world), flat.laid_out(FolderStore(refused))) == (first, first)


def served(world: World) -> str | None:
    current = world.models().current("tune")
    return None if current is None else current.digest


def test_a_run_without_suites_is_asked_wrongly(world: World, said: Said) -> None:
    world.file.write_text("name: tune\ndata: data.jsonl\n")
    assert world.says("evaluate") == 2
    assert "has no evaluation.suites, so there is nothing to ask" in said()[1]
    assert world.says("evaluate", "--again", "x", "--url", "http://127.0.0.1:1") == 2
    assert world.says("evaluate", "--model", "x") == 2
    assert world.says("register", "--back", "--unevaluated") == 2


def test_a_verdict_about_an_address_registers_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    from stoker.nn import bundle
    from stoker.train import asking

    monkeypatch.setattr(evaluation, "_base", lambda *_: default_folder())
    monkeypatch.setattr(asking, "endpoint", lambda *_: asking.embedded(bundle.load()))
    monkeypatch.setattr(asking, "served_digest", lambda *_: None)
    assert world.says("evaluate", "--url", "http://127.0.0.1:1") == 0
    err = said()[1]
    assert "does not say which weights tune has" in err
    assert "puts them into service" not in err
    assert world.says("register") == 1
    monkeypatch.setattr(asking, "served_digest", lambda *_: world.digest)
    assert world.says("evaluate", "--url", "http://127.0.0.1:1") == 0
    assert world.says("register") == 0


def test_files_that_are_not_there_are_named(world: World) -> None:
    from stoker.spec import load_run

    (world.folder / "products.jsonl").unlink()
    with pytest.raises(InvalidInput, match=r"products\.jsonl cannot be read: No such file"):
        evaluation.evaluate(
            load_run(world.file),
            here=world.folder,
            state=world.state,
            url=None,
            key=None,
            tell=world.heard.append,
            clock=ManualClock(),
        )
