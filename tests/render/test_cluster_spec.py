"""platform.yaml as the processes in the cluster read it."""

import pytest
from rendered import plan_of

from stoker.base.errors import InvalidInput
from stoker.render.cluster_spec import platform_yaml
from stoker.spec import Platform, ServerEngine, loads

MODELS = """\
global: {cluster: {namespace: ai}}
llm:
  models:
    general:
      aliases: [gpt-4o]
      prices: {inputUsdPerMillionTokens: 1, cachedInputUsdPerMillionTokens: 0.5, outputUsdPerMillionTokens: 2}
    small: {serving: {gpu: {count: 0}}}
    far: {engine: {url: "https://api.example.com/v1", apiKeyEnv: FAR_KEY}}
"""


def in_cluster(text: str = "") -> Platform:
    return loads(platform_yaml(plan_of(text)))


def test_vllm_stands_for_the_embedded_engine_on_gpus_and_nowhere_else() -> None:
    models = in_cluster(MODELS).llm.models
    assert models["general"].engine == ServerEngine(
        url="http://model-general.ai.svc:8000/v1", model="general", api_key_env="STOKER_ENGINE_KEY", continues=True
    )
    assert models["small"].engine == "embedded"
    assert models["far"].engine == ServerEngine(url="https://api.example.com/v1", api_key_env="FAR_KEY")


def test_what_the_file_says_of_a_model_stays() -> None:
    before, after = loads(MODELS).llm.models["general"], in_cluster(MODELS).llm.models["general"]
    assert (after.aliases, after.prices, after.limits) == (before.aliases, before.prices, before.limits)


def test_the_bound_on_a_request_is_that_of_the_engine_that_answers() -> None:
    """The embedded engine's chat template is 2 tokens; vLLM's may be 64."""
    assert in_cluster(MODELS).llm.models["general"].prompt_overhead_tokens == 64
    assert in_cluster(MODELS).llm.models["small"].prompt_overhead_tokens == 2


def test_the_gateway_listens_on_its_pods_address_whatever_the_laptop_says() -> None:
    gateway = in_cluster("gateway: {host: 127.0.0.1, port: 9999}").gateway
    assert (gateway.host, gateway.port) == ("0.0.0.0", 8080)


def test_the_mode_is_the_one_that_was_rendered() -> None:
    written = "global: {cluster: {mode: karpenter, name: prod}}"
    found = loads(platform_yaml(plan_of(written, "auto"))).global_.cluster
    assert (found.mode, found.name) == ("auto", "prod")


def test_redis_and_the_ledger_are_where_pods_reach_them() -> None:
    found = in_cluster("global: {cluster: {namespace: ai}}")
    assert found.redis.url == "redis://redis.ai.svc.cluster.local:6379/0"
    assert found.redis.password_env == "STOKER_REDIS_PASSWORD"
    assert found.ledger.url == "postgresql://stoker@ledger.ai.svc.cluster.local:5432/stoker"
    assert found.ledger.password_env == "STOKER_LEDGER_PASSWORD"


def test_servers_of_your_own_stay_and_their_passwords_have_the_pods_names() -> None:
    text = (
        "redis: {url: 'rediss://redis.example.com:6380/1', passwordEnv: MINE}\n"
        "ledger: {url: 'postgresql://me@db.example.com/x', passwordEnv: MINE, retentionDays: 90}"
    )
    found = in_cluster(text)
    assert (found.redis.url, found.redis.password_env) == ("rediss://redis.example.com:6380/1", "STOKER_REDIS_PASSWORD")
    assert (found.ledger.url, found.ledger.password_env) == (
        "postgresql://me@db.example.com/x",
        "STOKER_LEDGER_PASSWORD",
    )
    assert found.ledger.retention_days == 90


def test_rds_has_an_address_that_only_aws_knows() -> None:
    found = in_cluster("composition: {ack: {rds: true}}").ledger
    assert (found.url, found.password_env) == (None, None)


def test_models_are_as_they_are_where_the_cluster_serves_none() -> None:
    assert in_cluster("llm: {inference: {enabled: false}}").llm.models["general"].engine == "embedded"


def test_one_that_no_configmap_holds_is_refused() -> None:
    tenants = "tenants:\n" + "".join(f"  tenant-{number}: {{description: {'x' * 240}}}\n" for number in range(3750))
    with pytest.raises(InvalidInput, match="a ConfigMap holds 1000000"):
        platform_yaml(plan_of(tenants))


def test_weights_of_a_laptop_stay_there() -> None:
    models = "{general: {weights: 'models:a'}, small: {weights: 'models:b', serving: {gpu: {count: 0}}}}"
    made = in_cluster(f"llm: {{models: {models}}}").llm.models
    assert [made[name].weights for name in ("general", "small")] == [None, None]
