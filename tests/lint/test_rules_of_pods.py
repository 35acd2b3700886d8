"""What the rules about pods that name an entry of the guide say of its faults: nothing less, and nothing more."""

from collections import defaultdict
from pathlib import Path

from stoker.lint import fixing
from stoker.lint.config import Config
from stoker.lint.rules import RULES
from stoker.lint.run import lint
from stoker.manifests.reading import read, read_text

AREAS = ("STK-DISRUPTION-", "STK-GPU-", "STK-TRAINING-", "STK-SCRIPTS-")
MASTER = "spec.pytorchReplicaSpecs.Master.template"
WORKER = "spec.pytorchReplicaSpecs.Worker.template"
POD = "spec.template.spec"

EXPECTED = {
    "DaemonSet watch/gpu-metrics": {
        ("GPU-001", f'{POD}.nodeSelector."karpenter.sh/capacity-type"'),
        ("GPU-002", f"{POD}.containers[0].image"),
        ("GPU-003", f"{POD}.tolerations"),
    },
    "Deployment ai/chat": {
        ("DISRUPTION-009", f"{POD}.terminationGracePeriodSeconds"),
    },
    "Deployment ai/general": {
        ("DISRUPTION-009", f"{POD}.terminationGracePeriodSeconds"),
    },
    "DaemonSet kube-system/aws-node-termination-handler": {
        ("DISRUPTION-011", f"{POD}"),
        ("DISRUPTION-012", f"{POD}.serviceAccountName"),
        ("DISRUPTION-012", f"{POD}.tolerations"),
    },
    "Deployment chat": {
        ("SCRIPTS-001", f"{POD}.containers[0].command[2]"),
        ("SCRIPTS-003", f"{POD}.containers[0].env"),
    },
    "EC2NodeClass training-nodes": {
        ("TRAINING-005", "spec.userData"),
        ("TRAINING-006", "spec.userData"),
        ("TRAINING-008", "spec.userData"),
    },
    "PyTorchJob training/finetune": {
        ("DISRUPTION-009", f"{MASTER}.spec.terminationGracePeriodSeconds"),
        ("DISRUPTION-009", f"{WORKER}.spec.terminationGracePeriodSeconds"),
        ("DISRUPTION-016", f'{MASTER}.metadata.annotations."karpenter.sh/do-not-disrupt"'),
        ("DISRUPTION-016", f'{WORKER}.metadata.annotations."karpenter.sh/do-not-disrupt"'),
        ("SCRIPTS-006", f"{MASTER}.spec.containers[1].command[2]"),
        ("SCRIPTS-007", f"{MASTER}.spec.containers[1].command[2]"),
        ("SCRIPTS-008", f"{MASTER}.spec.containers[1].command[2]"),
        ("SCRIPTS-009", f"{MASTER}.spec.containers[1].command[2]"),
        ("TRAINING-001", f'{MASTER}.spec.containers[0].resources.limits."vpc.amazonaws.com/efa"'),
        ("TRAINING-001", f'{WORKER}.spec.containers[0].resources.limits."vpc.amazonaws.com/efa"'),
        ("TRAINING-004", f"{MASTER}.spec.volumes[1].hostPath.path"),
        ("TRAINING-009", f"{MASTER}.spec.containers[0].env[1]"),
        ("TRAINING-010", "spec.nprocPerNode"),
        ("TRAINING-011", f"{WORKER}.spec"),
        ("TRAINING-012", "spec.runPolicy.schedulingPolicy"),
        ("TRAINING-013", "kind"),
    },
    "JobDefinition finetune": {
        ("SCRIPTS-004", "spec.nodeProperties.nodeRangeProperties[0].container.command[5]"),
        ("SCRIPTS-004", "spec.nodeProperties.nodeRangeProperties[0].container.command[6]"),
        ("TRAINING-014", "spec.nodeProperties.nodeRangeProperties[0].container.command[2]"),
    },
    "Deployment ${schema.spec.modelName}": {
        ("GPU-009", f'{POD}.containers[0].resources.limits."nvidia.com/gpu"'),
        ("GPU-010", f"{POD}.containers[0].env[0].name"),
    },
    "Workflow ai/pipeline": {
        ("DISRUPTION-016", 'spec.templates[1].metadata.annotations."karpenter.sh/do-not-disrupt"'),
    },
}


def test_what_is_said_of_the_guide() -> None:
    naming = {rule.id for rule in RULES if rule.guide and rule.id.startswith(AREAS)}
    report = lint(read([str(Path(__file__).parent / "guide_wrong")]))
    found = defaultdict(set)
    for finding in report.findings:
        if finding.rule in naming:
            found[finding.object].add((finding.rule.removeprefix("STK-"), finding.path))
    assert found == EXPECTED


TEXT = """\
apiVersion: v1
kind: Pod
metadata:
  name: train
  annotations:
    karpenter.sh/do-not-evict: "true"  # it runs for 8 h
spec:
  containers:
  - name: train
    image: example.com/train:v1
    command: [train, --rank=$RANK]
    env:
    - {name: RANK, value: "0"}
"""


def test_what_fix_writes() -> None:
    fixed = fixing.fix(read_text(TEXT, "some.yaml"), Config())
    right = TEXT.replace("do-not-evict", "do-not-disrupt").replace("$RANK", "$(RANK)")
    assert fixed.reading.texts["some.yaml"] == right


def test_fix_takes_world_size_out() -> None:
    text = (Path(__file__).parent / "guide_wrong" / "14-training-job.yaml").read_text()
    fixed = fixing.fix(read_text(text, "some.yaml"), Config()).reading.texts["some.yaml"]
    assert fixed == text.replace('            - {name: WORLD_SIZE, value: "16"}  # 2 nodes of 8\n', "")
