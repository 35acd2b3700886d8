"""StatefulSets in a run: one after the other, with their numbers, where their volumes are. And EKS Auto Mode."""

from typing import Any

import numpy as np
import pytest
from worlds import Object, model, pool, run, said, scaler, scenario, trace

from stoker.simulate.capacity import Capacity
from stoker.simulate.result import Result


def stateful(replicas: int, *, claims: bool = True, policy: str = "OrderedReady", storage: str = "") -> Object:
    found = model(replicas=replicas)
    found["kind"] = "StatefulSet"
    found["spec"]["podManagementPolicy"] = policy
    if claims:
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "50Gi"}}}
        template: Object = {
            "metadata": {"name": "cache"},
            "spec": claim | ({"storageClassName": storage} if storage else {}),
        }
        found["spec"]["volumeClaimTemplates"] = [template]
    return found


def efs() -> Object:
    return {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "shared"},
            "provisioner": "efs.csi.aws.com"}  # fmt: skip


def made_at(result: Result) -> list[float]:
    return [each.created_at for each in result.replicas]


def test_the_next_pod_is_made_when_the_one_before_it_is_ready() -> None:
    ordered = run(pool(), stateful(3), hours=0.6, cold=True)
    first, second, third = ordered.replicas
    assert (second.created_at, third.created_at) == (first.ready_at, second.ready_at)
    assert "the one before it is ready" in said(ordered, "pod", "general-2")[0][1]
    at_once = run(pool(), stateful(3, policy="Parallel"), hours=0.6, cold=True)
    assert made_at(at_once) == [0.0, 0.0, 0.0]


def test_a_pod_comes_back_with_its_number_when_the_old_one_is_gone_and_where_its_volume_is() -> None:
    result = run(pool(expireAfter="45m"), stateful(1), hours=1, warm_up_s=600.0)
    old, new = result.replicas
    assert new.created_at == old.gone_at
    assert said(result, "pod", "general-2")[0][1].endswith("in place of general-1")
    zones = {each.name: each.zone for each in result.nodes}
    assert zones[old.node or ""] == zones[new.node or ""]


def test_a_zone_without_capacity_is_waited_for_by_who_has_a_volume_there_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From 0 on the zone of the first node has nothing: a pod with a volume there waits, any other goes elsewhere."""
    story: list[Object] = [pool(expireAfter="45m")]
    asked: dict[str, Any] = {"hours": 1, "warm_up_s": 600.0}
    home = run(*story, stateful(1), **asked).nodes[0].zone
    (other,) = {"us-east-1a", "us-east-1b"} - {home}
    whole = Capacity.at

    def but_one(self: Capacity, now: float, offerings: Any) -> Any:
        return {key: there and (now < 0 or key[1] != home) for key, there in whole(self, now, offerings).items()}

    monkeypatch.setattr(Capacity, "at", but_one)
    bound = run(*story, stateful(1), **asked)
    assert [each.zone for each in bound.nodes] == [home]
    assert bound.replicas[-1].bound_at is None
    for free in (stateful(1, claims=False), stateful(1, storage="shared")):
        moved = run(*story, efs(), free, **asked)
        assert [each.zone for each in moved.nodes] == [home, other]


def test_the_last_number_leaves_first() -> None:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 60}}
    result = run(
        pool(),
        stateful(1, policy="Parallel"),
        scaler(
            minReplicaCount=1,
            maxReplicaCount=3,
            scaleTargetRef={"kind": "StatefulSet", "name": "general"},
            advanced={"horizontalPodAutoscalerConfig": {"behavior": behavior}},
        ),
        requests=trace(*np.arange(240) * 0.1, answer=1000),
        timeout_s=3600,
        hours=1,
    )
    left = sorted((each for each in result.replicas if each.leaving_at is not None), key=lambda each: each.name)
    assert [each.name for each in left] == ["general-2", "general-3"]
    assert result.replicas[0].leaving_at is None


def test_auto_mode_costs_more_and_ends_nodes_after_three_weeks() -> None:
    auto = pool(expireAfter="Never")
    auto["spec"]["template"]["spec"]["nodeClassRef"] = {
        "group": "eks.amazonaws.com",
        "kind": "NodeClass",
        "name": "default",
    }
    told = scenario(auto, model(replicas=1))
    assert [each.view.name for each in told.pools] == ["gpu", "general-purpose", "system"]
    assert told.pools[0].disruption.expire_after_s == 21 * 86400
    assert "NodePool gpu: EKS ends nodes of Auto Mode after 21 days, whatever its expireAfter says" in told.notes
    result = run(auto, model(replicas=1), hours=1)
    instances, surcharge = (result.costs.by_part[part] for part in ("instances", "auto mode"))
    assert surcharge == pytest.approx(instances * 0.12 * 0.65, abs=1)
    assert result.costs.total == sum(result.costs.by_part.values())
