"""The guide's faults, in manifests of our own: each entry of the list is found by a rule that names it."""

from collections import defaultdict
from pathlib import Path

import pytest

from stoker.lint.findings import Report
from stoker.lint.rule import Severity
from stoker.lint.rules import RULES
from stoker.lint.run import lint
from stoker.manifests.reading import read

HERE = Path(__file__).parent

# Entry of the reference's list -> the objects of guide_wrong that have the fault.
ENTRIES: dict[str, tuple[str, ...]] = {
    "E01": (
        *("NodePool serving", "NodePool general", "NodePool code", "NodePool serving-spot", "NodePool packed"),
        *("NodePool training", "EC2NodeClass serving-nodes", "EC2NodeClass spot-nodes", "EC2NodeClass training-nodes"),
    ),
    "E02": ("NodePool serving", "NodePool general", "NodePool code", "NodePool serving-spot", "NodePool packed"),
    "E03": ("NodePool serving", "NodePool training"),
    "E04": ("NodePool serving", "NodePool general", "NodePool code", "NodePool serving-spot", "NodePool training"),
    "E05": ("NodePool serving", "NodePool general", "NodePool code", "NodePool serving-spot", "NodePool packed"),
    "E06": ("NodePool packed",),
    "E07": ("EC2NodeClass serving-nodes", "EC2NodeClass spot-nodes", "EC2NodeClass training-nodes"),
    "E08": ("NodePool serving-spot", "NodePool training"),
    "E09": ("NodePool serving-spot", "NodePool training"),
    "E10": ("Pod labelled",),
    "E11": ("Deployment chat",),
    "E12": ("NodePool packed",),
    "E13": ("NodePool packed",),
    "E14": ("JobDefinition finetune",),
    "E15": ("JobDefinition finetune",),
    "E16": ("JobDefinition finetune",),
    "E17": ("JobDefinition finetune",),
    "E18": ("JobDefinition finetune",),
    "E19": ("Bucket ai/models",),
    "E20": ("ResourceGroup stack",),
    "E21": ("ResourceGroup stack",),
    "E22": ("Deployment ${schema.spec.modelName}",),
    "E23": ("Deployment ${schema.spec.modelName}",),
    "E24": ("HorizontalPodAutoscaler ${schema.spec.modelName}",),
    "E25": ("Stack ai/llama",),
    "R01": ("Deployment ai/chat",),
    "R02": ("Deployment ai/chat",),
    "R03": (
        *("Deployment ai/chat", "PyTorchJob training/finetune"),
        *("DaemonSet kube-system/aws-node-termination-handler", "Application argocd/chat"),
    ),
    "R04": ("ScaledObject ai/chat",),
    "R05": ("ScaledObject ai/chat",),
    "R07": ("Ingress ai/edge",),
    "R08": ("EC2NodeClass spot-nodes",),
    "R09": ("DaemonSet kube-system/aws-node-termination-handler",),
    "R10": ("Deployment chat",),
    "R11": ("EC2NodeClass training-nodes",),
    "R12": ("PyTorchJob training/finetune",),
    "R13": ("PyTorchJob training/finetune",),
    "R14": ("PyTorchJob training/finetune",),
    "R15": ("Workflow ai/pipeline",),
    "R16": ("Workflow ai/pipeline",),
    "R17": ("DaemonSet watch/gpu-metrics",),
    "R18": ("Workflow ai/pipeline",),
    "R19": ("PyTorchJob training/finetune",),
    "R20": ("EC2NodeClass spot-nodes", "EC2NodeClass training-nodes"),
    "R21": ("PyTorchJob training/finetune",),
    "S01": ("DaemonSet watch/gpu-metrics",),
    "S02": ("DaemonSet watch/gpu-metrics",),
    "S03": ("NodePool serving", "NodePool training"),
    "S04": ("NodePool serving", "NodePool packed"),
    "S05": ("EC2NodeClass serving-nodes",),
    "S06": ("ScaledObject ai/chat",),
    "S07": ("ScaledObject ai/chat",),
    "S08": ("ScaledObject ai/chat",),
    "S09": ("ScaledObject ai/chat",),
    "S10": ("ScaledObject ai/chat",),
    "S11": ("NodePool code", "NodePool training"),
    "S12": ("Deployment ai/general", "Deployment ai/chat"),
    "S13": ("NodePool serving-spot",),
    "S14": ("NodePool serving-spot",),
    "S15": ("NodePool packed",),
    "S16": ("NodePool training",),
    "S17": ("NodePool training", "EC2NodeClass training-nodes"),
    "S18": ("NodePool training",),
    "S19": ("EC2NodeClass training-nodes",),
    "S20": ("EC2NodeClass training-nodes",),
    "S21": ("PyTorchJob training/finetune",),
    "S22": ("ResourceGroup stack",),
    "S23": ("Application argocd/chat",),
    "S24": ("NodePool serving", "ScaledObject ai/chat"),
    "W01": ("DaemonSet kube-system/aws-node-termination-handler",),
    "W02": ("EC2NodeClass serving-nodes", "EC2NodeClass spot-nodes", "EC2NodeClass training-nodes"),
    "W04": ("PyTorchJob training/finetune",),
    "W05": ("JobDefinition finetune",),
    "W07": ("Deployment ${schema.spec.modelName}", "Workflow ai/pipeline", "EC2NodeClass training-nodes"),
    "W08": ("Secret ai/redis", "DaemonSet kube-system/aws-node-termination-handler"),
    "W10": ("EC2NodeClass spot-nodes",),
    "W11": ("ScaledObject ai/chat",),
    "W13": ("NodePool general", "NodePool code", "NodePool serving-spot"),
}

# Of the list's E, R, S and W: what is no manifest.
NO_MANIFEST = {
    "E26": "a call of the AWS CLI",
    "E27": "a call of Terraform",
    "E28": "an add-on's configuration, in JSON",
    "R06": "values of KEDA's chart",
    "R22": "a Python script",
    "R23": "Terraform",
    "R24": "a call of Helm",
    "R25": "prose about API Gateway",
    "R26": "the address of a repository",
    "W03": "Terraform",
    "W06": "a version in prose",
    "W09": "a name in prose",
    "W12": "a Python script",
}


@pytest.fixture(scope="module")
def wrong() -> Report:
    return lint(read([str(HERE / "guide_wrong")]))


@pytest.fixture(scope="module")
def right() -> Report:
    return lint(read([str(HERE / "guide_right")]))


def test_every_entry_is_either_a_manifest_s_or_said_not_to_be() -> None:
    numbers = {"E": range(1, 29), "R": range(1, 27), "S": range(1, 25), "W": range(1, 14)}
    listed = {f"{letter}{number:02}" for letter, each in numbers.items() for number in each}
    assert ENTRIES.keys() | NO_MANIFEST.keys() == listed
    assert not ENTRIES.keys() & NO_MANIFEST.keys()


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_entry_is_found_by_a_rule_that_names_it(entry: str, wrong: Report) -> None:
    naming = {rule.id for rule in RULES if entry in rule.guide}
    found = {finding.object for finding in wrong.findings if finding.rule in naming}
    missing = [named for named in ENTRIES[entry] if named not in found]
    assert (naming != set(), missing) == (True, [])


def test_what_is_right_is_not_flagged(right: Report) -> None:
    said = [
        f"{Path(f.file).name}:{f.line} {f.rule} {f.object}: {f.message}"
        for f in right.findings
        if f.severity is not Severity.INFO
    ]
    assert said == []


def test_nothing_of_checked_and_right_is_flagged(wrong: Report) -> None:
    """Places in the wrong manifests that are right, though a reader may doubt it."""
    flagged: dict[str, set[str]] = defaultdict(set)
    for finding in wrong.findings:
        flagged[finding.object].add(finding.path)
    for named, paths in CHECKED_AND_RIGHT.items():
        wrongly = {path for path in flagged[named] if path.startswith(paths)}
        assert wrongly == set(), named


CHECKED_AND_RIGHT: dict[str, tuple[str, ...]] = {
    "EC2NodeClass serving-nodes": ("spec.metadataOptions", "spec.blockDeviceMappings"),
    "EC2NodeClass training-nodes": ("spec.blockDeviceMappings",),
    "Ingress ai/edge": ("metadata.annotations",),
    "ScaledObject ai/chat": (
        "spec.advanced",
        "spec.triggers[1].metadata.queueURL",
        "spec.triggers[1].metadata.queueLength",
        "spec.triggers[1].metadata.awsRegion",
    ),
    "TriggerAuthentication ai/redis": ("spec",),
    "Workflow ai/pipeline": ("spec.templates[0].dag.tasks[3].when", "spec.templates[2].outputs"),
    "NodePool serving": ("spec.limits", "spec.template.spec.taints", "spec.weight", "spec.disruption.budgets[0]"),
    "NodePool serving-spot": ("spec.weight", "spec.template.spec.taints"),
    "Application argocd/chat": ("spec.syncPolicy", "spec.source"),
}
