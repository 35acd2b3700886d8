"""`stoker deploy | diff | status | destroy` as they are typed, against a cluster's stand-in."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploy_stage import SMALL, Stage, staged

from stoker.cli.app import run

Tree = dict[str, Any]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    (tmp_path / "platform.yaml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    with staged(tmp_path, monkeypatch) as found:
        yield found


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def change_image(obj: Tree) -> None:
    obj["spec"]["template"]["spec"]["containers"][0]["image"] = "somewhere/else:1"


def test_it_says_what_it_will_do_and_cost_and_asks(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "n\n")
    assert run(["deploy"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "small: account -, us-west-2, context stand-in" in said.err
    assert f"objects: {len(stage.site().objects)} to create" in said.err
    assert "USD a month" in said.err
    assert "Do this to stand-in?" in said.err
    assert "nothing was done" in said.err
    assert stage.server.counted == 0

    typed(monkeypatch, "y\n")
    assert run(["deploy"]) == 0
    said = capsys.readouterr()
    assert "wave 1 of 4, foundation" in said.err
    assert "deployed small" in said.err
    assert stage.server.get("Deployment", "gateway", "agentic-ai") is not None


def test_without_anybody_to_ask_nothing_is_done(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("deploy", "destroy"):
        typed(monkeypatch, "")
        assert run([command]) == (2 if command == "deploy" else 0)  # there is nothing to destroy
    assert stage.server.counted == 0
    said = capsys.readouterr().err
    assert "nobody answers whether to go on" in said
    assert "--yes" in said


def test_a_dry_run_is_the_plan_alone(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deploy", "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {each["action"] for each in said["objects"]} == {"create"}
    assert said["terraform"] is None
    cost = said["cost_usd_per_month"]
    assert round(sum(line["low"] for line in cost["lines"]), 2) == cost["low"] > 0
    assert stage.server.counted == 0


def test_status_says_why_something_is_not_ready(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deploy", "--yes"]) == 0
    capsys.readouterr()
    assert run(["status"]) == 0
    assert "gateway" in capsys.readouterr().out
    stage.server.readiness = {("Deployment", "model-general"): "ImagePullBackOff"}
    stage.server.settle()
    assert run(["status"]) == 1
    said = capsys.readouterr().out
    assert "models: Deployment agentic-ai/model-general: 0 of" in said
    assert "ImagePullBackOff" in said
    assert run(["status", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ready"] is False
    (models,) = [each for each in found["components"] if each["component"] == "models"]
    assert models["ready"] == models["total"] - 1
    assert [each["object"] for each in models["troubles"]] == ["Deployment agentic-ai/model-general"]


def test_diff_shows_what_others_changed_and_what_the_file_newly_asks_for(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["deploy", "--yes"]) == 0
    capsys.readouterr()
    assert run(["diff", "--exit-code"]) == 0
    assert capsys.readouterr().out == "no difference\n"
    stage.server.edit("Deployment", "gateway", "agentic-ai", change_image)
    (stage.folder / "platform.yaml").write_text(
        SMALL.replace("mode: auto", "mode: auto, zones: [us-west-2a, us-west-2b]")
    )
    assert run(["diff", "--exit-code"]) == 1
    said = capsys.readouterr().out
    assert "Deployment agentic-ai/gateway: conflict" in said
    assert "spec.template.spec.containers[gateway].image: 'somewhere/else:1' -> " in said
    assert "was changed by kubectl-edit" in said
    assert "NodePool general: update" in said


def test_diff_shows_what_others_put_beside_it(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deploy", "--yes"]) == 0
    capsys.readouterr()

    def add(obj: Tree) -> None:
        obj["spec"]["template"]["spec"]["containers"].append({"name": "spy", "image": "spy:1"})

    stage.server.edit("Deployment", "gateway", "agentic-ai", add)
    assert run(["diff", "--exit-code"]) == 1
    said = capsys.readouterr().out
    assert "spec.template.spec.containers[name=spy] was added by kubectl-edit, and a deploy leaves it" in said
    assert run(["diff", "--json"]) == 0
    (gateway,) = json.loads(capsys.readouterr().out)["objects"]
    assert gateway["added"] == [{"manager": "kubectl-edit", "field": "spec.template.spec.containers[name=spy]"}]


def test_what_others_changed_is_taken_back_only_when_asked_for(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["deploy", "--yes"]) == 0
    stage.server.edit("Deployment", "gateway", "agentic-ai", change_image)
    calls = stage.server.counted
    assert run(["deploy", "--yes"]) == 1
    said = capsys.readouterr().err
    assert "Deployment agentic-ai/gateway: " in said
    assert "held by kubectl-edit" in said
    assert "--force-conflicts" in said
    assert stage.server.counted == calls
    assert run(["deploy", "--yes", "--force-conflicts"]) == 0
    gateway = stage.server.get("Deployment", "gateway", "agentic-ai")
    assert gateway is not None
    assert gateway["spec"]["template"]["spec"]["containers"][0]["image"] == "stoker/gateway:0.1.0"
    capsys.readouterr()


def test_destroy_wants_the_name_typed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["deploy", "--yes"]) == 0
    typed(monkeypatch, "smal\n")
    assert run(["destroy"]) == 1
    assert stage.server.get("Namespace", "agentic-ai") is not None
    assert run(["destroy", "--dry-run", "--json"]) == 0
    assert stage.server.get("Namespace", "agentic-ai") is not None
    capsys.readouterr()
    typed(monkeypatch, "small\n")
    assert run(["destroy"]) == 0
    assert "small is gone" in capsys.readouterr().err
    assert stage.server.get("Namespace", "agentic-ai") is None
    assert run(["destroy", "--yes"]) == 0
    assert "there is nothing to remove" in capsys.readouterr().err


def test_a_file_that_names_no_account_is_refused_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "platform.yaml").write_text("global: {cluster: {name: prod}}\n")
    monkeypatch.chdir(tmp_path)
    for command in ("deploy", "diff", "status", "destroy"):
        assert run([command]) == 2
        said = capsys.readouterr().err
        assert "global.cluster.account is null, and nothing is done in an account that the file does not name" in said
    assert not (tmp_path / ".stoker").exists()
