"""What all components go by."""

import pytest

from stoker import __version__
from stoker.base.errors import InvalidInput, SpecInvalid
from stoker.catalog.labels import AUTO_MODE, AWS
from stoker.policy.scaled import scaled_object
from stoker.render.facts import short
from stoker.render.plan import Plan
from stoker.spec import Mode, loads


def plan(text: str = "", mode: Mode = "karpenter") -> Plan:
    return Plan(loads(text), mode)


ACCOUNT = 'global: {cluster: {name: Atelier_1, account: "111122223333"}}'


def test_names_that_need_an_account_are_none_without_one() -> None:
    assert plan().bucket("models") is None
    assert plan(ACCOUNT).bucket("models") == "atelier-1-models-111122223333"
    assert plan(ACCOUNT).bucket("checkpoints") == "atelier-1-checkpoints-111122223333"
    assert plan("training: {checkpointing: {s3Bucket: mine}}").bucket("checkpoints") == "mine"


def test_weights_are_streamed_where_there_is_a_bucket_to_stream_from() -> None:
    assert plan().cache == "node"
    assert plan(ACCOUNT).cache == "s3"
    assert plan("llm: {inference: {cache: {bucket: weights}}}").cache == "s3"
    assert plan(ACCOUNT + "\nllm: {inference: {cache: {kind: efs, fileSystem: fs-0123abcd}}}").cache == "efs"


def test_our_own_images() -> None:
    assert plan().image("gateway") == f"stoker/gateway:{__version__}"
    assert plan(ACCOUNT).image("worker") == f"111122223333.dkr.ecr.us-west-2.amazonaws.com/stoker/worker:{__version__}"
    said = plan("global: {images: {registry: registry.example.com/x, tag: 1.2.0}}")
    assert said.image("trainer") == "registry.example.com/x/trainer:1.2.0"


@pytest.mark.parametrize(
    ("region", "partition"), [("us-west-2", "aws"), ("us-gov-west-1", "aws-us-gov"), ("cn-north-1", "aws-cn")]
)
def test_the_partition_follows_from_the_region(region: str, partition: str) -> None:
    assert plan(f"global: {{cluster: {{region: {region}}}}}").partition == partition


def test_who_makes_the_nodes() -> None:
    uses = ("inference", "training", "general")
    assert [plan(mode="karpenter").domain(use) for use in uses] == [AWS, AWS, AWS]
    assert [plan(mode="auto").domain(use) for use in uses] == [AUTO_MODE, AUTO_MODE, AUTO_MODE]
    assert [plan(mode="hybrid").domain(use) for use in uses] == [AWS, AWS, AUTO_MODE]


def test_zones_are_a_b_and_c_of_the_region_unless_they_are_said() -> None:
    assert plan("global: {cluster: {region: eu-west-1}}").zones == ("eu-west-1a", "eu-west-1b", "eu-west-1c")
    assert plan("global: {cluster: {zones: [us-west-2d]}}").zones == ("us-west-2d",)


MODELS = """\
llm:
  inference: {cpu: "3", memory: 11Gi}
  models:
    chat: {task: general, replicas: {min: 0, max: 4}}
    tiny: {serving: {gpu: {count: 0}, cpu: 500m}}
    away: {engine: {url: "https://api.example.com/v1"}}
    own: {serving: {weights: "s3://bucket/own", image: "mine:v1", memory: 12Gi}, replicas: {min: 2, max: 2}}
gateway: {defaultModel: chat}
"""


def test_what_the_cluster_serves() -> None:
    made = plan(MODELS)
    assert [each.name for each in made.served] == ["chat", "tiny", "own"]
    assert made.hosted == ("away",)
    chat, tiny, own = made.served
    assert (chat.weights, chat.image, chat.cpu, chat.memory) == (
        "Qwen/Qwen3-8B",
        "vllm/vllm-openai:v0.11.2",
        "3",
        "11Gi",
    )
    assert (chat.is_scaled, own.is_scaled) == (True, False)
    assert (own.weights, own.image, own.memory) == ("s3://bucket/own", "mine:v1", "12Gi")
    assert (tiny.is_on_gpu, tiny.pool, tiny.image) == (False, "", made.image("worker"))
    assert chat.requests == {"cpu": 3250, "memory": int(11.5 * 1024**3), "nvidia.com/gpu": 1}


def test_a_model_runs_on_its_own_nodes_and_on_those_that_models_share() -> None:
    made = plan("llm: {models: {general: {}, code: {serving: {gpu: {sharing: time-slicing}}}}}")
    wanted = {}
    for each in made.served:
        affinity = made.placement(each)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        wanted[each.name] = affinity["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]
    assert wanted == {"general": ["model.general", "models.gpu"], "code": ["model.code"]}
    assert {pool.name: pool.serves for pool in made.pools} == {
        "gpu": "models.gpu",
        "gpu.general": "model.general",
        "gpu.code": "model.code",
        "general": "cpu",
    }


def test_without_karpenter_nothing_is_said_of_nodes() -> None:
    made = plan("karpenter: {enabled: false}")
    assert made.pools == ()
    assert made.general_placement() == {}
    assert list(made.placement(made.served[0])) == ["tolerations"]


def test_a_model_for_gpus_needs_a_pool() -> None:
    text = "karpenter: {nodePools: {gpu: {enabled: false}}}"
    with pytest.raises(InvalidInput, match="no pool for inference that is enabled"):
        _ = plan(text).pools


def test_names_that_are_too_long_are_cut_and_stay_apart() -> None:
    assert short("a", "", "b") == "a-b"
    one, other = short("x" * 70, "1"), short("x" * 70, "2")
    assert one != other
    assert {len(one), len(other)} == {63}


def test_batch_alone_has_no_pool_for_training() -> None:
    """It has machines of its own; a pool that nothing runs on would say otherwise."""
    training = "training: {enabled: true, kubeflow: %s, checkpointing: {s3Bucket: some-bucket}}\n"
    text = f"{training}llm: {{inference: {{gpu: {{count: 0}}}}}}"
    uses = [[pool.use for pool in Plan(loads(text % value), "karpenter").pools] for value in ("true", "false")]
    assert uses == [["training", "general"], ["general"]]


CLUSTER_LIMITS = """\
llm:
  models:
    general: {serving: {limits: {contextTokens: 32768, maxOutputTokens: 4096, concurrency: 64}}}
"""


def test_a_model_may_take_more_in_the_cluster_than_the_embedded_engine_holds() -> None:
    made = plan(CLUSTER_LIMITS)
    assert made.spec.llm.models["general"].limits.context_tokens == 2048
    limits = made.served[0].model.limits
    assert (limits.context_tokens, limits.concurrency) == (32768, 64)
    waiting = scaled_object(made.spec, "general", "cluster").triggers[0]
    assert (waiting.name, waiting.target) == ("waiting", 64_000)
    assert scaled_object(made.spec, "general", "here").triggers[0].target == 8_000


def test_not_on_a_cpu_where_the_embedded_engine_serves_it() -> None:
    with pytest.raises(SpecInvalid, match="32768 is more than the embedded engine can hold"):
        plan(CLUSTER_LIMITS + "  inference: {gpu: {count: 0}}\n")
