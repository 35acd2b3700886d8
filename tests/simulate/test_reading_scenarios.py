"""Manifests to a scenario: our own, those of the guide, and people's own."""

import random
from pathlib import Path
from typing import Any

import pytest

from stoker.base.errors import InvalidInput
from stoker.manifests.reading import read, read_text
from stoker.policy.hpa import Behavior
from stoker.render.run import render
from stoker.simulate.reading import read_scenario
from stoker.simulate.scenario import Scenario, Workload
from stoker.spec import load

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "tests" / "lint" / "guide_right"
BY_HAND = ROOT / "examples" / "by-hand"

SERVER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: chat, namespace: ai}
spec:
  template:
    metadata: {labels: {app: chat}}
    spec:
      containers:
      - name: engine
        image: vllm/vllm-openai:v0.11.2
        args: [--model, Qwen/Qwen3-8B]
        resources: {limits: {nvidia.com/gpu: 1}}
        readinessProbe: {httpGet: {path: /health, port: 8000}}
"""


def scenario(*texts: str, **more: object) -> Scenario:
    return read_scenario(read_text("\n---\n".join(texts)).manifests, **more)  # type: ignore[arg-type]


def served(found: Scenario, model: str) -> Workload:
    (only,) = [each for each in found.workloads if each.serving is not None and each.serving.model == model]
    return only


def rendered(tmp_path: Path, example: str | None = None, mode: str | None = None) -> Scenario:
    texts = render(load(ROOT / "examples" / example) if example else load(None), mode=mode)
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_scenario(read([str(tmp_path)]).manifests)


# --- our own ----------------------------------------------------------------------------------------------------------


def test_what_render_writes_by_default(tmp_path: Path) -> None:
    found = rendered(tmp_path)
    assert found.models == ("code", "general", "vision")
    assert (found.region, found.zones) == ("us-west-2", ("us-west-2a", "us-west-2b", "us-west-2c"))
    assert found.default_model == "general"
    assert [pool.view.name for pool in found.pools] == ["general", "gpu.code", "gpu.general", "gpu.vision", "gpu"]
    code = served(found, "code")
    assert code.serving is not None
    assert (code.name, code.replicas) == ("Deployment agentic-ai/model-code", 1)
    assert (code.serving.weights, code.serving.gpus) == ("Qwen/Qwen2.5-Coder-7B-Instruct", 1)
    assert (code.serving.dispatch, code.serving.concurrency, code.serving.max_model_len) == ("queue", 8, 2048)
    assert (code.load.prestop_s, code.load.drains, code.load.weights_from) == (5.0, True, "hub")
    assert (code.shape.grace_s, code.shape.priority) == (105.0, 500_000)
    assert {each.name for each in found.workloads if each.serving is None} == {
        "Deployment agentic-ai/gateway",
        "Deployment agentic-ai/node-watcher",
        "StatefulSet agentic-ai/ledger",
        "StatefulSet agentic-ai/redis",
        "StatefulSet agentic-ai/redis-replica",
    }
    assert len(found.budgets) == 7
    assert {each.name for each in found.daemons} == {
        "DaemonSet kube-system/nvidia-device-plugin",
        "DaemonSet agentic-ai-monitoring/dcgm-exporter",
    }


def test_its_scalers_read_what_waits_and_what_runs(tmp_path: Path) -> None:
    scaler = next(each for each in rendered(tmp_path).scalers if each.target == "Deployment agentic-ai/model-code")
    assert {name: signal.kind for name, signal in scaler.signals.items()} == {
        "waiting": "waiting",
        "running": "in_flight",
    }
    assert scaler.signals["running"].delay_s == 15.0  # of its PodMonitors
    assert scaler.scaled is not None
    assert [(each.name, each.target) for each in scaler.scaled.triggers] == [("waiting", 8000), ("running", 6000)]
    assert (scaler.scaled.minimum, scaler.scaled.maximum) == (1, 50)
    assert scaler.scaled.behavior == Behavior()


def test_a_platform_with_everything(tmp_path: Path) -> None:
    found = rendered(tmp_path, "everything.yaml")
    assert found.models == ("code", "general", "giant", "large", "vision")
    giant = served(found, "giant")
    assert giant.serving is not None
    assert (giant.kind, giant.pods_per_replica, giant.serving.gpus) == ("LeaderWorkerSet", 2, 16)
    # Its argument is a place in S3, and a Job says what it puts there.
    assert (giant.serving.weights, giant.load.weights_from) == ("deepseek-ai/DeepSeek-R1", "s3")
    assert giant.shape.requests["nvidia.com/gpu"] == 8
    # What agents ask of models is in the trace; what runs them takes room on nodes, and nothing scales it here.
    agents = [each for each in found.workloads if each.name.rpartition("/")[2] in ("agents", "agent-worker")]
    assert [(each.name, each.replicas, each.serving) for each in agents] == [
        ("Deployment agentic-ai/agent-worker", 1, None),
        ("Deployment agentic-ai/agents", 2, None),
    ]
    general = next(each for each in found.scalers if each.target.endswith("model-general"))
    assert {name: signal.kind for name, signal in general.signals.items()} == {
        "waiting": "waiting",
        "pending": "pending",
        "running": "in_flight",
        "sqs": "unknown",  # a queue of the user's own, and the requests wait in the stream
        "cloudwatch": "waiting",
    }
    assert general.signals["sqs"].otherwise == 0
    assert general.signals["cloudwatch"].delay_s == 60.0
    large = next(pool for pool in found.pools if pool.view.name == "large.large")
    assert (large.volume.size_gib, large.volume.uses_instance_store, large.is_auto_mode) == (500, True, False)
    said = "\n".join(found.notes)
    assert "Deployment agentic-ai/model-tiny: it serves a model without a GPU" in said
    assert "Deployment agentic-ai/worker-hosted: its workers send what they take to an engine elsewhere" in said
    assert "weights-general-7e7a72" in said
    assert "ResourceGraphDefinition ai-inference-stack, which makes it when it is asked to" in said


@pytest.mark.parametrize(("mode", "auto"), [("auto", 7), ("hybrid", 3)])
def test_auto_mode_brings_pools_of_its_own(tmp_path: Path, mode: str, auto: int) -> None:
    found = rendered(tmp_path, mode=mode)
    own = [pool.view.name for pool in found.pools if pool.is_auto_mode]
    assert len(own) == auto
    assert own[-2:] == ["general-purpose", "system"]
    assert any("general-purpose and system are taken to be enabled" in note for note in found.notes)
    if mode == "auto":
        gpu = next(pool for pool in found.pools if pool.view.name == "gpu")
        assert (gpu.volume.size_gib, gpu.volume.throughput_mibs) == (200, 750)


# --- the guide's, and people's own ------------------------------------------------------------------------------------


def test_the_guide_corrected_serves_two_models_of_which_the_weights_are_not_known() -> None:
    found = read_scenario(read([str(GUIDE)]).manifests)
    assert found.models == ("chat", "general")
    chat = served(found, "chat")
    assert chat.serving is not None
    assert (chat.serving.weights, chat.serving.dispatch, chat.load.weights_from) == ("", "queue", "volume")
    assert found.zones == ("us-west-2a", "us-west-2b", "us-west-2c", "us-west-2d")
    said = "\n".join(found.notes)
    assert "Deployment ai/chat: taken to serve the model chat, since it has GPUs" in said
    assert "the metric ChatLatency of CloudWatch is not one that is known here" in said
    assert "requests are taken to wait in the first queue, redis-streams chat-tasks" in said
    assert "requests that name no model go to general, by its name" in said


def test_manifests_written_by_hand_after_the_guide() -> None:
    found = read_scenario(read([str(BY_HAND)]).manifests)
    assert found.models == ("code", "general", "vision")
    general, code = served(found, "general").serving, served(found, "code").serving
    assert general is not None
    assert code is not None
    assert (general.dispatch, general.concurrency, general.memory_share) == ("queue", 32, 0.92)
    assert (code.dispatch, code.concurrency, code.max_model_len) == ("balance", 48, 16384)
    assert (served(found, "code").load.prestop_s, served(found, "code").load.drains) == (10.0, True)
    assert {each.name: [one.kind for one in each.signals.values()] for each in found.scalers} == {
        "ScaledObject agentic-ai/llm-general": ["waiting", "pending"],
        "ScaledObject agentic-ai/llm-code": ["in_flight"],
        "ScaledObject agentic-ai/llm-vision": ["in_flight"],
    }
    assert [(pool.view.name, pool.volume.throughput_mibs, pool.volume.iops) for pool in found.pools] == [
        ("llm-general", 1000, 16000),
        ("llm-code", 1000, 16000),
        ("llm-vision", 1000, 16000),
    ]
    assert len(found.budgets) == 3


def test_one_deployment_is_enough_and_what_is_missing_is_said() -> None:
    found = scenario(SERVER)
    assert (found.models, found.region, found.zones) == (
        ("Qwen/Qwen3-8B",),
        "us-east-1",
        ("us-east-1a", "us-east-1b", "us-east-1c"),
    )
    assert found.notes == (
        "no NodePool is in sight, and no node group is given: no pod finds a node",
        "no zone, ConfigMap or resource says which region this is: us-east-1 (--region)",
        "no pool names a zone of us-east-1: us-east-1a, us-east-1b, us-east-1c are taken, as if its subnets were there",
    )


SCALED = """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: chat, namespace: ai}
spec:
  scaleTargetRef: {name: chat}
  pollingInterval: 10
  triggers: [{type: redis, metadata: {listName: work, listLength: "8", activationListLength: "1"}}]
"""
NODES = """
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: gpu}
spec:
  disruption: {consolidationPolicy: WhenEmpty, consolidateAfter: 5m, budgets: [{nodes: 20%}]}
  template:
    spec:
      expireAfter: 48h
      nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
      requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [g6]}]
---
apiVersion: karpenter.k8s.aws/v1
kind: EC2NodeClass
metadata: {name: gpu}
spec: {blockDeviceMappings: [{deviceName: /dev/xvda, ebs: {volumeSize: 200Gi}}]}
"""


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("spec:\n  template:\n    metadata", "spec:\n  replicas: -3\n  template:\n    metadata",
         "Deployment ai/chat: spec.replicas -3 would be refused; 0 is taken"),
        ("spec:\n  template:\n    metadata", "spec:\n  replicas: two\n  template:\n    metadata",
         "Deployment ai/chat: spec.replicas two would be refused; 1 is taken"),
        ("pollingInterval: 10", "pollingInterval: 0",
         "ScaledObject ai/chat: spec.pollingInterval 0 would be refused; 30 is taken"),
        ('listLength: "8"', "listLength: abc",
         "ScaledObject ai/chat: spec.triggers[0].metadata.listLength abc would be refused; 5 is taken"),
        ('activationListLength: "1"', "activationListLength: few",
         "ScaledObject ai/chat: spec.triggers[0].metadata.activationListLength few would be refused; 0 is taken"),
        ("Qwen/Qwen3-8B]", "Qwen/Qwen3-8B, --max-model-len=0]",
         "Deployment ai/chat: with --max-model-len 0 its engine would not start; the model's own length is taken"),
        ("Qwen/Qwen3-8B]", "Qwen/Qwen3-8B, --max-num-seqs=0]",
         "Deployment ai/chat: with --max-num-seqs 0 its engine would not start; 256 is taken"),
        ("Qwen/Qwen3-8B]", 'Qwen/Qwen3-8B, --gpu-memory-utilization, "1.2"]',
         "Deployment ai/chat: with --gpu-memory-utilization 1.2 its engine would not start; 0.9 is taken"),
        ("Policy: WhenEmpty", "Policy: Foo",
         "NodePool gpu: spec.disruption.consolidationPolicy Foo would be refused; WhenEmptyOrUnderutilized is taken"),
        ("expireAfter: 48h", "expireAfter: banana",
         "NodePool gpu: spec.template.spec.expireAfter banana would be refused; 720h is taken"),
        ("consolidateAfter: 5m", "consolidateAfter: soon",
         "NodePool gpu: spec.disruption.consolidateAfter soon would be refused; 0s is taken"),
        ("nodes: 20%", "nodes: x%",
         "NodePool gpu: spec.disruption.budgets[0].nodes x% would be refused; it is left out"),
        ("nodes: 20%", "nodes: 20%, duration: 1h",
         'NodePool gpu: spec.disruption.budgets[0] {"nodes": "20%", "duration": "1h"} would be refused; it is left '
         "out"),
    ],
)  # fmt: skip
def test_what_would_be_refused_is_said_with_what_is_taken(right: str, wrong: str, said: str) -> None:
    texts = (SERVER, SCALED, NODES)
    assert sum(text.count(right) for text in texts) == 1
    before, after = scenario(*texts).notes, scenario(*(text.replace(right, wrong) for text in texts)).notes
    assert [each for each in after if each not in before] == [said]


CACHE = """
        volumeMounts: [{name: cache, mountPath: /root/.cache/huggingface}]
      volumes: [{name: cache, %s}]
"""


@pytest.mark.parametrize(
    ("server", "nodes", "taken"),
    [
        # 20 GB of vLLM and 16.4 GB of Qwen3-8B.
        (SERVER, NODES.replace("200Gi", "30Gi"), "33.9 GiB unpacked, and the root volume of NodePool gpu has 30 GiB"),
        (SERVER, NODES.partition("spec: {block")[0], "33.9 GiB unpacked, and the root volume of NodePool gpu has 20"),
        (SERVER.rstrip() + CACHE % "emptyDir: {}", NODES.replace("200Gi", "30Gi"), "33.9 GiB unpacked"),
        (SERVER.rstrip() + CACHE % "persistentVolumeClaim: {claimName: a}", NODES.replace("200Gi", "30Gi"), ""),
        (SERVER.rstrip() + CACHE % "persistentVolumeClaim: {claimName: a}", NODES.replace("200Gi", "10Gi"), "18.6 GiB"),
        (SERVER.replace("Qwen/Qwen3-8B", "s3://models/Qwen3-8B"), NODES.replace("200Gi", "30Gi"), ""),  # streamed
        (SERVER, NODES.replace("{block", "{instanceStorePolicy: RAID0, block").replace("200Gi", "30Gi"), ""),
        (SERVER, NODES.replace("200Gi", "30Gi").replace("[g6]", "[m7i]"), ""),  # it does not run there
        (SERVER, NODES.replace("200Gi", "34Gi"), ""),
    ],
)
def test_a_root_volume_that_does_not_hold_images_and_weights_is_said(server: str, nodes: str, taken: str) -> None:
    said = [each for each in scenario(server, nodes).notes if "GiB" in each]
    assert len(said) == bool(taken)
    assert all(each.startswith("Deployment ai/chat: images and weights of a pod take ") for each in said)
    assert taken in "".join(said)


def test_a_region_that_is_asked_for_goes_before_what_is_written() -> None:
    assert scenario(SERVER, region="eu-west-1").zones == ("eu-west-1a", "eu-west-1b", "eu-west-1c")


def test_a_region_that_a_container_names_is_found() -> None:
    text = SERVER.replace("resources:", "env: [{name: AWS_REGION, value: eu-central-1}]\n        resources:")
    assert scenario(text).region == "eu-central-1"


def test_of_two_objects_with_one_name_the_last_counts() -> None:
    found = scenario(SERVER, SERVER.replace("Qwen/Qwen3-8B", "Qwen/Qwen3-4B"))
    assert found.models == ("Qwen/Qwen3-4B",)
    assert "Deployment ai/chat is there more than once: the last one counts" in found.notes


def test_what_makes_pods_and_serves_nobody_is_passed_over_by_name() -> None:
    job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: fill}\nspec: {template: {spec: {containers: [{name: a}]}}}"
    service = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: llama}\nspec: {}"
    found = scenario(SERVER, job, service)
    assert "passed over: Job fill: Jobs end by themselves and serve nobody" in found.notes
    assert any(note.startswith("passed over: InferenceService llama: KServe makes its pods") for note in found.notes)


def test_many_with_one_reason_are_one_line() -> None:
    jobs = [
        f"apiVersion: batch/v1\nkind: Job\nmetadata: {{name: j{i}}}\nspec: {{template: {{spec: {{containers: []}}}}}}"
        for i in range(6)
    ]
    assert "passed over: Job j0, Job j1, Job j2, Job j3 and 2 more: Jobs end by themselves and serve nobody" in (
        scenario(SERVER, *jobs).notes
    )


def test_the_default_model_can_be_named_and_has_to_be_there() -> None:
    other = SERVER.replace("name: chat", "name: code").replace("Qwen/Qwen3-8B", "Qwen/Qwen3-4B")
    assert scenario(SERVER, other).default_model == "Qwen/Qwen3-8B"
    assert scenario(SERVER, other, default_model="Qwen/Qwen3-4B").default_model == "Qwen/Qwen3-4B"
    with pytest.raises(InvalidInput, match="no workload serves the model gpt") as caught:
        scenario(SERVER, default_model="gpt")
    assert caught.value.hint == "the models here: Qwen/Qwen3-8B"


def test_where_nothing_says_the_default_it_is_the_model_with_the_usual_name_else_the_first() -> None:
    def server(model: str) -> str:
        own = f"[--model, Qwen/Qwen3-8B, --served-model-name, {model}]"
        return SERVER.replace("name: chat", f"name: {model}").replace("[--model, Qwen/Qwen3-8B]", own)

    def chosen(*models: str) -> tuple[str, str]:
        found = scenario(*(server(each) for each in models))
        return found.default_model, next((each for each in found.notes if "name no model" in each), "")

    assert chosen("code", "default", "general")[0] == "general"
    assert chosen("code", "default") == (
        "default",
        "requests that name no model go to default, by its name (--to says another)",
    )
    assert chosen("code", "all") == (
        "code",
        "requests that name no model go to code, the first that is served (--to says another)",
    )
    assert chosen("code") == ("code", "")


def test_weights_can_be_named_where_nothing_says_them() -> None:
    own = SERVER.replace("vllm/vllm-openai:v0.11.2", "own:1").replace("[--model, Qwen/Qwen3-8B]", "[]")
    found = served(scenario(own, weights={"chat": "Qwen/Qwen3-8B"}), "chat").serving
    assert found is not None
    assert found.weights == "Qwen/Qwen3-8B"
    with pytest.raises(InvalidInput, match="no workload serves the model code"):
        scenario(own, weights={"code": "Qwen/Qwen3-8B"})


def test_daemons_with_gpus_are_no_replicas() -> None:
    daemon = SERVER.replace("Deployment", "DaemonSet").replace("name: chat", "name: every")
    found = scenario(SERVER, daemon)
    assert [each.name for each in found.daemons] == ["DaemonSet ai/every"]
    assert found.notes[0].startswith("DaemonSet ai/every has GPUs")


def test_without_manifests_there_is_nothing_to_simulate() -> None:
    with pytest.raises(InvalidInput, match="there are no manifests to simulate"):
        read_scenario([])


def test_without_a_model_it_says_what_was_looked_for_and_what_is_there() -> None:
    web = SERVER.replace("nvidia.com/gpu: 1", "cpu: 1").replace("vllm/vllm-openai:v0.11.2", "nginx")
    with pytest.raises(InvalidInput) as caught:
        scenario(web, "apiVersion: v1\nkind: Service\nmetadata: {name: web}")
    assert "none of the manifests serves a model" in caught.value.message
    assert "There are: 1 Deployment, 1 Service" in caught.value.message
    with pytest.raises(InvalidInput, match="it serves a model without a GPU"):
        scenario(SERVER.replace("nvidia.com/gpu: 1", "cpu: 1"))


@pytest.mark.parametrize("seed", range(4))
def test_broken_objects_are_read_as_far_as_they_go(seed: int) -> None:
    """Whatever a field holds, nothing but InvalidInput comes of it."""
    chance = random.Random(seed)
    manifests = [*read([str(BY_HAND)]).manifests, *read([str(GUIDE)]).manifests]
    for _ in range(60):
        victim = chance.choice(manifests)
        _break(victim.data, chance)
        try:
            read_scenario(manifests)
        except InvalidInput:
            continue


def _break(tree: Any, chance: random.Random) -> None:
    """Put something else in place of one value, somewhere in it."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
        if not keys:
            return
        key = chance.choice(keys)
        if not isinstance(tree[key], dict | list) or not tree[key] or chance.random() < 0.2:
            if key not in ("kind", "apiVersion"):
                tree[key] = chance.choice([None, 7, -1, "x", "", [], {}, True, [1], {"a": 1}, 2.5])
            return
        tree = tree[key]


def test_a_provisioner_is_named_as_too_old() -> None:
    found = scenario(SERVER, "apiVersion: karpenter.sh/v1alpha5\nkind: Provisioner\nmetadata: {name: gpu}\n")

    said = [each for each in found.notes if "Provisioner" in each]
    assert said == [
        "passed over: Provisioner gpu: Karpenter's v1alpha5 is too old to be read: write it as a NodePool of "
        "karpenter.sh/v1"
    ]
