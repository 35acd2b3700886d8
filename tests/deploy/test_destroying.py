"""Removing a platform: what goes, in which order, what stays, and going on after an end in the middle."""

import copy
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deploy_stage import SMALL, Outage, Stage, staged

from stoker.base.errors import TimedOut, Unavailable
from stoker.deploy import inventory
from stoker.deploy.destroying import holds_data, plan_destroy
from stoker.kubernetes.cluster import key_of

Tree = dict[str, Any]
EVERY = int(os.environ.get("DEPLOY_EVERY", "40"))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with staged(tmp_path, monkeypatch) as found:
        yield found


def deleted(stage: Stage) -> list[str]:
    """Plurals and names, in the order in which they were asked to go."""
    return [
        "/".join(call.path.split("/")[-2:])
        for call in stage.server.calls
        if call.method == "DELETE" and not call.path.endswith("leases/stoker-deploy")
    ]


def test_nothing_of_it_is_left_and_what_is_not_ours_stays(stage: Stage) -> None:
    before = stage.stored()
    stage.deploy()
    stage.destroy()
    assert stage.stored() == before


def test_what_was_made_last_goes_first(stage: Stage) -> None:
    stage.deploy()
    stage.destroy()
    order = deleted(stage)
    names = ["scaledobjects/model-general", "deployments/model-general", "deployments/gateway", "nodepools/gpu"]
    names += ["serviceaccounts/gateway", "priorityclasses/stoker-serving", "namespaces/agentic-ai"]
    places = [order.index(name) for name in names]
    assert places == sorted(places)
    leases = [
        call.method for call in stage.server.calls if "/leases" in call.path and call.method in ("POST", "DELETE")
    ]
    assert leases == ["POST", "DELETE"] * 2  # nobody else works meanwhile
    assert order[-1] == "namespaces/agentic-ai"  # with the inventory, which is needed until then


def test_volumes_stay_unless_data_is_to_go(stage: Stage) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-redis-0", "namespace": "agentic-ai"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "8Gi"}}, "volumeName": "pv-1"},
    }
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "pv-1"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "8Gi"},
            "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-1"},
            "persistentVolumeReclaimPolicy": "Retain",
        },
    }
    stage.deploy()
    site = stage.site()
    cluster = stage.connect(site)
    cluster.create(volume)
    cluster.create(claim)
    (found,) = plan_destroy(site, cluster, delete_data=True).volumes
    assert (found.claim.name, found.disk) == ("data-redis-0", "vol-1")
    cluster.close()
    stage.while_it_sleeps = lambda: _end(stage, "pv-1")  # as the driver does, some time after its claim has gone
    stage.destroy(delete_data=True)
    assert stage.server.get("PersistentVolume", "pv-1") is None
    told = [call for call in stage.server.calls if call.method == "PATCH" and call.path.endswith("/pv-1")]
    assert told, "a volume whose class retains it is told to go with its claim"
    assert "persistentvolumeclaims/data-redis-0" in deleted(stage)


def _end(stage: Stage, volume: str) -> None:
    cluster = stage.connect(stage.site())
    cluster.delete(key_of({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}}))
    cluster.close()


def test_nodes_go_before_who_would_end_them(stage: Stage) -> None:
    stage.deploy()
    cluster = stage.connect(stage.site())
    node = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {"name": "gpu-1", "labels": {"karpenter.sh/nodepool": "gpu"}},
        "spec": {
            "nodeClassRef": {"group": "eks.amazonaws.com", "kind": "NodeClass", "name": "gpu"},
            "requirements": [{"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]}],
        },
    }
    cluster.create(node)
    theirs = copy.deepcopy(node)
    theirs["metadata"] = {"name": "theirs-1", "labels": {"karpenter.sh/nodepool": "theirs"}}
    cluster.create(theirs)
    with pytest.raises(TimedOut, match="NodeClaim gpu-1"):
        stage.destroy()
    assert stage.server.get("Namespace", "agentic-ai") is not None
    cluster.delete(key_of(node))
    cluster.close()
    stage.destroy()
    assert stage.server.get("Namespace", "agentic-ai") is None


@pytest.mark.parametrize("ended_after", [None, 0, 1, 2, 3])
def test_a_namespace_that_was_there_before_stays(stage: Stage, ended_after: int | None) -> None:
    """Also where the first deploy ended at one of its first calls."""
    cluster = stage.connect(stage.site())
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "agentic-ai"}})
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "namespace": "agentic-ai"}})
    cluster.close()
    if ended_after is not None:
        outage = Outage(stage.server.counted + 1 + ended_after)
        stage.server.fail(outage.begins, "refuse")
        stage.server.fail(outage.lasts, "refuse", times=10_000)
        with pytest.raises(Unavailable):
            stage.deploy()
        outage.is_over = True
    stage.deploy()
    stage.destroy()
    assert stage.server.get("ConfigMap", "mine", "agentic-ai") is not None
    assert stage.server.get("ConfigMap", "stoker-deploy", "agentic-ai") is None
    assert stage.server.get("Deployment", "gateway", "agentic-ai") is None


@pytest.mark.parametrize("how", ["refuse", "lose"])
def test_ended_at_any_call_it_goes_on(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with staged(tmp_path, monkeypatch) as whole:
        expected = whole.stored()
        whole.deploy()
        first = whole.server.counted
        whole.destroy()
        last = whole.server.counted
    for number in range(first + 1, last + 1, EVERY):
        with staged(tmp_path, monkeypatch) as stage:
            stage.deploy()
            outage = Outage(number)
            stage.server.fail(outage.begins, how)  # type: ignore[arg-type]
            stage.server.fail(outage.lasts, "refuse", times=10_000)
            try:
                stage.destroy()
            except Unavailable:
                outage.is_over = True
                stage.destroy()
            assert stage.stored() == expected, f"ended at call {number}"


def test_what_does_not_say_that_it_is_ours_is_never_removed(stage: Stage) -> None:
    """Somebody took an object over, and somebody else wrote one into the inventory."""
    stage.deploy()
    mine = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "namespace": "default"}, "data": {}}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    cluster = stage.connect(stage.site())
    if cluster.get(key_of(space)) is None:
        cluster.create(space)
    cluster.create(mine)
    there = inventory.read(cluster, "agentic-ai", stage.site().owner)
    inventory.write(cluster, "agentic-ai", stage.site().owner, replace(there, keys=(*there.keys, key_of(mine))))
    assert not stage.plan().of("remove")
    stage.deploy()
    assert stage.server.get("ConfigMap", "mine", "default") is not None
    inventory.write(cluster, "agentic-ai", stage.site().owner, replace(there, keys=(*there.keys, key_of(mine))))
    cluster.close()
    stage.destroy()
    assert stage.server.get("ConfigMap", "mine", "default") is not None


def test_without_its_inventory_a_platform_is_found_by_its_file(stage: Stage) -> None:
    before = stage.stored()
    stage.deploy()
    cluster = stage.connect(stage.site())
    inventory.remove(cluster, "agentic-ai")
    cluster.close()
    stage.destroy()
    assert stage.stored() == before


def test_a_second_time_there_is_nothing_to_do(stage: Stage) -> None:
    stage.deploy()
    stage.destroy()
    site = stage.site(SMALL)
    cluster = stage.connect(site)
    assert plan_destroy(site, cluster, delete_data=False).changes_nothing
    cluster.close()
    calls = stage.server.counted
    stage.destroy()
    assert stage.server.counted == calls


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("aws_s3_bucket.models", True),
        ('aws_s3_bucket_policy.buckets["models"]', True),
        ("aws_ecr_repository.gateway", True),
        ("aws_vpc.this", False),
        ("aws_eks_cluster.this", False),
        ("aws_db_instance.ledger", False),
    ],
)
def test_what_holds_data(address: str, expected: bool) -> None:
    assert holds_data(address) is expected
