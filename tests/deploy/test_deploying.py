"""Deploying to a cluster: what is there afterwards, whatever went wrong in between."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploy_stage import INVENTORY, SMALL, Outage, Stage, staged

from stoker.base.errors import Conflict, InvalidInput, NotPermitted, StokerError, TimedOut, Unavailable
from stoker.deploy import applying
from stoker.deploy.planning import plan_object
from stoker.deploy.waiting import NotReady, until_ready
from stoker.kubernetes.cluster import FieldConflict, key_of

Tree = dict[str, Any]
EVERY = int(os.environ.get("DEPLOY_EVERY", "30"))
"""Each so manyth call is made to fail. `make test-deploy` takes each."""


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with staged(tmp_path, monkeypatch) as found:
        yield found


def actions(plan: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in plan.objects:
        found[each.action] = found.get(each.action, 0) + 1
    return found


class TestFromNothing:
    def test_all_that_the_file_asks_for_is_there_and_in_the_inventory(self, stage: Stage) -> None:
        wanted = {key_of(obj).identity[1:] for obj in stage.site().objects}
        stage.deploy()
        assert wanted | {INVENTORY} <= set(stage.stored())
        listed = json.loads(stage.stored()[INVENTORY]["data"]["objects"])
        assert {(kind, space, name) for _, kind, space, name in listed} == wanted
        assert stage.server.get("Lease", "stoker-deploy", "agentic-ai") is None

    def test_the_plan_says_so_before_and_changes_nothing(self, stage: Stage) -> None:
        before = stage.server.objects()
        assert actions(stage.plan()) == {"create": len(stage.site().objects)}
        assert stage.server.objects() == before
        assert stage.server.counted == 0

    def test_a_second_time_changes_nothing(self, stage: Stage) -> None:
        stage.deploy()
        versions = {
            str(obj["metadata"].get("uid")): obj["metadata"]["resourceVersion"] for obj in stage.server.objects()
        }
        assert stage.plan().changes_nothing
        stage.deploy()
        after = {str(obj["metadata"].get("uid")): obj["metadata"]["resourceVersion"] for obj in stage.server.objects()}
        assert after == versions

    def test_waves_are_waited_for_one_after_the_other(self, stage: Stage) -> None:
        stage.server.readiness = {("Deployment", "gateway"): "ImagePullBackOff"}
        with pytest.raises(TimedOut) as caught:
            stage.deploy()
        assert "Deployment agentic-ai/gateway: 0 of" in caught.value.message
        assert "ImagePullBackOff" in caught.value.message
        assert stage.server.get("Deployment", "model-general", "agentic-ai") is None
        assert stage.server.get("Lease", "stoker-deploy", "agentic-ai") is None
        stage.server.readiness = "ready"
        stage.server.settle()
        stage.deploy()
        assert stage.server.get("Deployment", "model-general", "agentic-ai") is not None


class TestAnotherTime:
    def test_what_the_file_no_longer_asks_for_goes_and_what_is_not_ours_stays(self, stage: Stage) -> None:
        more = SMALL.replace("    general: {", "    code: {weights: s3://weights/code}\n    general: {")
        stage.deploy(more)
        assert stage.server.get("Deployment", "model-code", "agentic-ai") is not None
        cluster = stage.connect(stage.site())
        cluster.create(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "namespace": "agentic-ai"}}
        )
        cluster.close()
        removed = {each.key.kind for each in stage.plan().of("remove")}
        assert "Deployment" in removed
        stage.deploy()
        assert stage.server.get("Deployment", "model-code", "agentic-ai") is None
        assert stage.server.get("ConfigMap", "mine", "agentic-ai") is not None
        assert stage.plan().changes_nothing

    def test_what_somebody_else_changed_is_told_and_not_taken(self, stage: Stage) -> None:
        stage.deploy()

        def change(obj: Tree) -> None:
            obj["spec"]["template"]["spec"]["containers"][0]["image"] = "somewhere/else:1"

        stage.server.edit("Deployment", "gateway", "agentic-ai", change)
        (held,) = stage.plan().of("conflict")
        assert str(held.key) == "Deployment agentic-ai/gateway"
        assert [manager for manager, _ in held.held] == ["kubectl-edit"]
        (difference,) = held.differences
        assert difference.path == "spec.template.spec.containers[gateway].image"
        assert difference.before == "somewhere/else:1"
        with pytest.raises(FieldConflict, match="kubectl-edit"):
            stage.deploy()
        stage.deploy(force=True)
        assert stage.plan().changes_nothing

    def test_what_the_schemas_refuse_is_told_by_the_plan(self, stage: Stage) -> None:
        site = stage.site()
        broken = next(obj for obj in site.objects if obj["kind"] == "Deployment")
        broken["spec"]["template"]["spec"]["containers"][0]["imagePulPolicy"] = "Always"
        cluster = stage.connect(site)
        cluster.apply(next(obj for obj in site.objects if obj["kind"] == "Namespace"))
        found = plan_object(cluster, broken)
        cluster.close()
        assert found.action == "refused"
        assert "imagePulPolicy" in found.why

    def test_a_job_whose_template_changed_is_made_anew_once_it_is_gone(self, stage: Stage) -> None:
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "once", "namespace": "agentic-ai"},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a:1"}]}}},
        }
        stage.deploy()
        site = stage.site()
        cluster = stage.connect(site)
        applying.apply(cluster, job, stage.patience(site), stage.said.append)
        job["spec"]["template"]["spec"]["containers"][0]["image"] = "a:2"  # type: ignore[index]
        assert plan_object(cluster, job).action == "replace"
        applying.apply(cluster, job, stage.patience(site), stage.said.append)
        there = cluster.get(key_of(job))
        cluster.close()
        assert there is not None
        assert there["spec"]["template"]["spec"]["containers"][0]["image"] == "a:2"
        (told,) = [call for call in stage.server.calls if call.method == "DELETE" and call.path.endswith("jobs/once")]
        asked = [call.method for call in stage.server.calls[told.number :] if call.path.endswith("jobs/once")]
        assert asked[:2] == ["GET", "PATCH"]  # it is waited for before it is made again


class TestTheDoorToTheCluster:
    def test_lists_are_read_to_their_end(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        stage.deploy()
        monkeypatch.setattr("stoker.kubernetes.cluster._PAGE", 3)
        cluster = stage.connect(stage.site())
        found = [each["metadata"]["name"] for each in cluster.list("v1", "Service", namespace="agentic-ai")]
        cluster.close()
        assert sorted(found) == sorted(obj["metadata"]["name"] for obj in stage.server.objects("Service", "agentic-ai"))
        assert len(found) > 3

    @pytest.mark.parametrize("text", ["", "{{{", "[]", "\x00\x01", "apiVersion: v1\nclusters: []\ncontexts: []\n"])
    def test_a_kubeconfig_that_is_none(self, stage: Stage, text: str) -> None:
        (stage.folder / "kubeconfig").write_text(text)
        with pytest.raises(InvalidInput, match="kubeconfig"):
            stage.site().connect()


class TestWhatItRefuses:
    def test_a_cluster_that_holds_another_platform(self, stage: Stage) -> None:
        stage.deploy()
        before = stage.stored()
        with pytest.raises(
            NotPermitted, match="holds the platform small of no account in us-west-2, and the file names other"
        ):
            stage.deploy(SMALL.replace("name: small", "name: other"))
        with pytest.raises(NotPermitted, match="holds the platform small"):
            stage.destroy(SMALL.replace("name: small", "name: other"))
        assert stage.stored() == before

    def test_a_context_that_the_kubeconfig_does_not_have(self, stage: Stage) -> None:
        with pytest.raises(StokerError, match=r'has no context "production", which deploy\.context names') as caught:
            stage.deploy(SMALL.replace("context: stand-in", "context: production"))
        assert caught.value.hint == "it has: stand-in"

    def test_two_at_once(self, stage: Stage) -> None:
        stage.deploy()
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "stoker-deploy", "namespace": "agentic-ai"},
            "spec": {"holderIdentity": "somebody/1", "leaseDurationSeconds": 30},
        }
        cluster = stage.connect(stage.site())
        cluster.create(lease)
        stage.while_it_sleeps = lambda: cluster.merge(key_of(lease), {"spec": {"leaseTransitions": int(stage.slept)}})
        with pytest.raises(Conflict, match="somebody/1 deploys this platform"):
            stage.deploy()
        stage.while_it_sleeps = lambda: None  # it was killed: nobody renews its lease any more
        before = stage.slept
        stage.deploy()
        assert stage.slept - before == 30.0
        cluster.close()


class TestFaults:
    def test_one_failure_of_any_kind_is_not_noticed(self, stage: Stage) -> None:
        for number, how in enumerate(["refuse", "lose", 500, 503, 429], start=2):
            stage.server.fail(number * 3, how)  # type: ignore[arg-type]
        stage.deploy()
        assert stage.plan().changes_nothing

    @pytest.mark.parametrize("how", ["refuse", "lose"])
    def test_ended_at_any_call_it_goes_on_and_comes_to_the_same(
        self, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From a platform of one model to one of another, so that objects are made, changed and removed."""
        after = SMALL.replace("general: {weights: s3://weights/general}", "other: {weights: s3://weights/other}")
        with staged(tmp_path, monkeypatch) as whole:
            whole.deploy()
            first = whole.server.counted
            whole.deploy(after)
            last, expected = whole.server.counted, whole.stored()
        for number in range(first + 1, last + 1, EVERY):
            with staged(tmp_path, monkeypatch) as stage:
                stage.deploy()
                outage = Outage(number)
                stage.server.fail(outage.begins, how)  # type: ignore[arg-type]
                stage.server.fail(outage.lasts, "refuse", times=10_000)
                with contextlib.suppress(Unavailable):  # the last call lets the lease go, and may fail
                    stage.deploy(after)
                assert outage.has_begun
                outage.is_over = True
                stage.deploy(after)
                assert stage.stored() == expected, f"ended at call {number}"

    def test_what_failed_for_good_is_not_waited_for(self, stage: Stage) -> None:
        stage.deploy()
        gateway = stage.server.get("Deployment", "gateway", "agentic-ai")
        assert gateway is not None
        progress = {
            "type": "Progressing",
            "status": "False",
            "reason": "ProgressDeadlineExceeded",
            "message": "gave up",
        }
        gateway["status"]["conditions"] = [progress]
        cluster = stage.connect(stage.site())
        cluster.get = lambda _: gateway  # type: ignore[method-assign]
        before = stage.slept
        with pytest.raises(NotReady, match="Deployment agentic-ai/gateway: ProgressDeadlineExceeded: gave up"):
            until_ready(cluster, [key_of(gateway)], stage.patience(stage.site()), stage.said.append)
        cluster.close()
        assert stage.slept == before
