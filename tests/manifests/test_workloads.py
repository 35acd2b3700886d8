"""Story: whatever makes pods is seen alike, with the path of its pod spec and the number of its pods."""

import pytest

from stoker.manifests.objects import Manifest
from stoker.manifests.reading import read_text
from stoker.manifests.workloads import Workload, workloads_of
from stoker.spec.faults import Path


def one(text: str) -> Manifest:
    return read_text(text).manifests[0]


def seen(text: str) -> list[tuple[Path, Path, int | None, str]]:
    return [(each.path, each.meta, each.replicas, each.role) for each in workloads_of(one(text))]


def the_workload(text: str) -> Workload:
    (workload,) = workloads_of(one(text))
    return workload


TEMPLATE = ("spec", "template")


@pytest.mark.parametrize(
    ("text", "template", "replicas"),
    [
        ("kind: Deployment\nspec: {replicas: 3}", TEMPLATE, 3),
        ("kind: Deployment\nspec: {}", TEMPLATE, None),
        ("kind: StatefulSet\nspec: {replicas: '3'}", TEMPLATE, None),
        ("kind: StatefulSet\nspec: {replicas: true}", TEMPLATE, None),
        ("kind: DaemonSet", TEMPLATE, None),
        ("kind: ReplicaSet\nspec: {replicas: 0}", TEMPLATE, 0),
        ("kind: Rollout\nspec: {replicas: 2}", TEMPLATE, 2),
        ("kind: Job\nspec: {parallelism: 4, replicas: 9}", TEMPLATE, 4),
        ("kind: Job\nspec: {}", TEMPLATE, 1),
        (
            "kind: CronJob\nspec: {jobTemplate: {spec: {parallelism: 2}}}",
            ("spec", "jobTemplate", "spec", "template"),
            2,
        ),
        ("kind: ScaledJob\nspec: {maxReplicaCount: 5}", ("spec", "jobTargetRef", "template"), None),
    ],
)
def test_kinds_with_one_template(text: str, template: Path, replicas: int | None) -> None:
    assert seen(text) == [((*template, "spec"), (*template, "metadata"), replicas, "")]


def test_a_pod_is_its_own_template() -> None:
    text = "kind: Pod\nmetadata: {name: a, namespace: space, labels: {x: v, z: 1}, annotations: {b: c}}\nspec: {a: 1}"
    pod = the_workload(text)
    assert (pod.path, pod.meta, pod.replicas) == (("spec",), ("metadata",), 1)
    assert (pod.labels, pod.annotations, pod.namespace, pod.spec) == ({"x": "v"}, {"b": "c"}, "space", {"a": 1})
    assert (pod.kind, str(pod)) == ("Pod", "Pod space/a")


def test_replicas_of_a_training_job_are_workloads_with_a_role() -> None:
    text = "kind: PyTorchJob\nmetadata: {name: t}\nspec: {pytorchReplicaSpecs: {Master: {}, Worker: {replicas: 3}}}"
    base = ("spec", "pytorchReplicaSpecs")
    assert seen(text) == [
        ((*base, "Master", "template", "spec"), (*base, "Master", "template", "metadata"), 1, "Master"),
        ((*base, "Worker", "template", "spec"), (*base, "Worker", "template", "metadata"), 3, "Worker"),
    ]
    assert [str(each) for each in workloads_of(one(text))] == ["PyTorchJob t (Master)", "PyTorchJob t (Worker)"]
    mpi = "kind: MPIJob\nspec: {mpiReplicaSpecs: {Launcher: {replicas: 1}}, runPolicy: {}}"
    assert [each.role for each in workloads_of(one(mpi))] == ["Launcher"]


def test_a_job_set_multiplies_and_a_runtime_does_not_know() -> None:
    jobs = "replicatedJobs: [{name: w, replicas: 2, template: {spec: {parallelism: 4}}}, {replicas: 3}]"
    base, inner = ("spec", "replicatedJobs"), ("template", "spec", "template")
    assert seen(f"kind: JobSet\nspec: {{{jobs}}}") == [
        ((*base, 0, *inner, "spec"), (*base, 0, *inner, "metadata"), 8, "w"),
        ((*base, 1, *inner, "spec"), (*base, 1, *inner, "metadata"), 3, "1"),
    ]
    runtime = seen(f"kind: ClusterTrainingRuntime\nspec: {{template: {{spec: {{{jobs}}}}}}}")
    assert [(path[:4], replicas, role) for path, _, replicas, role in runtime] == [
        (("spec", "template", "spec", "replicatedJobs"), None, "w"),
        (("spec", "template", "spec", "replicatedJobs"), None, "1"),
    ]


@pytest.mark.parametrize(
    ("spec", "pods"),
    [
        ("{replicas: 2, leaderWorkerTemplate: {size: 4}}", [(8, "worker")]),
        ("{replicas: 2, leaderWorkerTemplate: {size: 4, leaderTemplate: {}}}", [(2, "leader"), (6, "worker")]),
        ("{leaderWorkerTemplate: {}}", [(1, "worker")]),
        ("{leaderWorkerTemplate: {size: yes, leaderTemplate: {}}}", [(1, "leader"), (None, "worker")]),
    ],
)
def test_leaders_and_workers_are_counted_apart(spec: str, pods: list[tuple[int | None, str]]) -> None:
    found = workloads_of(one(f"kind: LeaderWorkerSet\nspec: {spec}"))
    assert [(each.replicas, each.role) for each in found] == pods


def test_steps_of_argo_have_their_containers_beside_the_rest() -> None:
    text = (
        "kind: Workflow\nspec:\n  templates:\n  - {name: a, container: {image: i}, initContainers: [{image: first}]}\n"
        "  - {name: b, script: {image: s}}\n  - {name: c, dag: {}}\n"
        "  - {name: d, containerSet: {containers: [{image: x}, text, {image: z}]}}\n"
    )
    found = workloads_of(one(text))
    assert [each.role for each in found] == ["a", "b", "d"]
    base = ("spec", "templates")
    assert list(found[0].containers()) == [((*base, 0, "container"), {"image": "i"})]
    assert next(found[0].containers(init=True)) == ((*base, 0, "initContainers", 0), {"image": "first"})
    assert [path for path, _ in found[1].containers()] == [(*base, 1, "script")]
    assert [path[3:] for path, _ in found[2].containers()] == [
        ("containerSet", "containers", 0),
        ("containerSet", "containers", 2),
    ]
    cron = "kind: CronWorkflow\nspec: {workflowSpec: {templates: [{name: a, container: {}}]}}"
    assert the_workload(cron).path == ("spec", "workflowSpec", "templates", 0)


def test_containers_have_their_path_and_a_misspelt_key_is_none() -> None:
    text = "kind: Deployment\nspec: {template: {spec: {containers: [{name: a}, 3], initContainers: [{name: b}]}}}"
    workload = the_workload(text)
    base = ("spec", "template", "spec")
    assert list(workload.containers()) == [((*base, "containers", 0), {"name": "a"})]
    assert [path for path, _ in workload.containers(init=True)] == [
        (*base, "containers", 0),
        (*base, "initContainers", 0),
    ]
    wrong = the_workload("kind: Deployment\nspec: {template: {spec: {container: {name: a}}}}")
    assert list(wrong.containers(init=True)) == []


def test_a_job_of_volcano_has_tasks_and_a_rollout_may_borrow_its_pods() -> None:
    text = "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nspec: {tasks: [{name: w, replicas: 4}, 3]}"
    base = ("spec", "tasks", 0, "template")
    assert seen(text) == [((*base, "spec"), (*base, "metadata"), 4, "w")]
    assert seen("kind: Rollout\nspec: {workloadRef: {kind: Deployment}}") == []


def test_what_makes_no_pods_has_none_and_what_is_broken_does_no_harm() -> None:
    for text in ("kind: Service", "kind: NodePool\nspec: {template: {spec: {}}}", "apiVersion: v1", "kind: [Pod]"):
        assert seen(text) == []
    for kind in ("Deployment", "PyTorchJob", "Workflow", "JobSet", "LeaderWorkerSet", "CronJob", "TrainingRuntime"):
        for spec in ("3", "[1]", "{template: 3, replicas: []}", "{templates: 1, replicatedJobs: [1, [2]]}"):
            for workload in workloads_of(one(f"kind: {kind}\nspec: {spec}")):
                assert workload.spec == {}
                assert list(workload.containers(init=True)) == []
    assert the_workload("kind: Pod").namespace == "default"
