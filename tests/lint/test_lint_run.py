"""From manifests to findings: where they point, what is silenced, what replaces what."""

from pathlib import Path

import pytest

from stoker.base.errors import SpecInvalid
from stoker.lint import config
from stoker.lint.cluster import Cluster
from stoker.lint.config import Config, Ignore
from stoker.lint.findings import Report
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.run import KNOWN, lint
from stoker.manifests.reading import read_text

POD = """\
# a pod
apiVersion: v1
kind: Pod
metadata:
  name: a
spec:
  containers:
  - name: a
    image: a:latest
    command: [run]
"""


def _rule(
    path: tuple[str | int, ...],
    *,
    rule_id: str = "STK-READ-001",
    key: bool = False,
    severity: Severity = Severity.WARNING,
) -> Rule:
    """A rule that finds one thing in each Pod, under the name of one that exists."""

    def check(cluster: Cluster) -> list[Problem]:
        return [Problem(manifest, path, "seen", "another", key=key) for manifest in cluster.of("Pod")]

    return Rule(rule_id, severity, "a rule of this test", check, __name__)


IMAGE = ("spec", "containers", 0, "image")


def _seen(report: Report) -> list[tuple[str, int, int]]:
    return [(finding.rule, finding.line, finding.column) for finding in report.findings]


def test_a_finding_points_at_the_value() -> None:
    report = lint(read_text(POD, "pod.yaml"), rules=[_rule(IMAGE)])
    finding = report.findings[0]
    assert (finding.file, finding.line, finding.column) == ("pod.yaml", 9, 12)
    assert (finding.object, finding.path) == ("Pod a", "spec.containers[0].image")
    assert (finding.message, finding.hint, finding.severity) == ("seen", "another", Severity.WARNING)
    assert (report.checked, report.files) == (1, 1)


def test_or_at_its_key() -> None:
    assert _seen(lint(read_text(POD), rules=[_rule(IMAGE, key=True)])) == [("STK-READ-001", 9, 5)]


def test_what_is_missing_is_placed_at_what_would_hold_it() -> None:
    report = lint(read_text(POD), rules=[_rule(("spec", "containers", 0, "resources", "limits"))])
    assert _seen(report) == [("STK-READ-001", 8, 5)]


def test_lines_count_from_the_start_of_the_file_in_later_documents() -> None:
    report = lint(read_text(POD + "---\n" + POD), rules=[_rule(IMAGE)])
    assert [finding.line for finding in report.findings] == [9, 20]


def test_findings_come_in_the_order_of_the_text() -> None:
    rules = [_rule(("spec", "containers", 0, "command"), rule_id="STK-READ-002"), _rule(IMAGE)]
    assert [finding.line for finding in lint(read_text(POD), rules=rules).findings] == [9, 10]


@pytest.mark.parametrize("number", [1, 2])
def test_a_rule_that_names_a_fault_replaces_the_api_s_own_finding(number: int) -> None:
    api, other = _rule(IMAGE, rule_id="STK-API-001"), _rule(IMAGE, rule_id="STK-READ-001")
    both = lint(read_text(POD), rules=[api, other][:number])
    assert [finding.rule for finding in both.findings] == ["STK-API-001" if number == 1 else "STK-READ-001"]


def test_but_not_an_error_by_a_warning() -> None:
    api = _rule(IMAGE, rule_id="STK-API-001", severity=Severity.ERROR)
    assert [f.rule for f in lint(read_text(POD), rules=[api, _rule(IMAGE)]).findings] == ["STK-API-001", "STK-READ-001"]


def test_an_api_finding_elsewhere_in_the_object_stays() -> None:
    rules = [_rule(("spec", "hostname"), rule_id="STK-API-001"), _rule(IMAGE)]
    assert len(lint(read_text(POD), rules=rules).findings) == 2


def test_a_rule_that_fails_is_said_and_the_others_go_on() -> None:
    def broken(cluster: Cluster) -> list[Problem]:
        raise KeyError("spec")

    failing = Rule("STK-READ-002", Severity.ERROR, "fails", broken, __name__)
    report = lint(read_text(POD), rules=[failing, _rule(IMAGE)])
    assert [finding.rule for finding in report.findings] == ["STK-LINT-003", "STK-READ-001"]
    assert "STK-READ-002 failed (KeyError" in report.findings[0].message


# Silencing.


def _with(line: str, after: str) -> str:
    return POD.replace(after, f"{line}\n{after}", 1)


def _silenced(text: str) -> list[str]:
    return [each.reason for each in lint(read_text(text), rules=[_rule(IMAGE)]).silenced]


def test_a_comment_on_the_line_silences_that_line() -> None:
    text = POD.replace("a:latest", "a:latest  # stoker:ignore STK-READ-001 pulled by digest in the mirror")
    report = lint(read_text(text), rules=[_rule(IMAGE)])
    assert report.findings == ()
    assert [each.reason for each in report.silenced] == ["pulled by digest in the mirror"]


def test_a_comment_on_another_line_does_not() -> None:
    text = POD.replace("command: [run]", "command: [run]  # stoker:ignore STK-READ-001 not here")
    assert [finding.rule for finding in lint(read_text(text), rules=[_rule(IMAGE)]).findings] == [
        "STK-READ-001",
        "STK-LINT-002",
    ]


def test_a_comment_alone_stands_for_the_entry_that_follows_and_all_in_it() -> None:
    assert _silenced(_with("# stoker:ignore STK-READ-001 known", "spec:")) == ["known"]
    assert _silenced(_with("# stoker:ignore STK-READ-001 known", "metadata:")) == []


SIBLINGS = """\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  # stoker:ignore STK-READ-001 this one
  hostname: a
  containers:
  # stoker:ignore STK-READ-001 and this one
  - image: b
  - image: c
"""


@pytest.mark.parametrize(
    ("path", "silenced"),
    [
        (("spec", "hostname"), True),
        (("spec", "containers"), False),
        (("spec", "subdomain"), False),
        (("spec", "containers", 0, "image"), True),
        (("spec", "containers", 1, "image"), False),
    ],
)
def test_above_the_first_entry_it_stands_for_that_entry_alone(path: tuple[str | int, ...], silenced: bool) -> None:
    report = lint(read_text(SIBLINGS), rules=[_rule(path)])
    assert len(report.silenced) == silenced


def test_many_comments_take_no_time_that_grows_with_their_square() -> None:
    lines = "".join(f"  k{i}: x\n  # stoker:ignore STK-READ-001 known\n" for i in range(3000))
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n{lines}  last: y\n"
    report = lint(read_text(text), rules=[_rule(("spec", "last"))])
    assert len(report.silenced) == 1


def test_a_comment_before_the_first_key_stands_for_the_object() -> None:
    assert _silenced("# stoker:ignore STK-READ-001 known\n" + POD) == ["known"]


def test_and_not_for_the_next_document() -> None:
    report = lint(read_text("# stoker:ignore STK-READ-001 known\n" + POD + "---\n" + POD), rules=[_rule(IMAGE)])
    assert [finding.line for finding in report.findings] == [21]


def test_what_could_not_be_read_is_silenced_on_its_line() -> None:
    text = "kind: x\na: 1\na: 2  # stoker:ignore STK-READ-005 both are meant\n"
    report = lint(read_text(text), rules=[])
    assert [(each.finding.rule, each.reason) for each in report.silenced] == [("STK-READ-005", "both are meant")]
    assert report.findings == ()


def test_one_comment_names_several_rules() -> None:
    text = "# stoker:ignore STK-READ-002, STK-READ-001 known\n" + POD
    assert _silenced(text) == ["known"]


def test_without_a_reason_it_silences_nothing_and_says_so() -> None:
    report = lint(read_text("# stoker:ignore STK-READ-001\n" + POD), rules=[_rule(IMAGE)])
    assert [finding.rule for finding in report.findings] == ["STK-LINT-001", "STK-READ-001"]
    assert "gives no reason" in report.findings[0].message


def test_a_rule_that_does_not_exist_is_said() -> None:
    report = lint(read_text("# stoker:ignore STK-READ-999 known\n" + POD), rules=[])
    assert any("STK-READ-999" in finding.message for finding in report.findings)


def test_a_comment_that_silences_nothing_is_said() -> None:
    report = lint(read_text("# stoker:ignore STK-READ-001 known\n" + POD), rules=[])
    assert [finding.rule for finding in report.findings] == ["STK-LINT-002"]


def test_text_that_only_looks_like_a_comment_silences_nothing() -> None:
    text = POD.replace("[run]", '["# stoker:ignore STK-READ-001 known"]')
    assert _silenced(text) == []


@pytest.mark.parametrize(
    ("ignore", "silenced"),
    [
        (Ignore("STK-READ-001", "why"), 1),
        (Ignore("STK-READ-002", "why"), 0),
        (Ignore("STK-READ-001", "why", files="pods/*"), 1),
        (Ignore("STK-READ-001", "why", files="jobs/*"), 0),
        (Ignore("STK-READ-001", "why", objects="Pod a"), 1),
        (Ignore("STK-READ-001", "why", objects="Pod b*"), 0),
    ],
)
def test_the_config_silences_by_rule_file_and_object(ignore: Ignore, silenced: int) -> None:
    report = lint(read_text(POD, "some/pods/a.yaml"), Config(ignores=(ignore,)), rules=[_rule(IMAGE)])
    assert (len(report.silenced), len(report.findings)) == (silenced, 1 - silenced)


def test_the_config_changes_a_severity() -> None:
    changed = Config(severities={"STK-READ-001": Severity.INFO})
    report = lint(read_text(POD), changed, rules=[_rule(IMAGE)])
    assert [finding.severity for finding in report.findings] == [Severity.INFO]
    assert not report.at_least(Severity.WARNING)


# The config file.


def test_a_config_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / config.FILE
    file.write_text(
        """\
kubernetes: "1.35"
failOn: error
rules:
  STK-READ-001: off
  STK-READ-002: info
ignore:
- {rule: STK-READ-005, files: "a/*", reason: both are meant}
exists: ["Secret ai/*"]
"""
    )
    assert config.load(file, KNOWN) == Config(
        kubernetes="1.35",
        fail_on=Severity.ERROR,
        severities={"STK-READ-001": None, "STK-READ-002": Severity.INFO},
        ignores=(Ignore("STK-READ-005", "both are meant", files="a/*"),),
        exists=("Secret ai/*",),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kubernetes: 1.36\n", 'is not text; in quotes, as "1.36"'),
        ("failOn: sometimes\n", "error, warning, info or never is wanted"),
        ("rules: {STK-NONE-001: off}\n", "no rule STK-NONE-001"),
        ("rules: {STK-READ-001: loud}\n", "error, warning, info or off is wanted"),
        ("ignore: [{rule: STK-READ-001}]\n", "reason is missing; say why"),
        (
            "ignore: [{rule: STK-READ-001, reason: a, where: b}]\n",
            "no such key; there are rule, reason, files, objects",
        ),
        ("exists: [Secret]\n", '"Kind namespace/name" or "Kind name" is wanted'),
        ("rule: {}\n", "no such key; there are kubernetes, failOn, rules, ignore, exists"),
        ("- a\n", "a section is wanted"),
    ],
)
def test_a_broken_config_file_says_what_and_where(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / config.FILE
    file.write_text(text)
    with pytest.raises(SpecInvalid) as refused:
        config.load(file, KNOWN)
    assert said in refused.value.message


def test_the_nearest_config_file_is_found_up_to_the_repository(tmp_path: Path) -> None:
    inner = tmp_path / "repo" / "charts" / "a"
    inner.mkdir(parents=True)
    (tmp_path / config.FILE).write_text("")
    (tmp_path / "repo" / ".git").mkdir()
    assert config.nearest_file(inner) is None
    (tmp_path / "repo" / config.FILE).write_text("")
    assert config.nearest_file(inner) == tmp_path / "repo" / config.FILE


def test_what_the_config_says_exists_is_there() -> None:
    cluster = Cluster((), exists=("Secret ai/*", "ServiceAccount ai/chat", "NodePool serving"))
    assert cluster.exists("Secret", "redis", "ai")
    assert not cluster.exists("Secret", "redis", "other")
    assert cluster.exists("ServiceAccount", "chat", "ai")
    assert cluster.exists("NodePool", "serving")
    assert not cluster.exists("NodePool", "other")
