"""What the controllers of the cluster's stand-in say and make: ready, stuck, or why not."""

from collections.abc import Iterator
from typing import Any

import pytest
from stand_in_client import DEPLOYMENTS, Client, deployment

from stoker.testing.kubernetes import ApiServer, api_server

Tree = dict[str, Any]
BASE = "/api/v1/namespaces/default"


@pytest.fixture(name="api")
def a_server() -> Iterator[ApiServer]:
    with api_server() as api:
        yield api


@pytest.fixture(name="client")
def a_client(api: ApiServer) -> Iterator[Client]:
    with Client(api) as client:
        yield client


def status(api: ApiServer, kind: str, name: str) -> Tree:
    found = api.get(kind, name)
    assert found is not None
    return dict(found["status"])


def conditions(api: ApiServer, kind: str, name: str) -> list[tuple[str, str, str]]:
    return [(each["type"], each["status"], each.get("reason", "")) for each in status(api, kind, name)["conditions"]]


def put(client: Client, group: str, plural: str, obj: Tree, *, namespaced: bool = True) -> None:
    inside = "/namespaces/default" if namespaced else ""
    root = f"/apis/{group}" if group != "v1" else "/api/v1"
    code, said = client.apply(f"{root}{inside}/{plural}/{obj['metadata']['name']}", {"apiVersion": group, **obj})
    assert code == 201, said


def test_a_deployment_is_ready_at_once_and_again_after_a_change(api: ApiServer, client: Client) -> None:
    client.apply(f"{DEPLOYMENTS}/web", deployment(replicas=2))
    first = status(api, "Deployment", "web")
    assert [first[key] for key in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")] == [2, 2, 2, 2]
    assert first["observedGeneration"] == 1

    client.apply(f"{DEPLOYMENTS}/web", deployment(replicas=3))

    second = status(api, "Deployment", "web")
    assert (second["readyReplicas"], second["observedGeneration"]) == (3, 2)
    assert second["conditions"] == first["conditions"]  # since when it is so, too


def test_what_is_stuck_becomes_ready_when_it_settles(api: ApiServer, client: Client) -> None:
    api.readiness = "stuck"
    client.apply(f"{DEPLOYMENTS}/web", deployment())
    assert conditions(api, "Deployment", "web") == [
        ("Available", "False", "MinimumReplicasUnavailable"),
        ("Progressing", "True", "ReplicaSetUpdated"),
    ]

    api.readiness = "ready"
    assert "readyReplicas" not in status(api, "Deployment", "web")
    api.settle()

    assert status(api, "Deployment", "web")["readyReplicas"] == 1


def test_a_reason_is_told_by_a_pod_that_the_workload_selects(api: ApiServer, client: Client) -> None:
    api.readiness = {("Deployment", "web"): "ImagePullBackOff"}
    client.apply(f"{DEPLOYMENTS}/web", deployment())
    client.apply(f"{DEPLOYMENTS}/other", deployment("other"))

    _, listed = client.ask("GET", f"{BASE}/pods", labelSelector="app=web")

    [pod] = listed["items"]
    assert pod["status"]["containerStatuses"][0]["state"] == {
        "waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "web:1"'}
    }
    [event] = api.objects("Event")
    assert (event["involvedObject"]["name"], event["reason"]) == (pod["metadata"]["name"], "BackOff")
    assert status(api, "Deployment", "other")["readyReplicas"] == 1

    api.readiness = "ready"
    api.settle()

    assert api.objects("Pod") == api.objects("Event") == []
    assert status(api, "Deployment", "web")["readyReplicas"] == 1


def test_a_pod_without_a_node_says_so(api: ApiServer, client: Client) -> None:
    api.readiness = lambda kind, name: "Unschedulable" if kind == "Deployment" else "ready"
    client.apply(f"{DEPLOYMENTS}/web", deployment())

    [pod] = api.objects("Pod")

    assert [each["reason"] for each in pod["status"]["conditions"]] == ["Unschedulable"]


def test_a_job_is_done_fails_or_waits(api: ApiServer, client: Client) -> None:
    api.readiness = {("Job", "bad"): "BackoffLimitExceeded", ("Job", "slow"): "stuck"}
    pod = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    for name, more in {"good": {}, "bad": {}, "slow": {}, "held": {"suspend": True}}.items():
        put(client, "batch/v1", "jobs", {"kind": "Job", "metadata": {"name": name}, "spec": {"template": pod, **more}})

    assert [each[0] for each in conditions(api, "Job", "good")] == ["SuccessCriteriaMet", "Complete"]
    assert conditions(api, "Job", "bad") == [("Failed", "True", "BackoffLimitExceeded")]
    assert status(api, "Job", "slow")["active"] == 1
    assert [each[0] for each in conditions(api, "Job", "held")] == ["Suspended"]


def test_an_external_secret_waits_for_its_store_and_makes_its_secret(api: ApiServer, client: Client) -> None:
    remote = {"secretKey": "password", "remoteRef": {"key": "k"}}
    spec = {"secretStoreRef": {"name": "aws"}, "target": {"name": "made"}, "data": [remote]}
    put(
        client,
        "external-secrets.io/v1",
        "externalsecrets",
        {"kind": "ExternalSecret", "metadata": {"name": "e"}, "spec": spec},
    )
    assert conditions(api, "ExternalSecret", "e") == [("Ready", "False", "SecretSyncedError")]
    assert api.get("Secret", "made") is None

    store = {"provider": {"aws": {"service": "SecretsManager", "region": "us-west-2"}}}
    put(
        client,
        "external-secrets.io/v1",
        "secretstores",
        {"kind": "SecretStore", "metadata": {"name": "aws"}, "spec": store},
    )

    assert conditions(api, "ExternalSecret", "e") == [("Ready", "True", "SecretSynced")]
    made = api.get("Secret", "made")
    assert made is not None
    assert list(made["data"]) == ["password"]

    client.ask("DELETE", "/apis/external-secrets.io/v1/namespaces/default/externalsecrets/e")

    assert api.get("Secret", "made") is None


def test_a_scaled_object_makes_an_autoscaler_once_its_target_is_there(api: ApiServer, client: Client) -> None:
    spec = {
        "scaleTargetRef": {"name": "web"},
        "maxReplicaCount": 4,
        "triggers": [{"type": "cpu", "metadata": {"value": "1"}}],
    }
    put(client, "keda.sh/v1alpha1", "scaledobjects", {"kind": "ScaledObject", "metadata": {"name": "s"}, "spec": spec})
    assert conditions(api, "ScaledObject", "s")[0] == ("Ready", "False", "ScaledObjectCheckFailed")

    client.apply(f"{DEPLOYMENTS}/web", deployment())

    assert conditions(api, "ScaledObject", "s")[0] == ("Ready", "True", "ScaledObjectReady")
    made = api.get("HorizontalPodAutoscaler", "keda-hpa-s")
    assert made is not None
    assert made["spec"]["maxReplicas"] == 4


def test_load_balancers_and_claims_get_what_they_ask_for(api: ApiServer, client: Client) -> None:
    put(
        client,
        "v1",
        "services",
        {"kind": "Service", "metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}},
    )
    put(
        client,
        "v1",
        "persistentvolumeclaims",
        {
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "c"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        },
    )

    assert status(api, "Service", "s") == {
        "loadBalancer": {"ingress": [{"hostname": "s-default.elb.stand-in.invalid"}]}
    }
    assert status(api, "PersistentVolumeClaim", "c") == {
        "phase": "Bound",
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
    }


def test_a_definition_that_is_not_established_is_not_served() -> None:
    names = {"kind": "Widget", "plural": "widgets"}
    definition = {
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org",
            "names": names,
            "scope": "Cluster",
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    }
    with api_server(installed=()) as api, Client(api) as client:
        api.readiness = "stuck"
        put(client, "apiextensions.k8s.io/v1", "customresourcedefinitions", definition, namespaced=False)
        assert client.ask("GET", "/apis/example.org/v1/widgets")[0] == 404

        api.readiness = "ready"
        api.settle()

        assert client.ask("GET", "/apis/example.org/v1/widgets")[0] == 200
