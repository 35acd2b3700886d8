"""The cluster's stand-in and the official Python client of Kubernetes, which is none of ours."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_client import deployment

from stoker.testing.kubernetes import ApiServer, api_server

kubernetes = pytest.importorskip("kubernetes", reason="the official client of Kubernetes is not installed")


@pytest.fixture(name="api")
def a_server() -> Iterator[ApiServer]:
    with api_server() as api:
        yield api


@pytest.fixture(name="dynamic")
def a_client(api: ApiServer, tmp_path: Path) -> Iterator[Any]:
    from kubernetes import config, dynamic

    file = str(api.kubeconfig(tmp_path / "config"))
    with config.new_client_from_config(file) as client:
        yield dynamic.DynamicClient(client, cache_file=str(tmp_path / "discovered"))


def test_the_dynamic_client_applies_reads_lists_and_deletes(api: ApiServer, dynamic: Any) -> None:
    deployments = dynamic.resources.get(api_version="apps/v1", kind="Deployment")

    made = dynamic.server_side_apply(deployments, deployment(replicas=2), field_manager="stoker")
    read = deployments.get(name="web", namespace="default")
    listed = deployments.get(namespace="default", label_selector="app=web")
    deployments.delete(name="web", namespace="default")

    assert made.metadata.generation == 1
    assert read.status.readyReplicas == 2
    assert listed.items == []  # the labels are those of its pods
    assert api.objects("Deployment") == []


def test_a_conflict_is_an_error_of_the_client(api: ApiServer, dynamic: Any) -> None:
    from kubernetes.dynamic.exceptions import ConflictError

    deployments = dynamic.resources.get(api_version="apps/v1", kind="Deployment")
    dynamic.server_side_apply(deployments, deployment(replicas=2), field_manager="stoker")

    with pytest.raises(ConflictError) as caught:
        dynamic.server_side_apply(deployments, deployment(replicas=3), field_manager="other")

    assert caught.value.status == 409
    assert 'conflict with \\"stoker\\": .spec.replicas' in caught.value.body


def test_a_watch_tells_of_what_is_there(dynamic: Any) -> None:
    deployments = dynamic.resources.get(api_version="apps/v1", kind="Deployment")
    dynamic.server_side_apply(deployments, deployment(), field_manager="stoker")

    event = next(iter(deployments.watch(namespace="default", timeout=5)))

    assert (event["type"], event["object"].metadata.name) == ("ADDED", "web")
