"""`stoker render`: what lies in the folder afterwards, what goes where, exit codes, and what is never lost."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stoker.cli.app import run

SMALL = "llm: {models: {general: {}}}\nkarpenter: {nodePools: {gpu: {instanceFamilies: [g6], spotEnabled: false}}}\n"
TWO = SMALL.replace("{general: {}}", "{general: {}, code: {}}")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "platform.yaml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def pool_of(folder: Path, name: str) -> dict[str, object]:
    return yaml.safe_load((folder / "nodes" / f"{name}.yaml").read_text())  # type: ignore[no-any-return]


def test_the_file_of_the_folder_is_rendered(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["render", "-o", "out"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    number = len(files(here / "out")) - 1  # less the index
    assert said.err == f"platform: platform.yaml\n{number} files in out: {number} changed, 0 removed\n"
    assert pool_of(here / "out", "gpu.general")["kind"] == "NodePool"
    assert {"kustomization.yaml", ".stoker-render.json"} <= files(here / "out")


def test_the_built_in_defaults_where_there_is_no_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "platform.yaml").unlink()
    assert run(["render", "-o", "out"]) == 0
    assert capsys.readouterr().err.startswith("platform: built-in defaults (no platform.yaml here; `stoker init`)\n")
    assert {f"nodes/gpu.{name}.yaml" for name in ("general", "code", "vision")} <= files(here / "out")


def test_another_file_by_name(here: Path) -> None:
    (here / "other.yaml").write_text(TWO)
    assert run(["render", "-f", "other.yaml", "-o", "out"]) == 0
    assert "nodes/gpu.code.yaml" in files(here / "out")


def test_every_object_is_in_the_kustomization(here: Path) -> None:
    assert run(["render", "-o", "out"]) == 0
    listed = yaml.safe_load((here / "out" / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == {name for name in files(here / "out") if "/" in name and name.endswith(".yaml")}


@pytest.mark.parametrize(("mode", "group"), [("karpenter", "karpenter.k8s.aws"), ("auto", "eks.amazonaws.com")])
def test_the_mode_of_the_command_line_counts(here: Path, mode: str, group: str) -> None:
    (here / "platform.yaml").write_text(SMALL + "global: {cluster: {mode: hybrid}}\n")
    assert run(["render", "-o", "out", "--mode", mode]) == 0
    groups = {
        pool["spec"]["template"]["spec"]["nodeClassRef"]["group"]  # type: ignore[index]
        for pool in (pool_of(here / "out", "gpu.general"), pool_of(here / "out", "general"))
    }
    assert groups == {group}


def test_the_same_spec_gives_the_same_bytes_and_changes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["render", "-o", "out"]) == 0
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (here / "out").rglob("*") if path.is_file()
    }
    capsys.readouterr()
    assert run(["render", "-o", "out"]) == 0
    assert "0 changed, 0 removed" in capsys.readouterr().err
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (here / "out").rglob("*") if path.is_file()}
    assert after == before


def test_two_processes_of_other_hash_seeds_render_the_same_bytes(here: Path) -> None:
    said = [
        subprocess.run(
            [sys.executable, "-m", "stoker.cli.app", "render", "-o", "-"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1] != b""


def test_json_says_what_was_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "platform.yaml").write_text(TWO)
    assert run(["render", "-o", "out"]) == 0
    (here / "platform.yaml").write_text(SMALL)
    capsys.readouterr()
    assert run(["render", "-o", "out", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["files"]) == files(here / "out") - {".stoker-render.json"}
    assert "nodes/gpu.code.yaml" in told["removed"]
    assert "kustomization.yaml" in told["changed"]
    assert "nodes/gpu.general.yaml" not in told["changed"]


# -- only --


def test_only_a_component(here: Path) -> None:
    assert run(["render", "-o", "out", "--only", "nodes"]) == 0
    assert {name.partition("/")[0] for name in files(here / "out") if name.endswith(".yaml") and "/" in name} == {
        "nodes"
    }


def test_an_unknown_component_is_2_and_the_hint_names_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["render", "-o", "out", "--only", "node"]) == 2
    said = capsys.readouterr().err
    assert "error: no component is called node\n\nhint: components: base, nodes, " in said
    assert not (here / "out").exists()


def test_only_never_takes_away_what_other_components_wrote(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Git would deliver that as the end of everything else."""
    assert run(["render", "-o", "out"]) == 0
    before = files(here / "out")
    assert run(["render", "-o", "out", "--only", "argocd"]) == 2
    assert (
        "hint: render everything, or --only into a folder of its own; --force removes them" in capsys.readouterr().err
    )
    assert files(here / "out") == before
    assert run(["render", "-o", "out", "--only", "argocd", "--force"]) == 0
    assert "nodes/gpu.general.yaml" not in files(here / "out")


def test_only_into_a_folder_of_its_own_removes_what_is_stale(here: Path) -> None:
    (here / "platform.yaml").write_text(TWO)
    assert run(["render", "-o", "out", "--only", "nodes"]) == 0
    (here / "platform.yaml").write_text(SMALL)
    assert run(["render", "-o", "out", "--only", "nodes"]) == 0
    assert "nodes/gpu.code.yaml" not in files(here / "out")


# -- stdout --


def test_a_dash_writes_the_objects_to_stdout(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["render", "-o", "-"]) == 0
    said = capsys.readouterr()
    assert said.err == "platform: platform.yaml\n"
    objects = list(yaml.safe_load_all(said.out))
    assert run(["render", "-o", "out"]) == 0
    written = [
        each
        for name in sorted(files(here / "out"))
        if "/" in name and name.endswith(".yaml")
        for each in yaml.safe_load_all((here / "out" / name).read_text())
    ]
    assert objects == written
    assert "Kustomization" not in {each["kind"] for each in objects}


def test_what_starts_machines_at_once_is_not_piped_into_kubectl(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paid = 'global: {cluster: {account: "111122223333"}}\ncomposition: {ack: {sagemaker: true}}\n'
    (here / "platform.yaml").write_text(paid)
    assert run(["render", "-o", "-"]) == 0
    kinds = [each["kind"] for each in yaml.safe_load_all(capsys.readouterr().out)]
    assert "EndpointConfig" in kinds
    assert "Endpoint" not in kinds


def test_a_dash_with_json_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["render", "-o", "-", "--json"]) == 2
    assert capsys.readouterr().out == ""


# -- what is there already --


def test_what_another_wrote_is_not_written_over(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "out" / "nodes").mkdir(parents=True)
    own = here / "out" / "kustomization.yaml"
    own.write_text("resources: [mine.yaml]\n")
    assert run(["render", "-o", "out"]) == 2
    said = capsys.readouterr().err
    assert "error: kustomization.yaml in out would be lost: not written by stoker render, or changed since\n" in said
    assert "hint: choose an empty folder, move what you want to keep, or say --force" in said
    assert files(here / "out") == {"kustomization.yaml"}
    assert run(["render", "-o", "out", "--force"]) == 0
    assert "mine.yaml" not in own.read_text()


def test_what_was_changed_by_hand_is_not_written_over(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["render", "-o", "out"]) == 0
    changed = here / "out" / "nodes" / "gpu.general.yaml"
    changed.write_text(changed.read_text() + "# mine\n")
    (here / "platform.yaml").write_text(TWO)
    assert run(["render", "-o", "out"]) == 2
    assert "nodes/gpu.general.yaml in out would be lost" in capsys.readouterr().err
    assert "nodes/gpu.code.yaml" not in files(here / "out")


def test_what_was_changed_by_hand_is_not_removed(here: Path) -> None:
    (here / "platform.yaml").write_text(TWO)
    assert run(["render", "-o", "out"]) == 0
    changed = here / "out" / "nodes" / "gpu.code.yaml"
    changed.write_text("mine: true\n")
    (here / "platform.yaml").write_text(SMALL)
    assert run(["render", "-o", "out"]) == 2
    assert changed.read_text() == "mine: true\n"


def test_stale_files_go_and_others_stay(here: Path) -> None:
    (here / "platform.yaml").write_text(TWO)
    assert run(["render", "-o", "out"]) == 0
    (here / "out" / "README.md").write_text("mine\n")
    (here / "out" / "nodes" / "own.yaml").write_text("mine: true\n")
    (here / "platform.yaml").write_text(SMALL)
    assert run(["render", "-o", "out"]) == 0
    there = files(here / "out")
    assert "nodes/gpu.code.yaml" not in there
    assert {"README.md", "nodes/own.yaml", "nodes/gpu.general.yaml"} <= there


def test_an_empty_folder_goes_with_its_last_file(here: Path) -> None:
    assert run(["render", "-o", "out", "--only", "nodes"]) == 0
    (here / "platform.yaml").write_text("karpenter: {enabled: false}\n")
    assert run(["render", "-o", "out", "--only", "nodes"]) == 0
    assert not (here / "out" / "nodes").exists()


def test_an_index_that_leads_out_of_the_folder_removes_nothing_there(here: Path) -> None:
    """The index comes from a repository, maybe somebody else's."""
    assert run(["render", "-o", "out"]) == 0
    (here / "precious.yaml").write_text("mine: true\n")
    index = here / "out" / ".stoker-render.json"
    told = json.loads(index.read_text())
    index.write_text(json.dumps({**told, "files": {**told["files"], "../precious.yaml": "0" * 64}}))
    assert run(["render", "-o", "out", "--force"]) == 0
    assert (here / "precious.yaml").read_text() == "mine: true\n"


@pytest.mark.parametrize("content", ["", "[]", '{"files": 3}', "\x00"])
def test_an_index_that_cannot_be_read_is_2(here: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "out").mkdir()
    (here / "out" / ".stoker-render.json").write_text(content)
    assert run(["render", "-o", "out"]) == 2
    assert "hint: remove it" in capsys.readouterr().err


# -- what cannot be done --


def test_a_file_is_no_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["render", "-o", "platform.yaml"]) == 2
    assert "error: platform.yaml is a file; -o wants a folder\n\nhint: name a folder" in capsys.readouterr().err
    assert (here / "platform.yaml").read_text() == SMALL


def test_a_folder_below_a_file_is_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["render", "-o", "platform.yaml/out"]) == 2
    assert "platform.yaml/out" in capsys.readouterr().err


def test_a_full_disk_leaves_no_half_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(source: str, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    assert run(["render", "-o", "out"]) == 2
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert files(here / "out") == set()


def test_no_folder_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["render"]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_fault_in_the_spec_is_2_with_its_place(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "platform.yaml").write_text("karpenter: {nodePools: {gpu: {volume: huge}}}\n")
    assert run(["render", "-o", "out"]) == 2
    assert "platform.yaml:1:39: karpenter.nodePools.gpu.volume" in capsys.readouterr().err
    assert not (here / "out").exists()


def test_a_model_that_fits_no_instance_is_2_with_what_would_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "platform.yaml").write_text(SMALL.replace("{general: {}}", "{general: {serving: {gpu: {memory: 60Gi}}}}"))
    assert run(["render", "-o", "out"]) == 2
    said = capsys.readouterr().err
    assert "llm.models.general: a replica with 1 GPU of 60Gi, 2 CPU and 10Gi fits no instance type of" in said
    assert "hint: " in said
    assert "would do: add " in said
    assert not (here / "out").exists()


def test_a_cap_that_is_too_low_is_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "platform.yaml").write_text(SMALL.replace("spotEnabled: false", "maxUsdPerHour: 1"))
    assert run(["render", "-o", "out"]) == 2
    assert "karpenter.nodePools.gpu.maxUsdPerHour is 1, and 51 GPUs" in capsys.readouterr().err


# -- a Helm chart --


def test_a_chart_takes_the_place_of_what_was_rendered_before(here: Path) -> None:
    assert run(["render", "-o", "out"]) == 0
    assert run(["render", "--helm", "-o", "out"]) == 0
    found = files(here / "out")
    assert {"Chart.yaml", "values.yaml", "values.schema.json", "templates/nodes/gpu.general.yaml"} <= found
    assert "nodes/gpu.general.yaml" not in found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "out", "--only", "nodes"], "--helm writes one whole chart, of which --only would leave parts out"),
        (["-o", "-"], "--helm writes a folder of files, and -o is -"),
    ],
)
def test_a_chart_is_whole_and_in_a_folder(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(["render", "--helm", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (here / "out").exists()


class TestTerraform:
    """`--terraform`: the root module, in a folder of its own."""

    def test_the_module_is_one_flat_folder(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["render", "--terraform", "-o", "infra", "--mode", "auto", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert set(said["files"]) == files(here / "infra") - {".stoker-render.json"}
        assert {"vpc.tf", "eks.tf", "outputs.tf", "variables.tf", "versions.tf"} <= set(said["files"])
        assert [name for name in said["files"] if "/" in name or not name.endswith(".tf")] == []
        assert "compute_config" in (here / "infra" / "eks.tf").read_text()

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (["-o", "-"], "--terraform writes a folder of files, and -o is -"),
            (
                ["-o", "x", "--only", "base"],
                "--terraform writes one whole module, of which --only would leave parts out",
            ),
            (["-o", "x", "--aws", "ack"], "--terraform makes what is needed of AWS by Terraform, and --aws is ack"),
        ],
    )
    def test_what_does_not_go_with_it(
        self, here: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str
    ) -> None:
        assert run(["render", "--terraform", *words]) == 2
        assert why in capsys.readouterr().err
        assert files(here) == {"platform.yaml"}

    def test_a_file_that_was_changed_is_not_written_over(self, here: Path) -> None:
        assert run(["render", "--terraform", "-o", "infra"]) == 0
        (here / "infra" / "vpc.tf").write_text("# mine\n")
        assert run(["render", "--terraform", "-o", "infra"]) == 2
        assert (here / "infra" / "vpc.tf").read_text() == "# mine\n"
