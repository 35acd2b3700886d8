"""The gateway's pods, how many there are, and the canary."""

import hashlib
from typing import Any

import pytest
from rendered import Object, objects_of, plan_of, pod_of

from stoker.base.errors import InvalidInput
from stoker.render import gateway
from stoker.render.cluster_spec import platform_yaml


def deployment(text: str = "") -> Object:
    return objects_of(gateway.render, text)["Deployment", "gateway"]


def container(text: str = "") -> Object:
    [only] = pod_of(deployment(text))["containers"]
    found: Object = only
    return found


def variables(text: str = "") -> dict[str, Any]:
    """By name; of a Secret, its name and key."""
    return {
        each["name"]: each.get("value") or tuple(next(iter(each["valueFrom"].values())).values())
        for each in container(text)["env"]
    }


def test_a_changed_platform_yaml_starts_new_pods() -> None:
    def said(text: str) -> str:
        annotations: dict[str, str] = deployment(text)["spec"]["template"]["metadata"]["annotations"]
        return annotations["stoker.dev/platform-sha256"]

    assert said("") == hashlib.sha256(platform_yaml(plan_of()).encode()).hexdigest()
    assert said("") != said("gateway: {maxBodyBytes: 4096}")


def test_it_reads_the_configmap_that_is_mounted() -> None:
    found = objects_of(gateway.render)
    pod = pod_of(found["Deployment", "gateway"])
    [mount] = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "platform"]
    arguments = pod["containers"][0]["args"]
    assert arguments[arguments.index("--spec") + 1] == f"{mount['mountPath']}/platform.yaml"
    assert {"name": "platform", "configMap": {"name": "platform"}} in pod["volumes"]
    assert found["ConfigMap", "platform"]["data"]["platform.yaml"] == platform_yaml(plan_of())


def test_no_answer_is_cut_off_when_a_pod_is_replaced() -> None:
    """The longest answer, 15 s in which load balancers still send, and 15 s to write down what was used."""
    pod = pod_of(deployment("gateway: {timeouts: {totalSeconds: 90}}"))
    arguments = pod["containers"][0]["args"]
    assert arguments[arguments.index("--grace") + 1] == "90"
    assert pod["containers"][0]["lifecycle"]["preStop"] == {"sleep": {"seconds": 15}}
    assert pod["terminationGracePeriodSeconds"] == 120


def test_a_model_without_replicas_takes_no_gateway_out_of_service() -> None:
    paths = {container()[each]["httpGet"]["path"] for each in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"/health"}


def test_its_journal_outlives_the_process() -> None:
    pod = pod_of(deployment())
    [mount] = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "state"]
    arguments = pod["containers"][0]["args"]
    assert arguments[arguments.index("--journals") + 1] == f"{mount['mountPath']}/journals"
    assert [each for each in pod["volumes"] if each["name"] == "state"] == [
        {"name": "state", "emptyDir": {"sizeLimit": "1Gi"}}
    ]


def test_secrets_come_by_reference_and_urls_hold_no_password() -> None:
    assert variables() == {
        "STOKER_REDIS_PASSWORD": ("redis", "password"),
        "STOKER_REDIS_URL": "redis://:$(STOKER_REDIS_PASSWORD)@redis.agentic-ai.svc.cluster.local:6379/0",
        "STOKER_LEDGER_PASSWORD": ("ledger", "password"),
        "STOKER_LEDGER_URL": (
            "postgresql://stoker:$(STOKER_LEDGER_PASSWORD)@ledger.agentic-ai.svc.cluster.local:5432/stoker"
        ),
        "STOKER_ENGINE_KEY": ("engine", "key"),
        "STOKER_ADMIN_KEY": ("admin", "key"),
    }


def test_servers_elsewhere_bring_their_keys_once_each() -> None:
    text = """\
llm:
  models:
    general: {}
    far: {engine: {url: "https://api.example.com/v1", apiKeyEnv: FAR_KEY}}
    further: {engine: {url: "https://api.example.com/v1", apiKeyEnv: FAR_KEY, model: other}}
    own: {engine: {url: "https://own.example.com/v1", apiKeyEnv: OWN_KEY}}
"""
    found = variables(text)
    assert (found["FAR_KEY"], found["OWN_KEY"]) == (("engine-far", "key"), ("engine-own", "key"))
    assert len(container(text)["env"]) == len(found)


CALLED_BACK = """\
tenants:
  acme: {callbackHosts: [hooks.example.com], callbackSecretEnv: ACME_HOOK_SECRET}
  beta: {callbackHosts: ["*.example.org"], callbackSecretEnv: BETA_HOOK_SECRET}
  gamma: {callbackHosts: [hooks.example.com], callbackSecretEnv: ACME_HOOK_SECRET}
"""


def test_what_callbacks_are_signed_with_is_there() -> None:
    found = variables(CALLED_BACK)
    assert found["ACME_HOOK_SECRET"] == ("callbacks", "ACME_HOOK_SECRET")
    assert found["BETA_HOOK_SECRET"] == ("callbacks", "BETA_HOOK_SECRET")
    assert len(container(CALLED_BACK)["env"]) == len(found)


@pytest.mark.parametrize("taken", ["STOKER_ADMIN_KEY", "STOKER_REDIS_URL", "FAR_KEY"])
def test_a_secret_of_callbacks_is_no_variable_that_has_a_value_already(taken: str) -> None:
    text = 'llm: {models: {far: {engine: {url: "https://api.example.com/v1", apiKeyEnv: FAR_KEY}}}}\n'
    with pytest.raises(InvalidInput, match=f"{taken} is the gateway's own already") as caught:
        container(text + f"tenants: {{acme: {{callbackHosts: [h.example.com], callbackSecretEnv: {taken}}}}}")
    assert caught.value.param == "tenants.acme.callbackSecretEnv"


def test_elasticache_says_its_url_and_rds_its_host() -> None:
    found = variables("redis: {elasticache: {enabled: true}}\ncomposition: {ack: {rds: true}}")
    assert found["STOKER_REDIS_URL"] == ("redis", "url")
    assert found["STOKER_LEDGER_HOST"] == ("ledger-endpoint", "address")
    assert found["STOKER_LEDGER_URL"] == (
        "postgresql://stoker:$(STOKER_LEDGER_PASSWORD)@$(STOKER_LEDGER_HOST):5432/stoker?sslmode=require"
    )
    # The kubelet puts in only what stands before.
    names = list(found)
    assert names.index("STOKER_LEDGER_HOST") < names.index("STOKER_LEDGER_URL")


def test_the_image_is_that_of_the_spec() -> None:
    assert container("global: {images: {registry: r.example.com/s, tag: '9'}}")["image"] == "r.example.com/s/gateway:9"


def test_two_at_least_in_different_places_and_more_with_load() -> None:
    found = objects_of(gateway.render)
    scaler = found["HorizontalPodAutoscaler", "gateway"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 10)
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "gateway"}
    assert "replicas" not in found["Deployment", "gateway"]["spec"]  # else each apply would undo the autoscaler
    assert "cpu" in container()["resources"]["requests"]
    keys = [each["topologyKey"] for each in pod_of(found["Deployment", "gateway"])["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert found["PodDisruptionBudget", "gateway"]["spec"]["maxUnavailable"] == 1


def test_it_runs_where_no_gpu_is_paid_for() -> None:
    assert pod_of(deployment())["nodeSelector"] == {
        "stoker.dev/serves": "cpu",
        "karpenter.sh/capacity-type": "on-demand",
    }
    assert "nodeSelector" not in pod_of(deployment("karpenter: {enabled: false}"))


def test_a_canary_takes_the_deployments_place_for_all_who_point_at_it() -> None:
    found = objects_of(gateway.render, "composition: {canary: true}")
    assert ("Deployment", "gateway") not in found
    rollout = found["Rollout", "gateway"]
    assert pod_of(rollout) == pod_of(deployment())
    target = found["HorizontalPodAutoscaler", "gateway"]["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "gateway"}
    steps = rollout["spec"]["strategy"]["canary"]["steps"]
    assert [each["setWeight"] for each in steps if "setWeight" in each] == [10, 50, 100]
    named = {one["templateName"] for each in steps if "analysis" in each for one in each["analysis"]["templates"]}
    assert named == {"gateway-errors"}


def test_a_canary_looks_at_its_own_requests_by_the_metric_that_gateways_publish() -> None:
    text = "composition: {canary: true}\nglobal: {observability: {prometheusUrl: 'http://p.watch:9090'}}"
    [metric] = objects_of(gateway.render, text)["AnalysisTemplate", "gateway-errors"]["spec"]["metrics"]
    asked = metric["provider"]["prometheus"]
    assert asked["address"] == "http://p.watch:9090"
    mine = 'namespace="agentic-ai", pod=~"gateway-{{args.hash}}-.*"'
    assert asked["query"] == (
        f'(sum(rate(stoker_requests_total{{{mine}, status="failed"}}[5m])) or vector(0))'
        f" / sum(rate(stoker_requests_total{{{mine}}}[5m]))"
    )


def test_without_prometheus_a_canary_only_pauses() -> None:
    found = objects_of(gateway.render, "composition: {canary: true}\nglobal: {observability: {prometheus: false}}")
    assert ("AnalysisTemplate", "gateway-errors") not in found
    steps = found["Rollout", "gateway"]["spec"]["strategy"]["canary"]["steps"]
    assert [next(iter(each)) for each in steps] == ["setWeight", "pause", "setWeight", "pause", "setWeight"]
