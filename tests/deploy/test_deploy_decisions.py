"""Waves, readiness, differences and reasons: what `deploy` decides by looking at objects alone."""

from typing import Any

import pytest

from stoker.deploy import reasons
from stoker.deploy.differences import ABSENT, Difference, differences
from stoker.deploy.readiness import READY, Readiness, readiness
from stoker.deploy.waves import Wave, backwards, steps, wave_of
from stoker.render.plan import Plan
from stoker.render.run import render_objects
from stoker.spec import loads

Tree = dict[str, Any]


def named(kind: str, name: str = "a", component: str = "", **rest: Any) -> Tree:
    meta: Tree = {"name": name, "namespace": "ns"}
    if component:
        meta["labels"] = {"app.kubernetes.io/component": component}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, **rest}


def order(objects: list[Tree]) -> list[str]:
    return [f"{obj['kind']} {obj['metadata']['name']}" for step in steps(objects) for obj in step.objects]


class TestWaves:
    def test_what_others_need_goes_first_and_scalers_last(self) -> None:
        objects = [
            named("ScaledObject", "general", "scaling"),
            named("Deployment", "model-general", "models"),
            named("Service", "model-general", "models"),
            named("Deployment", "gateway", "gateway"),
            named("ConfigMap", "platform", "gateway"),
            named("NodePool", "gpu", "nodes"),
            named("EC2NodeClass", "gpu", "nodes"),
            named("ServiceAccount", "gateway", "gateway"),
            named("PriorityClass", "stoker", "base"),
            named("Namespace", "agentic-ai", "base"),
        ]
        assert order(objects) == [
            "Namespace agentic-ai",
            "PriorityClass stoker",
            "ServiceAccount gateway",
            "EC2NodeClass gpu",
            "NodePool gpu",
            "ConfigMap platform",
            "Deployment gateway",
            "Service model-general",
            "Deployment model-general",
            "ScaledObject general",
        ]

    def test_a_scaler_comes_after_what_it_scales_whatever_its_kind_is_called(self) -> None:
        objects = [named("HorizontalPodAutoscaler", "a", "models"), named("StatefulSet", "a", "models")]
        assert order(objects) == ["StatefulSet a", "HorizontalPodAutoscaler a"]

    def test_the_order_is_that_of_the_objects_and_not_of_the_file(self) -> None:
        objects = render_objects(Plan(loads(""), "karpenter", "terraform"))
        assert order(objects) == order(list(reversed(objects)))

    def test_backwards_is_the_same_turned_round(self) -> None:
        objects = render_objects(Plan(loads(""), "karpenter", "terraform"))
        forth = [each["metadata"]["name"] for step in steps(objects) for each in step.objects]
        back = [each["metadata"]["name"] for step in backwards(objects) for each in step.objects]
        assert back == forth[::-1]

    def test_no_wave_of_a_platform_is_empty_and_each_object_is_in_one(self) -> None:
        objects = render_objects(Plan(loads(""), "karpenter", "terraform"))
        sizes = [len(step.objects) for step in steps(objects)]
        assert sum(sizes) == len(objects)
        assert all(sizes)

    def test_a_model_is_a_workload_and_redis_is_the_platform(self) -> None:
        assert wave_of(named("Deployment", "m", "models")) is Wave.WORKLOADS
        assert wave_of(named("StatefulSet", "redis-master", "redis")) is Wave.PLATFORM


def workload(kind: str, spec: Tree, status: Tree, generation: int = 2) -> Tree:
    return {"kind": kind, "metadata": {"name": "a", "generation": generation}, "spec": spec, "status": status}


SEEN = {"observedGeneration": 2}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (
            workload("Deployment", {"replicas": 2}, {"observedGeneration": 1, "availableReplicas": 2}),
            Readiness(False, "its controller has not seen the change yet"),
        ),
        (
            workload("Deployment", {"replicas": 2}, {**SEEN, "updatedReplicas": 1, "replicas": 2}),
            Readiness(False, "1 of 2 pods are of the new version"),
        ),
        (
            workload("Deployment", {"replicas": 2}, {**SEEN, "updatedReplicas": 2, "replicas": 3}),
            Readiness(False, "1 pods of the old version are left"),
        ),
        (
            workload(
                "Deployment", {"replicas": 2}, {**SEEN, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 1}
            ),
            Readiness(False, "1 of 2 pods are available"),
        ),
        (
            workload(
                "Deployment", {"replicas": 2}, {**SEEN, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2}
            ),
            READY,
        ),
        (workload("Deployment", {"replicas": 0}, SEEN), READY),
        (
            workload(
                "Deployment",
                {},
                {
                    **SEEN,
                    "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}],
                },
            ),
            Readiness(False, "ProgressDeadlineExceeded", failed=True),
        ),
        (
            workload("StatefulSet", {"replicas": 1}, {**SEEN, "readyReplicas": 0}),
            Readiness(False, "0 of 1 pods are ready"),
        ),
        (
            workload(
                "StatefulSet",
                {"replicas": 2},
                {**SEEN, "readyReplicas": 2, "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b"},
            ),
            Readiness(False, "1 of 2 pods are of the new version"),
        ),
        (workload("DaemonSet", {}, {}), Readiness(False, "its controller has said nothing yet")),
        (
            workload(
                "DaemonSet", {}, {**SEEN, "desiredNumberScheduled": 3, "numberReady": 3, "updatedNumberScheduled": 2}
            ),
            Readiness(False, "2 of 3 pods are ready"),
        ),
        (workload("DaemonSet", {}, {**SEEN, "desiredNumberScheduled": 0}), READY),
        (workload("Job", {}, {"active": 1}), Readiness(False, "it runs")),
        (workload("Job", {"suspend": True}, {}), READY),
        (
            workload(
                "Job", {}, {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
            ),
            Readiness(False, "BackoffLimitExceeded", failed=True),
        ),
        (workload("ExternalSecret", {}, {}), Readiness(False, "its controller has said nothing yet")),
        (
            workload(
                "ExternalSecret",
                {},
                {
                    "conditions": [
                        {"type": "Ready", "status": "False", "reason": "SecretSyncedError", "message": "no value"}
                    ]
                },
            ),
            Readiness(False, "SecretSyncedError: no value"),
        ),
        (workload("NodePool", {}, {"conditions": [{"type": "Ready", "status": "True"}]}), READY),
        (workload("Namespace", {}, {"phase": "Terminating"}), Readiness(False, "it is Terminating")),
        (workload("Ingress", {}, {"loadBalancer": {}}), Readiness(False, "its load balancer has no address yet")),
        (workload("Service", {"type": "ClusterIP"}, {"loadBalancer": {}}), READY),
        (workload("Rollout", {}, {"phase": "Degraded", "message": "no"}), Readiness(False, "no", failed=True)),
        (workload("ConfigMap", {}, {}), READY),
    ],
)
def test_readiness(obj: Tree, expected: Readiness) -> None:
    assert readiness(obj) == expected


class TestDifferences:
    def test_of_what_the_server_writes_nothing_differs(self) -> None:
        before = named("ConfigMap") | {"status": {"a": 1}}
        after = {**before, "status": {"a": 2}, "metadata": {**before["metadata"], "resourceVersion": "7", "uid": "u"}}
        assert differences(before, after) == []

    def test_containers_are_told_apart_by_name_and_not_by_place(self) -> None:
        def pod(*containers: Tree) -> Tree:
            return named("Pod", spec={"containers": list(containers)})

        before = pod({"name": "engine", "image": "e:1"}, {"name": "worker", "image": "w:1"})
        after = pod({"name": "worker", "image": "w:2"}, {"name": "engine", "image": "e:1"})
        assert differences(before, after) == [Difference("spec.containers[worker].image", "w:1", "w:2")]

    def test_what_is_new_and_what_is_gone(self) -> None:
        before, after = named("ConfigMap", data={"a": "1"}), named("ConfigMap", data={"b": "2"})
        found = differences(before, after)
        assert found == [Difference("data.a", "1", ABSENT), Difference("data.b", ABSENT, "2")]
        assert [str(each) for each in found] == ["data.a: '1' -> nothing", "data.b: nothing -> '2'"]

    def test_lists_of_words_differ_as_a_whole(self) -> None:
        found = differences(named("Pod", spec={"args": ["a"]}), named("Pod", spec={"args": ["a", "b"]}))
        assert found == [Difference("spec.args", ["a"], ["a", "b"])]


class TestReasons:
    def pod(self, **status: Any) -> Tree:
        return {"kind": "Pod", "metadata": {"name": "p"}, "status": status}

    def test_no_node(self) -> None:
        said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
        assert reasons.of_pods([self.pod(conditions=[said])] * 2) == "no node: 0/3 nodes (2 pods)"

    def test_an_image_that_is_not_there(self) -> None:
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag\nsecond line"}}
        pod = self.pod(containerStatuses=[{"name": "gateway", "state": waiting}])
        assert reasons.of_pods([pod]) == "gateway: ImagePullBackOff: no such tag"

    def test_a_crash_says_how_it_ended(self) -> None:
        state = {"waiting": {"reason": "CrashLoopBackOff"}}
        last = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
        pod = self.pod(containerStatuses=[{"name": "engine", "state": state, "lastState": last}])
        assert reasons.of_pods([pod]) == "engine: CrashLoopBackOff, after exit code 137 (OOMKilled)"

    def test_a_pod_that_only_starts_says_nothing(self) -> None:
        state = {"waiting": {"reason": "ContainerCreating"}}
        assert reasons.of_pods([self.pod(containerStatuses=[{"name": "engine", "state": state}])]) == ""
