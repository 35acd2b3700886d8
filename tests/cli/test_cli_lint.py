"""`stoker lint`: exit codes, what goes where, and what happens to files."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.cli.app import run

RIGHT = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  level: info
"""
WRONG = RIGHT.replace("  level: info", "  level: info\n  level: debug")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()  # so that no config file above is found
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_clean_is_0_and_says_what_was_looked_at(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.yaml").write_text(RIGHT)
    assert run(["lint", "a.yaml"]) == 0
    assert capsys.readouterr().out == "nothing found in 1 object of 1 file\n"


def test_findings_are_1_and_on_stdout(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.yaml").write_text(WRONG)
    assert run(["lint", "."]) == 1
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith("a.yaml\n  7:3      error ")


def test_fail_on_says_from_where_on_it_fails(here: Path) -> None:
    (here / "a.yaml").write_text(WRONG)
    assert run(["lint", ".", "--fail-on", "never"]) == 0
    (here / "a.yaml").write_text("- a list\n")
    assert run(["lint", "a.yaml"]) == 0
    assert run(["lint", "a.yaml", "--fail-on", "info"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say what to look at"),
        (["nowhere.yaml"], "there is no nowhere.yaml"),
        ([".", "--rule", "STK-KARPENTR-001"], "there is no rule STK-KARPENTR-001"),
        ([".", "--explain", "x"], "there is no rule X"),
        ([".", "--json", "--sarif"], "two answers"),
        ([".", "--config", "none.yaml"], "there is no config file none.yaml"),
        ([".", "--kubernetes", "1.2"], "no schemas of Kubernetes 1.2"),
    ],
)
def test_asked_wrongly_is_2_and_says_what_would_be_right(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["lint", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert "hint:" in told.err


def test_stdin_is_read_for_a_dash(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(WRONG.encode())))
    assert run(["lint", "-", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [(each["rule"], each["file"], each["line"]) for each in told["findings"]] == [("STK-READ-005", "<stdin>", 7)]
    assert told["checked"] == 1


def test_a_broken_config_file_is_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.yaml").write_text(RIGHT)
    (here / ".stoker-lint.yaml").write_text("rules: {STK-X-1: off}\n")
    assert run(["lint", "a.yaml"]) == 2
    assert "no rule STK-X-1" in capsys.readouterr().err


def test_rules_are_chosen_and_left_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.yaml").write_text(WRONG)
    assert run(["lint", ".", "--ignore", "STK-READ-005"]) == 0
    assert run(["lint", ".", "--rule", "STK-API-001"]) == 0
    assert run(["lint", ".", "--rule", "STK-READ-005"]) == 1


def test_explain_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", "--explain", "STK-READ-005"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("### STK-READ-005\n\nA key is written twice. (error)\n")
    assert "```yaml" in told


def test_list_names_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", "--list"]) == 0
    assert "STK-READ-005       error    A key is written twice\n" in capsys.readouterr().out
    assert run(["lint", "--list", "--json"]) == 0
    assert {"rule": "STK-READ-005", "severity": "error", "title": "A key is written twice"} in json.loads(
        capsys.readouterr().out
    )["rules"]


OLD = """\
# our pool
apiVersion: karpenter.sh/v1beta1  # to be renewed
kind: NodePool
metadata:
  name: general
spec:
  template:
    spec:
      requirements:
      - {key: karpenter.sh/capacity-type, operator: In, values: [spot, on-demand]}
      - {key: karpenter.k8s.aws/instance-category, operator: In, values: [c, m, r]}
      nodeClassRef:
        name: general
  limits: {cpu: "100"}
  disruption:
    consolidationPolicy: WhenUnderutilized
    # then they go
    expireAfter: 720h  # a month
"""
NEW = """\
# our pool
apiVersion: karpenter.sh/v1  # to be renewed
kind: NodePool
metadata:
  name: general
spec:
  template:
    spec:
      requirements:
      - {key: karpenter.sh/capacity-type, operator: In, values: [spot, on-demand]}
      - {key: karpenter.k8s.aws/instance-category, operator: In, values: [c, m, r]}
      nodeClassRef:
        name: general
        group: karpenter.k8s.aws
        kind: EC2NodeClass
      # then they go
      expireAfter: 720h  # a month
  limits: {cpu: "100"}
  disruption:
    consolidationPolicy: WhenEmptyOrUnderutilized
    consolidateAfter: 0s
"""


def test_fix_rewrites_the_file_and_keeps_comments_and_order(here: Path) -> None:
    file = here / "pool.yaml"
    file.write_text(OLD)
    file.chmod(0o640)
    run(["lint", "pool.yaml", "--fix"])
    assert file.read_text() == NEW
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in here.iterdir() if path.name.startswith(".pool")] == []


def test_diff_shows_it_and_changes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = here / "pool.yaml"
    file.write_text(OLD)
    assert run(["lint", "pool.yaml", "--diff"]) == 0
    told = capsys.readouterr().out
    assert "-apiVersion: karpenter.sh/v1beta1  # to be renewed\n+apiVersion: karpenter.sh/v1  # to be renewed\n" in told
    assert file.read_text() == OLD


def test_fix_of_stdin_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(OLD.encode())))
    assert run(["lint", "-", "--fix"]) == 2
    assert "--diff shows" in capsys.readouterr().err


def test_no_colour_where_nobody_looks(here: Path) -> None:
    (here / "a.yaml").write_text(WRONG)
    done = subprocess.run(
        [sys.executable, "-m", "stoker.cli.app", "lint", "a.yaml"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "\x1b" in done.stdout) == (1, False)


def test_it_starts_without_what_it_does_not_need(here: Path) -> None:
    (here / "a.yaml").write_text(RIGHT)
    heavy = ["numpy", "torch", "pydantic", "redis", "sqlalchemy", "starlette", "rich", "typer", "prompt_toolkit"]
    code = (
        "import sys; from stoker.cli.app import run; code = run(['lint', 'a.yaml']);"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")
