"""Namespaces, priorities, the class of volumes, and secrets."""

import pytest
from rendered import objects_of

from stoker.render import base
from stoker.spec import Mode

ENFORCE = "pod-security.kubernetes.io/enforce"


def namespaces(text: str = "") -> dict[str, str]:
    found = objects_of(base.render, text)
    return {name: each["metadata"]["labels"][ENFORCE] for (kind, name), each in found.items() if kind == "Namespace"}


def test_namespaces_of_what_is_there_as_strict_as_their_pods_allow() -> None:
    assert namespaces() == {"agentic-ai": "restricted", "agentic-ai-monitoring": "privileged"}
    assert namespaces("global: {cluster: {namespace: ai}}\ntraining: {enabled: true}") == {
        "ai": "restricted",
        "ai-training": "baseline",
        "ai-monitoring": "privileged",
    }
    assert namespaces("global: {observability: {enabled: false}}") == {"agentic-ai": "restricted"}


def test_what_a_lax_namespace_lets_through_is_warned_of() -> None:
    labels = objects_of(base.render, "training: {enabled: true}")["Namespace", "agentic-ai-training"]["metadata"][
        "labels"
    ]
    assert labels["pod-security.kubernetes.io/warn"] == "restricted"


def test_training_gives_way_to_models_and_models_to_the_platform() -> None:
    found = objects_of(base.render, "training: {enabled: true}")
    values = {name: each["value"] for (kind, name), each in found.items() if kind == "PriorityClass"}
    assert sorted(values, key=values.__getitem__) == ["stoker-training", "stoker-serving", "stoker-platform"]
    assert max(values.values()) < 1_000_000_000
    assert ("PriorityClass", "stoker-training") not in objects_of(base.render)


@pytest.mark.parametrize(
    ("mode", "driver"),
    [
        ("karpenter", "ebs.csi.aws.com"),
        ("auto", "ebs.csi.eks.amazonaws.com"),
        ("hybrid", "ebs.csi.eks.amazonaws.com"),
    ],
)
def test_volumes_are_made_by_the_driver_of_the_nodes_that_mount_them(mode: Mode, driver: str) -> None:
    found = objects_of(base.render, mode=mode)["StorageClass", "stoker-gp3"]
    assert found["provisioner"] == driver
    assert found["parameters"] == {"type": "gp3", "encrypted": "true"}
    assert (found["reclaimPolicy"], found["volumeBindingMode"]) == ("Retain", "WaitForFirstConsumer")


def test_no_class_of_volumes_where_nothing_has_one() -> None:
    text = "redis: {url: 'redis://redis.example.com'}\nledger: {url: 'postgresql://me@db.example.com/x'}"
    assert ("StorageClass", "stoker-gp3") not in objects_of(base.render, text)


def secrets(text: str = "") -> dict[str, list[tuple[str, str]]]:
    found = objects_of(base.render, text)
    return {
        name: [(each["remoteRef"]["key"], each["remoteRef"]["property"]) for each in secret["spec"]["data"]]
        for (kind, name), secret in found.items()
        if kind == "ExternalSecret"
    }


def test_secrets_are_copied_from_secrets_manager_by_the_clusters_name() -> None:
    assert secrets("global: {cluster: {name: Atelier}}") == {
        "redis": [("Atelier/redis", "password")],
        "ledger": [("Atelier/ledger", "password")],
        "engine": [("Atelier/engine", "key")],
        "admin": [("Atelier/admin", "key")],
    }


def test_secrets_are_only_those_that_somebody_reads() -> None:
    text = "redis: {url: 'redis://redis.example.com'}\nledger: {url: 'postgresql://me@db.example.com/x'}"
    assert list(secrets(text)) == ["engine", "admin"]
    text = (
        "redis: {url: 'redis://redis.example.com', passwordEnv: R}\n"
        "ledger: {url: 'postgresql://me@db.example.com/x', passwordEnv: L}"
    )
    assert list(secrets(text)) == ["redis", "ledger", "engine", "admin"]


def test_elasticache_says_its_address_through_its_secret() -> None:
    found = secrets("redis: {elasticache: {enabled: true}}")["redis"]
    assert [key for _, key in found] == ["password", "url", "address"]


def test_a_server_elsewhere_has_a_secret_when_it_asks_for_a_key() -> None:
    text = """\
llm:
  models:
    general: {}
    far: {engine: {url: "https://api.example.com/v1", apiKeyEnv: FAR_KEY}}
    open: {engine: {url: "https://open.example.com/v1"}}
"""
    found = secrets(text)
    assert found["engine-far"] == [("agentic-ai-cluster/engine-far", "key")]
    assert "engine-open" not in found


def test_callbacks_of_tenants_are_signed_from_one_secret() -> None:
    text = """\
tenants:
  b: {callbackHosts: [hooks.example.com], callbackSecretEnv: B_SECRET}
  a: {callbackHosts: [hooks.example.com], callbackSecretEnv: A_SECRET}
  c: {callbackHosts: [hooks.example.com], callbackSecretEnv: A_SECRET}
"""
    remote = "agentic-ai-cluster/callbacks"
    assert secrets(text)["callbacks"] == [(remote, "A_SECRET"), (remote, "B_SECRET")]
    assert "callbacks" not in secrets("tenants: {a: {}}")


def test_the_store_names_a_region_and_no_key() -> None:
    store = objects_of(base.render, "global: {cluster: {region: eu-west-1}}")["SecretStore", "aws-secrets-manager"]
    assert store["spec"]["provider"] == {"aws": {"service": "SecretsManager", "region": "eu-west-1"}}
