"""The stack AIInferenceStack and its instance."""

import json
import re
from typing import Any

from stoker.lint.cel import Outcome, judge
from stoker.lint.rules.kro._simple_schema import leaf
from stoker.render import kro
from stoker.render.items import Resource
from stoker.render.plan import Plan
from stoker.spec import Mode, loads

ACCOUNT = 'global: {cluster: {name: Atelier, account: "111122223333"}}\n'
KRO = ACCOUNT + "composition: {kro: true}\n"


def objects(text: str = KRO, mode: Mode = "karpenter") -> dict[str, dict[str, Any]]:
    """By kind."""
    items = [each for each in kro.render(Plan(loads(text), mode)) if isinstance(each, Resource)]
    return {each.object["kind"]: each.object for each in items}


def templates(text: str = KRO, mode: Mode = "karpenter") -> dict[str, dict[str, Any]]:
    """By id."""
    return {
        each["id"]: each["template"] for each in objects(text, mode)["ResourceGraphDefinition"]["spec"]["resources"]
    }


def container(text: str = KRO) -> dict[str, Any]:
    (found,) = templates(text)["server"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def test_nothing_is_rendered_unless_kro_is_asked_for() -> None:
    assert objects(ACCOUNT) == {}
    assert list(objects()) == ["ResourceGraphDefinition", "ClusterRole", "AIInferenceStack"]


def test_the_schema_has_the_seven_fields_of_the_guide_and_each_is_used() -> None:
    graph = objects()["ResourceGraphDefinition"]
    assert (graph["apiVersion"], graph["metadata"]["name"]) == ("kro.run/v1alpha1", "ai-inference-stack")
    schema = graph["spec"]["schema"]
    assert (schema["apiVersion"], schema["kind"]) == ("v1alpha1", "AIInferenceStack")
    types = {name: leaf(text).type for name, text in schema["spec"].items()}
    assert types == {
        "modelName": "string",
        "weights": "string",
        "minReplicas": "integer",
        "maxReplicas": "integer",
        "gpuCount": "integer",
        "cpu": "string",
        "memory": "string",
    }
    text = json.dumps(graph["spec"]["resources"])
    assert [name for name in types if f"schema.spec.{name}" not in text] == []
    # A server that is not there has no metrics to be woken by.
    assert leaf(schema["spec"]["minReplicas"]).markers["minimum"] == "1"


def test_pods_are_made_after_their_role_can_be_had() -> None:
    found = {each["id"]: each for each in objects()["ResourceGraphDefinition"]["spec"]["resources"]}
    assert list(found)[:5] == ["bucket", "role", "account", "identity", "server"]
    for name in ("bucket", "role", "identity"):
        (condition,) = found[name]["readyWhen"]
        assert condition == (
            f'${{{name}.status.conditions.exists(c, c.type == "ACK.ResourceSynced" && c.status == "True")}}'
        )
    pod = templates()["server"]["spec"]["template"]
    assert pod["metadata"]["annotations"] == {"stoker.dev/identity": "${identity.metadata.name}"}
    assert pod["spec"]["serviceAccountName"] == "${account.metadata.name}"


def test_the_server_selects_its_pods_and_leaves_replicas_to_the_scaler() -> None:
    spec = templates()["server"]["spec"]
    assert "replicas" not in spec
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == {"app.kubernetes.io/name": "${schema.spec.modelName}"}
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 110


def test_the_server_has_the_gpus_that_it_splits_the_model_over() -> None:
    found = container()
    limits = {"memory": "${schema.spec.memory}", "nvidia.com/gpu": "${string(schema.spec.gpuCount)}"}
    assert found["resources"]["limits"] == limits
    assert found["resources"]["requests"] == {"cpu": "${schema.spec.cpu}", **limits}
    assert "--tensor-parallel-size=${string(schema.spec.gpuCount)}" in found["args"]


def test_weights_come_from_the_hub_or_are_streamed_from_s3() -> None:
    assert container()["command"] == ["vllm", "serve"]
    named = {each["name"]: each.get("value") for each in container()["env"]}
    assert (named["AWS_REGION"], named["AWS_DEFAULT_REGION"]) == ("us-west-2", "us-west-2")
    assert named["RUNAI_STREAMER_MEMORY_LIMIT"] == "0"
    assert container()["args"][:3] == [
        "${schema.spec.weights == '' ? 's3://' + bucket.spec.name + '/' : schema.spec.weights}",
        "--load-format",
        "${schema.spec.weights == '' || schema.spec.weights.startsWith('s3://') ? 'runai_streamer' : 'auto'}",
    ]
    (document,) = templates()["role"]["spec"]["inlinePolicies"].values()
    assert [each["Action"] for each in json.loads(document)["Statement"]] == [["s3:ListBucket"], ["s3:GetObject"]]


def outcome(text: str, weights: str, expected: str) -> Outcome:
    """Whether the expressions in `text` give what is expected, by a CEL evaluator."""
    for root, variable in (("schema.spec.weights", "self.weights"), ("bucket.spec.name", "self.bucket")):
        text = text.replace(root, variable)
    parts = [f"({part})" if number % 2 else f"'{part}'" for number, part in enumerate(re.split(r"\$\{([^}]*)\}", text))]
    return judge({"rule": f"{' + '.join(parts)} == '{expected}'"}, {"weights": weights, "bucket": "own"}).outcome


def test_expressions_on_weights_say_what_is_loaded_how_and_from_which_bucket() -> None:
    model, _, how = container()["args"][:3]
    (document,) = templates()["role"]["spec"]["inlinePolicies"].values()
    (bucket,) = json.loads(document)["Statement"][0]["Resource"]
    for weights, loaded, by, read in (
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "auto", "own"),
        ("s3://lake/a/b/", "s3://lake/a/b/", "runai_streamer", "lake"),
        ("", "s3://own/", "runai_streamer", "own"),
    ):
        assert outcome(model, weights, loaded) is Outcome.HOLDS
        assert outcome(how, weights, by) is Outcome.HOLDS
        assert outcome(bucket, weights, f"arn:aws:s3:::{read}") is Outcome.HOLDS
    assert outcome(model, "", "s3://other/") is Outcome.BROKEN


def test_the_bucket_is_named_by_the_account_or_else_by_the_region() -> None:
    assert templates()["bucket"]["spec"]["name"] == "${schema.spec.modelName}-atelier-111122223333"
    assert templates("composition: {kro: true}")["bucket"]["spec"]["name"] == (
        "${schema.spec.modelName}-agentic-ai-cluster-us-west-2"
    )


def test_what_the_models_are_placed_on_places_the_stack() -> None:
    plan = Plan(loads(KRO), "karpenter")
    pod = templates()["server"]["spec"]["template"]["spec"]
    assert plan.stack is not None
    assert {key: pod[key] for key in ("affinity", "tolerations")} == plan.placement(plan.stack)


def test_it_scales_on_requests_where_keda_and_prometheus_are_and_on_cpu_otherwise() -> None:
    scaler = templates()["scaler"]
    assert scaler["kind"] == "ScaledObject"
    (trigger,) = scaler["spec"]["triggers"]
    where = '{namespace="${schema.metadata.namespace}",service="${service.metadata.name}"}'
    assert trigger["metadata"]["query"] == (
        f"sum(vllm:num_requests_running{where}) + sum(vllm:num_requests_waiting{where})"
    )
    assert trigger["metadata"]["serverAddress"] == "http://prometheus-operated.monitoring.svc:9090"
    assert templates()["monitor"]["kind"] == "ServiceMonitor"
    off = (
        "keda: {enabled: false}\n",
        "global: {observability: {prometheus: false}}\n",
        "global: {observability: {enabled: false}}\n",
    )
    for text in off:
        found = templates(text + "composition: {kro: true}")
        assert found["scaler"]["kind"] == "HorizontalPodAutoscaler"
        assert "monitor" not in found


def test_those_who_watch_may_ask_it_and_nobody_is_named_who_is_not_there() -> None:
    asked = {
        "": ["agentic-ai-monitoring", "monitoring"],
        "global: {observability: {prometheusUrl: http://prom.watch:9090}}\n": ["agentic-ai-monitoring", "watch"],
        "global: {observability: {enabled: false}}\n": [],
    }
    for text, namespaces in asked.items():
        (rule,) = templates(text + "composition: {kro: true}")["network"]["spec"]["ingress"]
        here, *others = rule["from"]
        assert here == {"podSelector": {}}
        label = "kubernetes.io/metadata.name"
        assert [each["namespaceSelector"]["matchLabels"][label] for each in others] == namespaces


def test_keys_of_keda_and_prometheus_are_followed() -> None:
    text = "keda: {pollingInterval: 7}\nglobal: {observability: {prometheusUrl: http://prom.watch:9090}}\n"
    spec = templates(text + "composition: {kro: true}")["scaler"]["spec"]
    assert spec["pollingInterval"] == 7
    assert spec["triggers"][0]["metadata"]["serverAddress"] == "http://prom.watch:9090"


def test_image_context_and_tags_are_those_of_the_spec() -> None:
    text = "global: {tags: {Team: ml}}\nllm: {inference: {image: vllm/vllm-openai:v0.11.2}, "
    found = text + "models: {m: {limits: {contextTokens: 4096}}}}\ncomposition: {kro: true}"
    assert container(found)["image"] == "vllm/vllm-openai:v0.11.2"
    assert "--max-model-len=4096" in container(found)["args"]
    assert templates(found)["identity"]["spec"]["tags"]["Team"] == "ml"
    assert {"key": "Team", "value": "ml"} in templates(found)["bucket"]["spec"]["tagging"]["tagSet"]


def test_the_instance_is_the_first_model_on_a_gpu_by_another_name() -> None:
    text = KRO + (
        "llm: {models: {small: {serving: {gpu: {count: 0}}}, "
        'large: {serving: {weights: Qwen/Qwen3-32B, gpu: {count: 4}, cpu: "8", memory: 60Gi}}}}\n'
        "karpenter: {nodePools: {gpu: {instanceFamilies: [g6, g5]}}}"
    )
    instance = objects(text)["AIInferenceStack"]
    assert (instance["apiVersion"], instance["metadata"]["name"]) == ("kro.run/v1alpha1", "stack-large")
    assert instance["metadata"]["namespace"] == "agentic-ai"
    assert instance["spec"] == {
        "modelName": "stack-large",
        "weights": "Qwen/Qwen3-32B",
        "minReplicas": 1,
        "maxReplicas": 2,
        "gpuCount": 4,
        "cpu": "8",
        "memory": "60Gi",
    }


def test_without_a_model_on_a_gpu_there_is_a_graph_and_no_instance() -> None:
    found = objects(KRO + "llm: {inference: {enabled: false}}")
    assert list(found) == ["ResourceGraphDefinition", "ClusterRole"]


def test_a_long_name_of_a_model_is_cut_to_what_the_schema_takes() -> None:
    text = KRO + f"llm: {{models: {{{'m' * 40}: {{}}}}}}"
    name = objects(text)["AIInferenceStack"]["spec"]["modelName"]
    assert len(name) == 24


def test_the_limits_of_the_pools_count_the_stack() -> None:
    def gpus(text: str) -> dict[str, str]:
        pools = Plan(loads(text), "karpenter").pools
        return {pool.name: pool.limits["nvidia.com/gpu"] for pool in pools if pool.use == "inference"}

    text = "llm: {models: {a: {replicas: {min: 1, max: 4}}, b: {replicas: {min: 1, max: 4}}}}\n"
    assert gpus(text) == {"gpu": "10", "gpu.a": "5", "gpu.b": "5"}
    assert gpus(text + "composition: {kro: true}") == {"gpu": "13", "gpu.a": "8", "gpu.b": "5"}


def test_kro_may_make_what_the_graph_holds() -> None:
    role = objects()["ClusterRole"]
    assert role["metadata"]["labels"]["rbac.kro.run/aggregate-to-controller"] == "true"
    allowed = {(group, name) for rule in role["rules"] for group in rule["apiGroups"] for name in rule["resources"]}
    stacks = {name for group, name in allowed if group == "kro.run"}
    assert stacks == {"aiinferencestacks", "aiinferencestacks/status", "aiinferencestacks/finalizers"}
    for text in (KRO, KRO + "keda: {enabled: false}"):
        for template in templates(text).values():
            group = template["apiVersion"].rpartition("/")[0]
            plural = template["kind"].lower().removesuffix("y") + ("ies" if template["kind"].endswith("y") else "s")
            assert (group, plural) in allowed
