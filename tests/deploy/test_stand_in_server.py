"""The cluster's stand-in over HTTPS: what it stores, refuses, versions, deletes, watches, and lets go wrong."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from stand_in_client import APPLY, CONFIG_MAPS, DEPLOYMENTS, MERGE, Client, config_map, deployment

from stoker.testing.kubernetes import ApiServer, api_server

Tree = dict[str, Any]
OTHER = {"app": "other"}


@pytest.fixture(name="api")
def a_server() -> Iterator[ApiServer]:
    with api_server() as api:
        yield api


@pytest.fixture(name="client")
def a_client(api: ApiServer) -> Iterator[Client]:
    with Client(api) as client:
        yield client


# who asks, and what is served


def test_without_the_token_nothing_is_answered(api: ApiServer) -> None:
    with Client(api, token="another") as stranger:
        code, said = stranger.ask("GET", "/version")

    assert (code, said["reason"]) == (401, "Unauthorized")


def test_a_kubeconfig_names_the_server_and_the_token(api: ApiServer, tmp_path: Path) -> None:
    config = yaml.safe_load(api.kubeconfig(tmp_path / "config", context="mine").read_text())

    assert config["current-context"] == "mine"
    assert config["clusters"][0]["cluster"]["server"] == api.url


def test_kinds_of_groups_that_are_not_installed_are_not_served() -> None:
    with api_server(installed=["keda.sh"]) as api, Client(api) as client:
        assert client.ask("GET", "/apis/keda.sh/v1alpha1")[0] == 200
        assert client.ask("GET", "/apis/karpenter.sh/v1/nodepools")[0] == 404

        api.serve("karpenter.sh")

        assert client.ask("GET", "/apis/karpenter.sh/v1/nodepools")[0] == 200


def test_a_definition_makes_its_kind_and_takes_its_objects_with_it() -> None:
    names = {"kind": "Widget", "listKind": "WidgetList", "plural": "widgetry", "singular": "widget"}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgetry.example.org"},
        "spec": {
            "group": "example.org",
            "names": names,
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgetry.example.org"
    widget = {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}}
    with api_server(installed=()) as api, Client(api) as client:
        assert client.apply(path, definition)[0] == 201
        assert api.get("CustomResourceDefinition", "widgetry.example.org")["status"]["conditions"][1] == {  # type: ignore[index]
            "type": "Established",
            "status": "True",
            "reason": "InitialNamesAccepted",
            "message": "the names are accepted",
            "lastTransitionTime": "2026-01-01T00:00:07Z",
        }
        assert client.apply("/apis/example.org/v1/namespaces/default/widgetry/w", widget)[0] == 201

        client.ask("DELETE", path)

        assert api.objects("Widget") == []
        assert client.ask("GET", "/apis/example.org/v1/widgetry")[0] == 404


def test_a_graph_of_kro_makes_a_kind() -> None:
    graph = {
        "apiVersion": "kro.run/v1alpha1",
        "kind": "ResourceGraphDefinition",
        "metadata": {"name": "stack"},
        "spec": {"schema": {"apiVersion": "v1alpha1", "kind": "Stack", "spec": {"name": "string"}}, "resources": []},
    }
    stack = {"apiVersion": "kro.run/v1alpha1", "kind": "Stack", "metadata": {"name": "one"}, "spec": {"name": "x"}}
    with api_server() as api, Client(api) as client:
        assert client.apply("/apis/kro.run/v1alpha1/resourcegraphdefinitions/stack", graph)[0] == 201
        assert client.apply("/apis/kro.run/v1alpha1/namespaces/default/stacks/one", stack)[0] == 201

        assert api.get("Stack", "one")["status"]["state"] == "ACTIVE"  # type: ignore[index]


def test_aggregated_discovery_lists_what_the_plain_one_lists(client: Client) -> None:
    accept = "/apis"
    _, plain = client.ask("GET", accept)
    client._http.request(
        "GET",
        accept,
        headers={
            "Authorization": "Bearer stand-in",
            "Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        },
    )
    answer = client._http.getresponse()
    found = json.loads(answer.read())

    assert answer.headers["Content-Type"] == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    assert [each["metadata"]["name"] for each in found["items"]] == [each["name"] for each in plain["groups"]]
    apps = next(each for each in found["items"] if each["metadata"]["name"] == "apps")
    assert [each["resource"] for each in apps["versions"][0]["resources"]] == [
        "controllerrevisions",
        "daemonsets",
        "deployments",
        "replicasets",
        "statefulsets",
    ]


# versions


def test_an_apply_that_changes_nothing_leaves_the_version_and_the_time(api: ApiServer, client: Client) -> None:
    client.apply(f"{DEPLOYMENTS}/web", deployment())
    before = api.get("Deployment", "web")

    code, _ = client.apply(f"{DEPLOYMENTS}/web", deployment())

    assert code == 200
    assert api.get("Deployment", "web") == before


def test_a_change_of_the_spec_raises_the_generation_and_one_of_labels_does_not(client: Client) -> None:
    path = f"{DEPLOYMENTS}/web"
    labelled = deployment()
    labelled["metadata"]["labels"] = {"a": "b"}
    generations = [
        client.apply(path, each)[1]["metadata"]["generation"]
        for each in (deployment(), labelled, deployment(image="web:2"))
    ]

    assert generations == [1, 1, 2]


def test_a_replacement_of_an_old_version_is_a_conflict(api: ApiServer, client: Client) -> None:
    _, first = client.ask("POST", CONFIG_MAPS, config_map(a="1"))
    client.ask("PUT", f"{CONFIG_MAPS}/a", {**first, "data": {"a": "2"}})

    code, said = client.ask("PUT", f"{CONFIG_MAPS}/a", {**first, "data": {"a": "3"}})

    assert (code, said["reason"]) == (409, "Conflict")
    assert said["message"].startswith('Operation cannot be fulfilled on configmaps "a": the object has been modified')
    assert api.get("ConfigMap", "a")["data"] == {"a": "2"}  # type: ignore[index]


def test_a_dry_run_says_what_would_be_and_stores_nothing(api: ApiServer, client: Client) -> None:
    code, said = client.apply(f"{CONFIG_MAPS}/a", config_map(a="1"), dryRun="All")

    assert (code, said["data"]) == (201, {"a": "1"})
    assert api.objects("ConfigMap") == []
    assert api.counted == 0


def test_what_controllers_write_comes_after_the_answer(api: ApiServer, client: Client) -> None:
    """As in a cluster: who replaces what the answer said is late."""
    _, answered = client.apply(f"{DEPLOYMENTS}/web", deployment())

    code, _ = client.ask("PUT", f"{DEPLOYMENTS}/web", answered)

    assert "status" not in answered
    assert code == 409


def test_defaults_are_filled_in_and_nobody_owns_them(api: ApiServer, client: Client) -> None:
    reference = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "c"}
    pool = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": "p"},
        "spec": {"template": {"spec": {"nodeClassRef": reference, "requirements": []}}},
    }

    client.apply("/apis/karpenter.sh/v1/nodepools/p", pool)
    client.apply(f"{DEPLOYMENTS}/web", deployment())

    stored = api.get("NodePool", "p")
    assert stored is not None
    assert stored["spec"]["disruption"] == {
        "budgets": [{"nodes": "10%"}],
        "consolidateAfter": "0s",
        "consolidationPolicy": "WhenEmptyOrUnderutilized",
    }
    web = api.get("Deployment", "web")
    assert web is not None
    assert (web["spec"]["replicas"], web["spec"]["strategy"]["type"]) == (1, "RollingUpdate")
    for each in (stored, web):
        assert not {"f:replicas", "f:disruption"} & set(each["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"])


# patches


def test_patches_of_three_kinds(api: ApiServer, client: Client) -> None:
    client.apply(f"{DEPLOYMENTS}/web", deployment())
    side = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s"}]}}}}

    client.ask("PATCH", f"{DEPLOYMENTS}/web", {"spec": {"replicas": 3}}, MERGE)
    client.ask("PATCH", f"{DEPLOYMENTS}/web", side, "application/strategic-merge-patch+json")
    image = {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "web:9"}
    client.ask("PATCH", f"{DEPLOYMENTS}/web", [image], "application/json-patch+json")

    spec = api.get("Deployment", "web")["spec"]  # type: ignore[index]
    assert spec["replicas"] == 3
    containers = spec["template"]["spec"]["containers"]
    assert [(each["name"], each["image"]) for each in containers] == [("web", "web:9"), ("side", "s")]


def test_a_json_patch_of_a_place_that_is_not_there_is_refused(client: Client) -> None:
    client.ask("POST", CONFIG_MAPS, config_map(a="1"))
    patch = [{"op": "remove", "path": "/data/b"}]

    assert client.ask("PATCH", f"{CONFIG_MAPS}/a", patch, "application/json-patch+json")[0] == 422


def test_the_status_is_written_at_its_own_path_and_nowhere_else(api: ApiServer, client: Client) -> None:
    api.readiness = "stuck"
    client.apply(f"{DEPLOYMENTS}/web", {**deployment(), "status": {"readyReplicas": 7}})
    assert "readyReplicas" not in api.get("Deployment", "web")["status"]  # type: ignore[index]

    patch = {"spec": {"replicas": 9}, "status": {"collisionCount": 2}}
    client.ask("PATCH", f"{DEPLOYMENTS}/web/status", patch, MERGE)

    found = api.get("Deployment", "web")
    assert found is not None
    assert found["spec"]["replicas"] == 1
    assert found["metadata"]["generation"] == 1


def test_text_of_a_secret_is_stored_encoded(api: ApiServer, client: Client) -> None:
    meta = {"name": "s", "namespace": "default"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"a": "x"}}

    client.apply("/api/v1/namespaces/default/secrets/s", secret)

    stored = api.get("Secret", "s")
    assert stored is not None
    assert stored["data"] == {"a": "eA=="}
    assert "stringData" not in stored


# refusals


def test_a_field_that_the_schema_does_not_have_is_refused_or_warned_of(client: Client) -> None:
    path, wrong = f"{DEPLOYMENTS}/web", deployment(replicaz=2)

    code, said = client.apply(path, wrong)
    assert (code, said["message"]) == (400, 'strict decoding error: unknown field "spec.replicaz"')

    code, _ = client.ask("PATCH", path, wrong, APPLY, fieldManager="stoker")
    assert (code, client.warnings) == (201, ['299 - "unknown field \\"spec.replicaz\\""'])


def test_a_wrong_value_is_refused_with_its_field(client: Client) -> None:
    code, said = client.apply(f"{DEPLOYMENTS}/web", deployment(replicas=-1))

    assert (code, said["reason"]) == (422, "Invalid")
    assert said["message"].startswith('Deployment.apps "web" is invalid: spec.replicas: ')
    assert [each["field"] for each in said["details"]["causes"]] == ["spec.replicas"]


def test_a_custom_kind_is_held_to_its_schema(client: Client) -> None:
    pool = {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "p"}, "spec": {"weight": 1000}}

    code, said = client.apply("/apis/karpenter.sh/v1/nodepools/p", pool)

    assert code == 422
    assert {"spec.weight", "spec.template"} <= {each["field"] for each in said["details"]["causes"]}


@pytest.mark.parametrize(
    ("path", "change", "field"),
    [
        (
            f"{DEPLOYMENTS}/web",
            {"spec": {"selector": {"matchLabels": OTHER}, "template": {"metadata": {"labels": OTHER}}}},
            "spec.selector",
        ),
        ("/api/v1/namespaces/default/secrets/s", {"type": "example.org/other"}, "type"),
        (
            "/apis/batch/v1/namespaces/default/jobs/j",
            {"spec": {"template": {"spec": {"hostNetwork": True}}}},
            "spec.template",
        ),
        ("/apis/storage.k8s.io/v1/storageclasses/c", {"provisioner": "other"}, "provisioner"),
        ("/api/v1/namespaces/default/persistentvolumeclaims/p", {"spec": {"storageClassName": "x"}}, "spec"),
        ("/api/v1/namespaces/default/services/svc", {"spec": {"clusterIP": "10.0.0.9"}}, "spec.clusterIP"),
    ],
)
def test_what_may_not_change_may_not(client: Client, path: str, change: Tree, field: str) -> None:
    pod = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"},
    }
    storage = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    objects = {
        "web": deployment(),
        "s": {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": "Opaque"},
        "j": {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": pod}},
        "c": {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "c"}, "provisioner": "p"},
        "p": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "p"}, "spec": storage},
        "svc": {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "svc"},
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]},
        },
    }
    assert client.apply(path, objects[path.rpartition("/")[2]])[0] == 201

    code, said = client.ask("PATCH", path, change, MERGE)

    assert code == 422, said
    assert field in [each["field"] for each in said["details"]["causes"]]


def test_a_namespace_must_be_there_and_stay(api: ApiServer, client: Client) -> None:
    there = {**config_map(), "metadata": {"name": "a", "namespace": "later"}}
    path = "/api/v1/namespaces/later/configmaps/a"
    code, said = client.apply(path, there)
    assert (code, said["message"]) == (404, 'namespaces "later" not found')

    later = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "later", "finalizers": ["x/y"]}}
    client.apply("/api/v1/namespaces/later", later)
    client.apply(path, there)
    client.ask("DELETE", "/api/v1/namespaces/later")

    assert api.objects("ConfigMap") == []
    assert api.get("Namespace", "later")["status"]["phase"] == "Terminating"  # type: ignore[index]
    code, said = client.apply(path, there)
    assert (code, said["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")

    client.ask("PATCH", "/api/v1/namespaces/later", {"metadata": {"finalizers": None}}, MERGE)
    assert api.get("Namespace", "later") is None


def test_an_object_is_where_its_path_says(client: Client) -> None:
    elsewhere = {**config_map(), "metadata": {"name": "a", "namespace": "other"}}

    assert client.apply(f"{CONFIG_MAPS}/a", elsewhere)[0] == 400
    assert client.apply(f"{CONFIG_MAPS}/b", config_map("a"))[0] == 400
    assert client.apply(f"{DEPLOYMENTS}/a", config_map("a"))[0] == 400


def test_an_apply_needs_a_manager(client: Client) -> None:
    code, said = client.ask("PATCH", f"{CONFIG_MAPS}/a", config_map(), APPLY, fieldManager="")

    assert code == 400
    assert "fieldManager" in said["message"]


def test_a_conflict_names_the_manager_and_the_field(api: ApiServer, client: Client) -> None:
    client.apply(f"{DEPLOYMENTS}/web", deployment(replicas=2))
    api.edit("Deployment", "web", "default", lambda obj: obj["spec"].update(replicas=5))

    code, said = client.apply(f"{DEPLOYMENTS}/web", deployment(replicas=2))

    assert (code, said["reason"]) == (409, "Conflict")
    assert said["message"] == 'Apply failed with 1 conflict: conflict with "kubectl-edit" using apps/v1: .spec.replicas'
    assert said["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl-edit" using apps/v1',
            "field": ".spec.replicas",
        }
    ]
    assert client.apply(f"{DEPLOYMENTS}/web", deployment(replicas=2), force="true")[0] == 200


# lists, watches, deletion


def test_lists_are_chosen_by_labels_and_names_and_come_in_pages(client: Client) -> None:
    for name in ("a", "b", "c"):
        labelled = config_map(name)
        labelled["metadata"]["labels"] = {"of": name, "in": "all"}
        client.ask("POST", CONFIG_MAPS, labelled)

    def names(**query: Any) -> list[str]:
        return [each["metadata"]["name"] for each in client.ask("GET", CONFIG_MAPS, **query)[1]["items"]]

    assert names(labelSelector="of in (a, c)") == ["a", "c"]
    assert names(labelSelector="in=all,of!=a") == ["b", "c"]
    assert names(labelSelector="!in") == []
    assert names(fieldSelector="metadata.name=b") == ["b"]
    _, page = client.ask("GET", CONFIG_MAPS, limit=2)
    assert len(page["items"]) == 2
    assert names(**{"limit": 2, "continue": page["metadata"]["continue"]}) == ["c"]


def test_a_watch_tells_what_happens_from_a_version_on(api: ApiServer, client: Client) -> None:
    _, listed = client.ask("GET", CONFIG_MAPS)
    client.apply(f"{CONFIG_MAPS}/a", config_map(a="1"))
    client.apply(f"{CONFIG_MAPS}/a", config_map(a="2"))
    client.ask("DELETE", f"{CONFIG_MAPS}/a")

    since = listed["metadata"]["resourceVersion"]
    path = f"{CONFIG_MAPS}?watch=true&resourceVersion={since}&timeoutSeconds=0.01"
    client._http.request("GET", path, headers={"Authorization": "Bearer stand-in"})
    events = [json.loads(line) for line in client._http.getresponse().read().splitlines()]

    assert [(each["type"], each["object"]["data"]["a"]) for each in events] == [
        ("ADDED", "1"),
        ("MODIFIED", "2"),
        ("DELETED", "2"),
    ]


def test_what_an_object_owns_goes_with_it_unless_it_is_orphaned(api: ApiServer, client: Client) -> None:
    for owner in ("a", "b"):
        _, made = client.ask("POST", CONFIG_MAPS, config_map(owner))
        owned = config_map(f"{owner}-owned")
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": made["metadata"]["uid"]}
        owned["metadata"]["ownerReferences"] = [reference]
        client.ask("POST", CONFIG_MAPS, owned)

    client.ask("DELETE", f"{CONFIG_MAPS}/a", {"propagationPolicy": "Foreground"})
    client.ask("DELETE", f"{CONFIG_MAPS}/b", {"propagationPolicy": "Orphan"})

    assert [each["metadata"]["name"] for each in api.objects("ConfigMap")] == ["b-owned"]


def test_what_has_a_finalizer_stays_until_it_is_taken_off(api: ApiServer, client: Client) -> None:
    held = config_map("a")
    held["metadata"]["finalizers"] = ["x/y"]
    client.ask("POST", CONFIG_MAPS, held)

    code, said = client.ask("DELETE", f"{CONFIG_MAPS}/a")
    assert (code, "deletionTimestamp" in said["metadata"]) == (200, True)

    client.ask("PATCH", f"{CONFIG_MAPS}/a", {"metadata": {"finalizers": []}}, MERGE)
    assert api.get("ConfigMap", "a") is None


def test_a_deletion_of_another_object_of_that_name_is_refused(api: ApiServer, client: Client) -> None:
    client.ask("POST", CONFIG_MAPS, config_map("a"))

    code, _ = client.ask("DELETE", f"{CONFIG_MAPS}/a", {"preconditions": {"uid": "another"}})

    assert code == 409
    assert api.get("ConfigMap", "a") is not None


def test_a_collection_is_deleted_by_labels(api: ApiServer, client: Client) -> None:
    for name in ("a", "b"):
        labelled = config_map(name)
        labelled["metadata"]["labels"] = {"of": name}
        client.ask("POST", CONFIG_MAPS, labelled)

    client.ask("DELETE", CONFIG_MAPS, labelSelector="of=a")

    assert [each["metadata"]["name"] for each in api.objects("ConfigMap")] == ["b"]


# faults


def test_a_refused_call_does_nothing(api: ApiServer, client: Client) -> None:
    api.fail(1, "refuse")

    with pytest.raises(http.client.RemoteDisconnected):
        client.apply(f"{CONFIG_MAPS}/a", config_map())

    assert api.objects("ConfigMap") == []
    assert client.apply(f"{CONFIG_MAPS}/a", config_map())[0] == 201


def test_a_lost_answer_is_of_a_call_that_was_done(api: ApiServer, client: Client) -> None:
    api.fail(1, "lose")

    with pytest.raises(http.client.RemoteDisconnected):
        client.apply(f"{CONFIG_MAPS}/a", config_map())

    assert len(api.objects("ConfigMap")) == 1


def test_a_status_is_answered_as_often_as_is_said(api: ApiServer, client: Client) -> None:
    api.fail(lambda call: call.method == "GET", 429, times=2)

    answers = [client.ask("GET", "/version")[0] for _ in range(3)]

    assert answers == [429, 429, 200]
    assert [each.status for each in api.calls] == [429, 429, 200]


def test_calls_that_change_something_are_counted(api: ApiServer, client: Client) -> None:
    client.ask("GET", CONFIG_MAPS)
    client.apply(f"{CONFIG_MAPS}/a", config_map(), dryRun="All")
    client.apply(f"{CONFIG_MAPS}/a", config_map())
    client.ask("DELETE", f"{CONFIG_MAPS}/a")

    assert api.counted == 2
    assert [each.changing for each in api.calls] == [0, 0, 1, 2]
    assert api.calls[2].user_agent == "tests/1"


def test_two_runs_are_alike() -> None:
    def run() -> list[Tree]:
        with api_server() as api, Client(api) as client:
            client.apply(f"{CONFIG_MAPS}/a", config_map())
            client.apply(f"{DEPLOYMENTS}/web", deployment())
            return api.objects()

    assert run() == run()


def test_an_error_of_the_stand_in_is_told_to_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("on purpose")

    def run() -> None:
        with api_server() as api, Client(api) as client:
            monkeypatch.setattr(api._verbs, "get", broken)
            assert client.ask("GET", f"{CONFIG_MAPS}/a")[0] == 500

    with pytest.raises(RuntimeError, match="an error of its own"):
        run()
