"""The checks of the whole output see what is wrong: one object or one name is taken out of an output that is right."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import whole_metrics
import whole_names
import whole_places
import whole_references
import whole_terraform
import yaml
from whole import Output, rendered

_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the one in C is five times as fast
EVERYTHING = (Path(__file__).parents[2] / "examples" / "everything.yaml").read_text()


@pytest.fixture(scope="module")
def right() -> Output:
    return rendered(EVERYTHING, "karpenter")


def without(output: Output, kind: str, name: str) -> Output:
    return _with(output, [each.data for each in output.objects if (each.kind, each.name) != (kind, name)])


def _with(output: Output, objects: list[dict[str, Any]]) -> Output:
    rest = {name: text for name, text in output.texts.items() if name.endswith(".tf")}
    return Output({**rest, "some/objects.yaml": yaml.dump_all(objects, Dumper=_Dumper)})


MISSED = [
    *("ServiceAccount", "Service", "ConfigMap", "ExternalSecret", "ClusterSecretStore", "PersistentVolumeClaim"),
    *("PersistentVolume", "StorageClass", "PriorityClass", "TriggerAuthentication", "EC2NodeClass", "Role"),
    *("Deployment", "StatefulSet", "Gateway", "InferencePool", "AppProject", "TrainingRuntime", "LocalQueue"),
    *("ClusterQueue", "ResourceFlavor", "AnalysisTemplate", "Rollout"),
]


@pytest.mark.parametrize("kind", MISSED)
def test_an_object_that_others_name_is_missed(right: Output, kind: str) -> None:
    objects = [each for each in right.objects if each.kind in (kind, kind.removeprefix("Cluster"))]
    assert objects, f"there is no {kind} in examples/everything.yaml"
    assert any(found(without(right, each.kind, each.name)) for each in objects)


def test_a_pod_without_its_pool_is_missed(right: Output) -> None:
    said = list(whole_places.problems(without(right, "NodePool", "train")))
    assert any("fits no instance of any pool" in each for each in said)


def found(output: Output) -> set[str]:
    """Without the file, which is another one."""
    said = {*whole_references.problems(output), *whole_names.problems(output)}
    return {re.sub(r"^[a-z]+/[^:]+: ", "", each) for each in said}


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("models/model-general.yaml", "kind: Service\n", "kind: Service\n", ""),
        ("models/model-general.yaml", "image: vllm/vllm-openai:v0.11.2", "image: vllm/vllm-openai:latest", "floating"),
        ("models/model-general.yaml", "cpu: '3'", "cpu: '300'", "fits no instance"),
        ("gateway/gateway.yaml", "stoker.gateway", "stoker.gatway", "there is no module stoker.gatway"),
        ("nodes/gpu.general.yaml", "name: gpu\n", "name: gpux\n", "there is no EC2NodeClass gpux"),
        (
            "monitoring/rules.yaml",
            "stoker_tokens_total",
            "stoker_token_total",
            "publishes or records stoker_token_total",
        ),
        ("terraform/interruption.tf", 'resource "aws_sqs_queue" "', 'resource "aws_sqs_queue" "x', "nowhere declared"),
        ("base/namespaces.yaml", "name: agentic-ai\n", "name: Agentic_AI\n", "is no DNS name"),
    ],
)
def test_one_wrong_word_is_seen(right: Output, file: str, old: str, new: str, said: str) -> None:
    assert old in right.texts[file]
    wrong = Output({**right.texts, file: right.texts[file].replace(old, new)})
    everything = [
        problem
        for check in (whole_references, whole_places, whole_names, whole_terraform, whole_metrics)
        for problem in check.problems(wrong)
    ]
    assert any(said in problem for problem in everything) if said else everything == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: spec["selector"]["matchLabels"].update({"app.kubernetes.io/name": "x"}), "its own pods"),
        (lambda spec: spec["template"]["spec"].update({"serviceAccountName": "x"}), "there is no ServiceAccount x"),
        (lambda spec: spec["template"]["spec"]["containers"][0].update({"volumeMounts": []}), "never mounted"),
        (lambda spec: spec["template"]["spec"].update({"priorityClassName": "x"}), "there is no PriorityClass x"),
    ],
)
def test_a_workload_that_names_what_is_not_there_is_seen(right: Output, change: Any, said: str) -> None:
    objects = [copy.deepcopy(each.data) for each in right.objects]
    chosen = next(
        each for each in objects if each["kind"] == "Deployment" and each["metadata"]["name"] == "model-general"
    )
    change(chosen["spec"])
    assert any(said in problem for problem in whole_references.problems(_with(right, objects)))
