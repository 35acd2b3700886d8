"""`--fix`: what is mended, what is left alone, and that nothing else changes."""

from pathlib import Path

from stoker.lint import fixing
from stoker.lint.config import Config
from stoker.lint.rule import Severity
from stoker.lint.run import lint
from stoker.manifests.reading import Reading, read, read_text

HERE = Path(__file__).parent

OLD_POOLS = """\
# what serves
apiVersion: karpenter.sh/v1beta1
kind: NodePool
metadata:
  name: serving
spec:
  template:
    metadata:
      labels:
        team: ai
    spec:
      requirements:
      - key: karpenter.sh/capacity-type
        operator: In
        values: [spot, on-demand]
      - {key: karpenter.k8s.aws/instance-category, operator: In, values: [c, m, r]}
      nodeClassRef:
        apiVersion: karpenter.k8s.aws/v1beta1
        kind: EC2NodeClass
        name: general
  limits:
    cpu: "100"
  disruption:
    consolidationPolicy: WhenUnderutilized
    # a month
    expireAfter: 720h  # 30 days
---
apiVersion: karpenter.sh/v1beta1
kind: NodePool
metadata: {name: batch}
spec:
  template:
    spec:
      requirements:
      - {key: karpenter.sh/capacity-type, operator: In, values: [on-demand]}
      nodeClassRef: {name: general}
  limits: {cpu: "100"}
  disruption: {consolidationPolicy: WhenEmpty, consolidateAfter: 30s, expireAfter: Never, budgets: [{nodes: "20%"}]}
"""
NEW_POOLS = """\
# what serves
apiVersion: karpenter.sh/v1
kind: NodePool
metadata:
  name: serving
spec:
  template:
    metadata:
      labels:
        team: ai
    spec:
      requirements:
      - key: karpenter.sh/capacity-type
        operator: In
        values: [spot, on-demand]
      - {key: karpenter.k8s.aws/instance-category, operator: In, values: [c, m, r]}
      nodeClassRef:
        kind: EC2NodeClass
        name: general
        group: karpenter.k8s.aws
      # a month
      expireAfter: 720h  # 30 days
  limits:
    cpu: "100"
  disruption:
    consolidationPolicy: WhenEmptyOrUnderutilized
    consolidateAfter: 0s
---
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: batch}
spec:
  template:
    spec:
      requirements:
      - {key: karpenter.sh/capacity-type, operator: In, values: [on-demand]}
      nodeClassRef: {name: general, group: karpenter.k8s.aws, kind: EC2NodeClass}
      expireAfter: Never
  limits: {cpu: "100"}
  disruption: {consolidationPolicy: WhenEmpty, consolidateAfter: 30s, budgets: [{nodes: "20%"}]}
"""


def _rules(reading: Reading, least: Severity = Severity.WARNING) -> list[str]:
    return [f"{f.rule} {f.object}" for f in lint(reading, EXISTS).findings if f.severity.rank >= least.rank]


EXISTS = Config(exists=("EC2NodeClass general",))


def test_pools_of_v1beta1_become_pools_of_v1_that_lint_clean() -> None:
    fixed = fixing.fix(read_text(OLD_POOLS, "pools.yaml"), EXISTS)
    assert fixed.texts == {"pools.yaml": NEW_POOLS}
    assert fixed.skipped == ()
    assert _rules(fixed.reading) == []


def test_the_guide_s_pools_have_no_error_left() -> None:
    wrong = read([str(HERE / "guide_wrong" / name) for name in ("02-gpu-pool.yaml", "05-model-pools.yaml")])
    wrong_too = read([str(HERE / "guide_wrong" / name) for name in ("08-spot-pool.yaml", "13-training-pool.yaml")])
    for reading in (wrong, wrong_too):
        after = fixing.fix(reading, EXISTS).reading
        assert [each for each in _rules(after, Severity.ERROR) if "NodePool" in each] == []
        assert [each for each in _rules(reading, Severity.ERROR) if "NodePool" in each] != []


def test_a_second_fix_changes_nothing() -> None:
    once = fixing.fix(read_text(OLD_POOLS, "pools.yaml"), EXISTS).reading
    again = fixing.fix(once, EXISTS)
    assert (again.texts, again.count) == ({}, 0)


def test_what_is_right_is_not_touched() -> None:
    assert fixing.fix(read([str(HERE / "guide_right")]), Config()).texts == {}


def test_what_is_silenced_is_not_mended() -> None:
    text = OLD_POOLS.replace("# what serves", "# stoker:ignore STK-KARPENTER-001 moved in June with the cluster")
    first, _, second = fixing.fix(read_text(text, "pools.yaml"), EXISTS).texts["pools.yaml"].partition("---\n")
    assert "apiVersion: karpenter.sh/v1beta1" in first
    assert second == NEW_POOLS.partition("---\n")[2]


def test_what_is_off_is_not_mended() -> None:
    off = Config(severities={"STK-KARPENTER-001": None}, exists=EXISTS.exists)
    assert "v1beta1" in fixing.fix(read_text(OLD_POOLS, "pools.yaml"), off).reading.texts["pools.yaml"]


def test_what_cannot_be_changed_in_the_text_is_said_and_left() -> None:
    text = """\
kind: Secret
apiVersion: v1
metadata: {name: shared}
stringData: &all {a: b}
---
apiVersion: karpenter.sh/v1beta1
kind: NodePool
metadata: {name: a}
spec: &spec
  template: &template
    spec:
      nodeClassRef: {name: a}
      requirements: []
other: *spec
"""
    fixed = fixing.fix(read_text(text, "a.yaml"), EXISTS)
    assert fixed.texts.get("a.yaml", text).count("*spec") == 1
    assert all(each.startswith("a.yaml:") for each in fixed.skipped)


def test_other_documents_and_files_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(OLD_POOLS)
    (tmp_path / "b.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name:   odd}   # spacing\n")
    fixed = fixing.fix(read([str(tmp_path)]), EXISTS)
    assert set(fixed.texts) == {str(tmp_path / "a.yaml")}
