"""Delivery by Git: what the repository may change, and where to."""

from typing import Any

import pytest
import yaml

from stoker.base.errors import InvalidInput
from stoker.render import argocd
from stoker.render.items import Resource
from stoker.render.plan import Plan
from stoker.render.run import render
from stoker.spec import Mode, loads

ACCOUNT = 'global: {cluster: {name: Prod_1, account: "111122223333"}}\n'
MODES: tuple[Mode, ...] = ("karpenter", "auto", "hybrid")
ARN = "arn:aws:eks:us-west-2:111122223333:cluster/Prod_1"


def on(*keys: str) -> str:
    return f"composition: {{argocd: {{{', '.join(['enabled: true', *keys])}}}}}\n"


def objects(text: str, mode: Mode = "karpenter") -> dict[str, dict[str, Any]]:
    found = [item.object for item in argocd.render(Plan(loads(text), mode)) if isinstance(item, Resource)]
    return {each["kind"]: each for each in found}


def application(text: str) -> dict[str, Any]:
    return dict(objects(text)["Application"]["spec"])


def project(text: str, mode: Mode = "karpenter") -> dict[str, Any]:
    return dict(objects(text, mode)["AppProject"]["spec"])


def test_it_is_off_until_asked_for() -> None:
    assert objects("") == {}


def test_an_argo_cd_of_your_own_delivers_to_its_own_cluster() -> None:
    assert application(on())["destination"] == {"server": "https://kubernetes.default.svc", "namespace": "agentic-ai"}


def test_the_eks_capability_knows_the_cluster_by_its_arn() -> None:
    text = ACCOUNT + on("capability: true")
    assert application(text)["destination"] == {"server": ARN, "namespace": "agentic-ai"}
    assert {each["server"] for each in project(text)["destinations"]} == {ARN}
    china = text.replace("account:", "region: cn-north-1, account:")
    assert application(china)["destination"]["server"].startswith("arn:aws-cn:eks:cn-north-1:")


def test_an_arn_needs_an_account_and_names_of_clusters_do_not() -> None:
    with pytest.raises(InvalidInput, match=r"global\.cluster\.account: null"):
        loads(on("capability: true"))
    assert set(objects(on("capability: true", "clusters: [prod]"))) == {"AppProject", "ApplicationSet"}


def test_what_is_delivered_and_how() -> None:
    text = on("repository: https://git.example.com/x", "revision: v1", "path: deploy")
    spec = application(text)
    assert spec["source"] == {
        "repoURL": "https://git.example.com/x",
        "targetRevision": "v1",
        "path": "deploy",
        "directory": {"recurse": True, "include": "*.yaml", "exclude": "{argocd/*,on-demand/*,kustomization.yaml}"},
    }
    assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}
    assert {"ServerSideApply=true", "CreateNamespace=false"} <= set(spec["syncPolicy"]["syncOptions"])
    assert project(text)["sourceRepos"] == ["https://git.example.com/x"]


def test_the_project_is_the_application_s_and_there_is_one_for_each_cluster() -> None:
    found = objects(ACCOUNT + on())
    assert found["AppProject"]["metadata"]["name"] == "stoker-prod-1"
    assert found["Application"]["metadata"]["name"] == found["Application"]["spec"]["project"] == "stoker-prod-1"
    assert {each["metadata"]["namespace"] for each in found.values()} == {"argocd"}


def test_the_repository_may_write_to_the_platform_s_namespaces_and_to_no_other() -> None:
    text = "global: {cluster: {namespace: ai, mode: auto}}\n" + on()
    assert [each["namespace"] for each in project(text, "auto")["destinations"]] == [
        "ai",
        "ai-training",
        "ai-monitoring",
    ]
    assert application(text)["destination"]["namespace"] == "ai"


def test_what_a_graph_of_kro_needs_is_allowed_where_there_is_one() -> None:
    text = "composition: {kro: true, argocd: {enabled: true}}"
    kinds = [{each["kind"] for each in project(each)["clusterResourceWhitelist"]} for each in (on(), text)]
    assert kinds[1] - kinds[0] == {"ResourceGraphDefinition", "ClusterRole"}


def test_the_plugins_of_karpenter_s_gpu_nodes_are_among_the_system_s_own_pods() -> None:
    spaces = {mode: {each["namespace"] for each in project(on(), mode)["destinations"]} for mode in MODES}
    assert [mode for mode in MODES if "kube-system" in spaces[mode]] == ["karpenter", "hybrid"]
    none = on() + "llm: {inference: {gpu: {count: 0}}}\ntraining: {enabled: false}\n"
    assert "kube-system" not in {each["namespace"] for each in project(none)["destinations"]}


def test_a_set_delivers_to_each_cluster_what_was_rendered_for_it() -> None:
    text = on("clusters: [prod, Staging_eu]", "path: deploy/")
    spec = objects(text)["ApplicationSet"]["spec"]
    assert spec["goTemplate"] is True
    assert spec["generators"] == [
        {
            "list": {
                "elements": [
                    {"cluster": "prod", "name": "stoker-prod"},
                    {"cluster": "Staging_eu", "name": "stoker-staging-eu"},
                ]
            }
        }
    ]
    template = spec["template"]
    assert template["metadata"]["name"] == "{{.name}}"
    assert template["spec"]["source"]["path"] == "deploy/{{.cluster}}"
    assert template["spec"]["destination"] == {"name": "{{.cluster}}", "namespace": "agentic-ai"}
    destinations = project(text)["destinations"]
    assert [each["name"] for each in destinations] == ["prod"] * 4 + ["Staging_eu"] * 4


@pytest.mark.parametrize("clusters", ["[prod, prod]", "[a_b, A-b]"])
def test_two_clusters_whose_applications_would_be_called_alike_are_refused(clusters: str) -> None:
    with pytest.raises(InvalidInput, match="differs from another by no more than case"):
        loads(on(f"clusters: {clusters}"))


def test_a_cluster_that_could_be_no_folder_is_refused() -> None:
    with pytest.raises(InvalidInput, match="the name of a cluster"):
        loads(on("clusters: [../prod]"))


def test_what_autoscalers_set_is_left_alone() -> None:
    text = on() + "llm: {models: {general: {}, big: {serving: {nodes: 2, gpu: {count: 8}}}}}\n"
    left = {(each["kind"], each["name"]): each["jsonPointers"] for each in application(text)["ignoreDifferences"]}
    assert left == {
        ("Deployment", "gateway"): ["/spec/replicas"],
        ("Deployment", "model-general"): ["/spec/replicas"],
        ("LeaderWorkerSet", "model-big"): ["/spec/replicas"],
    }
    assert "RespectIgnoreDifferences=true" in application(text)["syncPolicy"]["syncOptions"]
    fixed = application(on() + "keda: {enabled: false}\n")["ignoreDifferences"]
    assert [each["name"] for each in fixed] == ["gateway"]


def test_a_canary_is_a_rollout() -> None:
    text = "composition: {canary: true, argocd: {enabled: true}}"
    first = application(text)["ignoreDifferences"][0]
    assert (first["group"], first["kind"], first["name"]) == ("argoproj.io", "Rollout", "gateway")


@pytest.mark.parametrize("mode", MODES)
def test_the_project_allows_all_that_is_rendered(mode: Mode) -> None:
    """Over the whole output: each kind outside of namespaces is on the list, each namespace is a destination."""
    text = ACCOUNT + (
        "composition: {kro: true, ack: {rds: true, sagemaker: true}, argocd: {enabled: true}}\n"
        "edge: {websocket: true, gatewayApi: {enabled: true}}\n"
    )
    plan = Plan(loads(text), mode)
    allowed = project(text, mode)
    kinds = {(each["group"], each["kind"]) for each in allowed["clusterResourceWhitelist"]}
    namespaces = {each["namespace"] for each in allowed["destinations"]}
    for name, written in render(plan.spec, mode=mode).items():
        if not name.endswith(".yaml") or name.startswith(("argocd/", "on-demand/")) or name == "kustomization.yaml":
            continue
        for each in yaml.safe_load_all(written):
            namespace = each["metadata"].get("namespace")
            group = each["apiVersion"].rpartition("/")[0]
            where = f"{name}: {each['kind']}"
            assert namespace in namespaces if namespace else (group, each["kind"]) in kinds, where
