"""The models of the cluster: pods, weights, leaving, and that the command lines are those of the programs."""

import json
import sys
import time
import types
import urllib.request
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rendered_models import comments, container, env, findings, objects, plan, pod_of

from stoker.base.errors import InvalidInput
from stoker.engine import __main__ as engine_program
from stoker.manifests.quantities import bytes_of, cpu_milli
from stoker.render import models_scripts, network
from stoker.render.items import Resource
from stoker.render.models_weights import s3_urls
from stoker.spec import Mode
from stoker.worker import __main__ as worker_program

ACCOUNT = 'global: {cluster: {name: c, account: "111122223333"}}\n'
CPU = "llm: {inference: {gpu: {count: 0}, cpu: 500m, memory: 1Gi}}"
ON_DEMAND = "karpenter: {nodePools: {gpu: {instanceFamilies: [g5, g6], spotEnabled: false}}}\n"
GIANT = """\
llm:
  models:
    giant:
      replicas: {min: 0, max: 2}
      serving: {nodes: 2, gpu: {count: 8, memory: 320Gi}, cpu: "60", memory: 300Gi, weights: org/giant}
"""


def value(args: list[str], option: str) -> str:
    return args[args.index(option) + 1]


def vllm(text: str, name: str = "general") -> dict[str, Any]:
    return container(pod_of(objects(plan(text))[f"Deployment model-{name}"]), "engine")


# --- the programs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "grace"), [("", 90), (CPU, 120), ("llm: {models: {h: {engine: {url: 'https://h.example.com/v1'}}}}", 120)]
)
def test_the_worker_takes_the_arguments_that_it_is_given(text: str, grace: float) -> None:
    for key, each in objects(plan(text)).items():
        if not key.startswith("Deployment"):
            continue
        worker = container(pod_of(each), "worker")
        assert worker["command"] == ["python", "-m", "stoker.worker"]
        options = worker_program.arguments([*worker["args"], "--redis", "redis://127.0.0.1"])
        assert options.spec == Path("/etc/stoker/platform.yaml")
        assert options.model == key.split("-", 1)[1]
        assert options.replica == "$(POD_NAME)"
        assert options.grace == grace


def test_gateways_are_told_the_pods_own_address() -> None:
    on_gpu = container(pod_of(objects(plan())["Deployment model-general"]), "worker")
    on_cpu = container(pod_of(objects(plan(CPU))["Deployment model-general"]), "worker")
    assert value(on_gpu["args"], "--engine-url") == "http://$(POD_IP):8000/v1"
    assert value(on_cpu["args"], "--engine-url") == "http://$(POD_IP):8000"
    assert env(on_gpu)["POD_IP"] == "status.podIP"
    assert env(on_gpu)["POD_NAME"] == "metadata.name"
    assert env(on_gpu)["STOKER_ENGINE_KEY"] == "engine/key"
    assert list(env(on_gpu)).index("STOKER_REDIS_PASSWORD") < list(env(on_gpu)).index("STOKER_REDIS_URL")


def test_without_a_gpu_it_is_the_embedded_engine() -> None:
    see = "{task: vision, limits: {concurrency: 3, contextTokens: 1024}}"
    text = f"llm: {{inference: {{gpu: {{count: 0}}, cpu: 500m, memory: 1Gi}}, models: {{see: {see}}}}}"
    deployment = objects(plan(text))["Deployment model-see"]
    engine = container(pod_of(deployment), "engine")
    assert engine["command"] == ["python", "-m", "stoker.engine"]
    assert engine["image"] == plan(text).image("worker")
    assert env(engine) == {"STOKER_ENGINE_KEY": "engine/key"}
    said = engine_program._arguments(engine["args"])
    assert (said.model, said.task, said.context, said.max_running) == ("see", "vision", 1024, 3)
    assert (said.host, said.port) == ("0.0.0.0", 8000)
    assert "nvidia.com/gpu" not in json.dumps(deployment)
    assert pod_of(deployment)["nodeSelector"] == {"stoker.dev/serves": "cpu"}


def test_vllm_is_told_what_the_spec_says() -> None:
    text = """\
llm:
  inference: {image: "vllm/vllm-openai:v0.11.1"}
  models:
    general:
      limits: {contextTokens: 4096, concurrency: 12}
      serving: {weights: org/some, gpu: {count: 4, memory: 96Gi}, cpu: "8", memory: 64Gi, args: ["--quantization=fp8"]}
"""
    engine = vllm(text)
    args = engine["args"]
    assert engine["command"] == ["vllm", "serve"]
    assert engine["image"] == "vllm/vllm-openai:v0.11.1"
    assert args[0] == "org/some"
    assert value(args, "--served-model-name") == "general"
    assert value(args, "--max-model-len") == "4096"
    assert value(args, "--max-num-seqs") == "12"
    assert value(args, "--tensor-parallel-size") == "4"
    assert value(args, "--port") == "8000"
    assert args[-1] == "--quantization=fp8"
    assert env(engine)["VLLM_API_KEY"] == "engine/key"
    assert engine["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": 4}


def test_an_image_may_not_count_for_more_than_what_is_reserved_for_it() -> None:
    vision = (
        "llm: {models: {see: {task: vision, limits: {contextTokens: 4096, maxOutputTokens: 1024, imageTokens: 500}%s}}}"
    )
    qwen = vllm(vision % "", "see")["args"]
    assert json.loads(value(qwen, "--limit-mm-per-prompt")) == {"image": 6, "video": 0}
    assert json.loads(value(qwen, "--mm-processor-kwargs")) == {"max_pixels": 392_000}
    other = vllm(vision % ", serving: {weights: org/sees}", "see")["args"]
    assert "--mm-processor-kwargs" not in other
    assert "--limit-mm-per-prompt" not in vllm("")["args"]


@pytest.mark.parametrize(
    ("sharing", "said"), [("none", None), ("time-slicing", "0.300"), ("mps", "0.300"), ("mig", None)]
)
def test_a_shared_gpu_is_asked_for_as_one_and_its_share_is_told(sharing: str, said: str | None) -> None:
    families = "karpenter: {nodePools: {gpu: {instanceFamilies: [p4d, g6]}}}\n"
    gpu = f"{{sharing: {sharing}, share: 3, migProfile: 3g.20gb, memory: 7Gi}}"
    engine = vllm(families + f"llm: {{models: {{general: {{serving: {{gpu: {gpu}}}}}}}}}")
    assert engine["resources"]["limits"]["nvidia.com/gpu"] == 1
    args = engine["args"]
    assert (value(args, "--gpu-memory-utilization") if "--gpu-memory-utilization" in args else None) == said


# --- pods -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", CPU, GIANT, "llm: {inference: {cpu: 3500m, memory: 20Gi}}"])
def test_pods_request_what_the_pools_were_chosen_for(text: str) -> None:
    made_of = plan(text)
    for served in made_of.served:
        kind = "LeaderWorkerSet" if served.spans_nodes else "Deployment"
        workload = objects(made_of)[f"{kind} {served.workload}"]
        template = workload["spec"].get("template") or workload["spec"]["leaderWorkerTemplate"]["leaderTemplate"]
        requests = [each["resources"]["requests"] for each in template["spec"]["containers"]]
        assert sum(cpu_milli(str(each["cpu"])) for each in requests) == served.requests["cpu"]
        assert sum(bytes_of(each["memory"]) for each in requests) == served.requests["memory"]
        assert sum(each.get("nvidia.com/gpu", 0) for each in requests) == served.requests.get("nvidia.com/gpu", 0)


def test_shared_memory_is_a_part_of_the_memory() -> None:
    def size(text: str) -> str:
        volumes = {each["name"]: each for each in pod_of(objects(plan(text))["Deployment model-general"])["volumes"]}
        limit: str = volumes["shm"]["emptyDir"]["sizeLimit"]
        return limit

    assert size("") == "2048Mi"
    assert size("llm: {inference: {memory: 6Gi}}") == "1536Mi"


@pytest.mark.parametrize(("sharing", "has_shm"), [("time-slicing", True), ("mps", False)])
def test_what_the_daemon_of_mps_shares_is_not_covered_by_a_volume_of_the_pod(sharing: str, has_shm: bool) -> None:
    """The device plugin mounts it at /dev/shm, and the pod's own mounts come after that."""
    text = (
        "karpenter: {nodePools: {gpu: {instanceFamilies: [g6]}}}\n"
        f"llm: {{models: {{general: {{serving: {{gpu: {{sharing: {sharing}, share: 2, memory: 10Gi}}}}}}}}}}"
    )
    pod = pod_of(objects(plan(text))["Deployment model-general"])
    assert ("shm" in [each["name"] for each in pod["volumes"]]) is has_shm
    paths = [each["mountPath"] for each in container(pod, "engine")["volumeMounts"]]
    assert ("/dev/shm" in paths) is has_shm


def test_replicas_are_kedas_where_it_scales() -> None:
    assert "replicas" not in objects(plan())["Deployment model-general"]["spec"]
    fixed = "keda: {enabled: false}\nllm: {models: {a: {replicas: {min: 2, max: 4}}, b: {replicas: {min: 0, max: 4}}}}"
    made = objects(plan(fixed))
    assert made["Deployment model-a"]["spec"]["replicas"] == 2
    assert made["Deployment model-b"]["spec"]["replicas"] == 1
    assert (
        objects(plan("llm: {models: {a: {replicas: {min: 3, max: 3}}}}"))["Deployment model-a"]["spec"]["replicas"] == 3
    )


def test_a_service_a_budget_and_one_account() -> None:
    made = objects(plan())
    service = made["Service model-code"]
    assert service["spec"] == {
        "type": "ClusterIP",
        "selector": {"app.kubernetes.io/name": "model-code"},
        "ports": [{"name": "http", "port": 8000, "targetPort": "http"}],
    }
    assert service["metadata"]["labels"]["stoker.dev/model"] == "code"
    budget = made["PodDisruptionBudget model-code"]["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert pod_of(made["Deployment model-code"])["serviceAccountName"] == "models"
    assert [key for key in made if key.startswith("ServiceAccount")] == ["ServiceAccount models"]


def test_a_platform_without_inference_has_no_models() -> None:
    assert objects(plan("llm: {inference: {enabled: false}}")) == {}


# --- starting and leaving -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 550),  # 24 GiB at 100 MiB/s, and 300 s
        (ACCOUNT, 400),  # at 250 MiB/s
        ("llm: {inference: {gpu: {memory: 12Gi}}}", 430),
        ("llm: {inference: {cache: {kind: fsx, fileSystem: fs-0123abcd}}}", 400),
        ("llm: {inference: {cache: {kind: efs, fileSystem: fs-0123abcd}}}", 550),
        (CPU, 60),
    ],
)
def test_a_start_may_take_as_long_as_the_weights_need(text: str, seconds: int) -> None:
    probe = vllm(text)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == seconds
    assert probe["httpGet"] == {"path": "/health", "port": "http"}


def times(text: str) -> tuple[int, int, int]:
    """The worker's grace, how long its engine may stay, the pod's grace period."""
    pod = pod_of(objects(plan(text))["Deployment model-general"])
    stays = int(container(pod, "engine")["lifecycle"]["preStop"]["exec"]["command"][-1])
    return int(value(container(pod, "worker")["args"], "--grace")), stays, pod["terminationGracePeriodSeconds"]


def test_leaving_fits_a_spot_notice() -> None:
    assert times("") == (90, 95, 105)
    assert times("karpenter: {enabled: false}") == (90, 95, 105)  # whose nodes may be spot
    assert times("llm: {models: {general: {limits: {timeoutSeconds: 30}}}}") == (30, 35, 45)


def test_elsewhere_the_longest_task_may_end() -> None:
    assert times(ON_DEMAND) == (120, 125, 135)
    assert times(ON_DEMAND + "llm: {models: {general: {limits: {timeoutSeconds: 3600}}}}") == (600, 605, 615)


def drained(monkeypatch: pytest.MonkeyPatch, answers: list[str | OSError]) -> float:
    """How long the hook takes, of 95 s, when the engine's metrics say this at each look."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def urlopen(url: str, timeout: float) -> BytesIO:
        assert (url, timeout) == ("http://127.0.0.1:8000/metrics", 2)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, OSError):
            raise answer
        return BytesIO(answer.encode())

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(sys, "argv", ["-c", "95"])
    exec(compile(models_scripts.DRAIN, "drain", "exec"), {})
    return now


def test_an_engine_stays_until_it_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = '# HELP vllm:num_requests_running\nvllm:num_requests_running{model_name="a"} 2.0\nother 1.0\n'
    waits = "vllm:num_requests_running 0.0\nvllm:num_requests_waiting 1.0\nother 1.0\n"
    idle = "vllm:num_requests_running 0.0\nvllm:num_requests_waiting 0.0\nother 1.0\n"
    assert drained(monkeypatch, [idle]) == 5
    assert drained(monkeypatch, [busy, waits, idle]) == 7
    assert drained(monkeypatch, [busy]) == 95
    assert drained(monkeypatch, [OSError("gone")]) == 5


# --- weights --------------------------------------------------------------------------------------------------------


def weights_volume(text: str) -> Any:
    volumes = pod_of(objects(plan(text))["Deployment model-general"])["volumes"]
    return next((each for each in volumes if each["name"] == "weights"), None)


def test_on_the_node_each_replica_downloads() -> None:
    text = "llm: {inference: {cache: {kind: node, size: 70Gi}}}"
    assert weights_volume(text) == {"name": "weights", "emptyDir": {"sizeLimit": "70Gi"}}
    engine = vllm(text)
    assert engine["args"][0] == "Qwen/Qwen3-8B"
    assert "--load-format" not in engine["args"]
    assert env(engine)["HF_HOME"] == "/weights/huggingface"
    token = next(each for each in engine["env"] if each["name"] == "HF_TOKEN")
    assert token["valueFrom"]["secretKeyRef"] == {"name": "hub", "key": "token", "optional": True}
    assert not any(key.startswith(("Job", "PersistentVolume")) for key in objects(plan(text)))


def test_from_s3_they_are_streamed() -> None:
    engine = vllm(ACCOUNT)
    assert engine["args"][0] == "s3://c-models-111122223333/general/"
    assert value(engine["args"], "--load-format") == "runai_streamer"
    # boto3, by which the streamer lists what is there, reads only the second.
    assert (env(engine)["AWS_REGION"], env(engine)["AWS_DEFAULT_REGION"]) == ("us-west-2", "us-west-2")
    assert env(engine)["RUNAI_STREAMER_MEMORY_LIMIT"] == "0"  # else 40 GB for each GPU, in memory
    assert "HF_HOME" not in env(engine)
    assert weights_volume(ACCOUNT) is None
    named = "llm: {inference: {cache: {kind: s3, bucket: mine}}}"
    assert vllm(named)["args"][0] == "s3://mine/general/"


def test_s3_needs_a_bucket() -> None:
    with pytest.raises(InvalidInput, match="neither a bucket nor an account") as caught:
        objects(plan("llm: {inference: {cache: {kind: s3}}}"))
    assert caught.value.param == "llm.inference.cache.bucket"


@pytest.mark.parametrize("kind", ["node", "efs"])
def test_weights_in_s3_are_streamed_whatever_the_cache(kind: str) -> None:
    text = f"""\
llm:
  inference: {{cache: {{kind: {kind}, fileSystem: fs-0123abcd}}}}
  models: {{general: {{serving: {{weights: "s3://theirs/tuned"}}}}}}
"""
    assert vllm(text)["args"][0] == "s3://theirs/tuned/"
    assert s3_urls(plan(text)) == ("s3://theirs/tuned/",)
    assert not any(key.startswith(("Job", "Persistent", "StorageClass")) for key in objects(plan(text)))


def test_efs_is_one_claim_with_an_access_point_of_its_own() -> None:
    made = objects(plan("llm: {inference: {cache: {kind: efs, fileSystem: fs-0123abcd, size: 300Gi}}}"))
    claim = made["PersistentVolumeClaim weights"]["spec"]
    assert claim["accessModes"] == ["ReadWriteMany"]
    assert claim["resources"] == {"requests": {"storage": "300Gi"}}
    storage = made[f"StorageClass {claim['storageClassName']}"]
    assert storage["provisioner"] == "efs.csi.aws.com"
    assert storage["parameters"]["fileSystemId"] == "fs-0123abcd"
    user = pod_of(made["Deployment model-general"])["securityContext"]["runAsUser"]
    assert (storage["parameters"]["uid"], storage["parameters"]["gid"]) == (str(user), "1000")  # whose the files are
    for name in ("general", "code", "vision"):
        volumes = pod_of(made[f"Deployment model-{name}"])["volumes"]
        assert {"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}} in volumes


def test_fsx_is_the_file_system_as_it_is() -> None:
    made = objects(plan("llm: {inference: {cache: {kind: fsx, fileSystem: fs-0123abcd, mountName: abcdef}}}"))
    volume = made["PersistentVolume agentic-ai-weights"]["spec"]
    assert volume["csi"] == {
        "driver": "fsx.csi.aws.com",
        "volumeHandle": "fs-0123abcd",
        "volumeAttributes": {"dnsname": "fs-0123abcd.fsx.us-west-2.amazonaws.com", "mountname": "abcdef"},
    }
    assert volume["claimRef"] == {"namespace": "agentic-ai", "name": "weights"}
    assert volume["mountOptions"] == ["flock"]  # the hub's cache locks while it downloads
    claim = made["PersistentVolumeClaim weights"]["spec"]
    assert (claim["storageClassName"], claim["volumeName"]) == ("", "agentic-ai-weights")


def jobs(text: str) -> dict[str, Any]:
    return {key: each for key, each in objects(plan(text)).items() if key.startswith("Job")}


def test_a_job_for_each_model_fills_the_bucket() -> None:
    one = ACCOUNT + "llm: {models: {general: {serving: {weights: %s}}, tuned: {serving: {weights: 's3://theirs/x'}}}}"
    found = jobs(one % "org/a")
    (job,) = found.values()
    assert set(found) == set(jobs(one % "org/a"))
    assert set(found) != set(jobs(one % "org/b"))  # a Job cannot be changed
    pod = pod_of(job)
    assert pod["serviceAccountName"] == "weights"
    assert env(pod["containers"][0])["TARGET"] == "s3://c-models-111122223333/general/"
    assert env(pod["containers"][0])["MODEL"] == "org/a"
    assert pod["nodeSelector"] == {"stoker.dev/serves": "cpu"}


def test_nobody_routes_requests_to_a_job() -> None:
    (job,) = jobs(ACCOUNT + "llm: {models: {general: {}}}").values()
    assert "stoker.dev/model" not in job["spec"]["template"]["metadata"]["labels"]
    policies = [item.object for item in network.render(plan(ACCOUNT)) if isinstance(item, Resource)]
    (allowed,) = [each for each in policies if each["metadata"]["name"] == "weights"]
    assert (
        allowed["spec"]["podSelector"]["matchLabels"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    )
    names = [item.object["metadata"]["name"] for item in network.render(plan()) if isinstance(item, Resource)]
    assert "weights" not in names


def test_on_a_file_system_it_fills_the_cache_that_replicas_read() -> None:
    text = "llm: {inference: {cache: {kind: efs, fileSystem: fs-0123abcd}}, models: {general: {}}}"
    (job,) = jobs(text).values()
    assert env(pod_of(job)["containers"][0])["HF_HOME"] == env(vllm(text))["HF_HOME"]
    compile(models_scripts.FILL_FILE_SYSTEM, "fill", "exec")


class Bucket:
    """As much of a client of S3 as the script uses. Lists a page for each key, as a bucket with many has them."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects

    def get_paginator(self, name: str) -> "Bucket":
        assert name == "list_objects_v2"
        return self

    def paginate(self, **asked: str) -> list[dict[str, Any]]:
        assert asked["Bucket"] == "b"
        keys = [key for key in self.objects if key.startswith(asked["Prefix"])]
        return [{"Contents": [{"Key": key}]} for key in keys] or [{}]

    def get_object(self, **asked: str) -> dict[str, Any]:
        return {"Body": BytesIO(self.objects[asked["Key"]])}

    def put_object(self, **asked: Any) -> None:
        self.objects[asked["Key"]] = asked["Body"]

    def upload_file(self, path: str, _: str, key: str) -> None:
        self.objects[key] = Path(path).read_bytes()


class Hub:
    """org/a at the hub. What it is asked for is noted; `breaks`: from this file on nothing comes."""

    FILES: ClassVar = {"config.json": b"{}", "deep/x.safetensors": b"x", "model.bin": b"?", "y.safetensors": b"y"}

    def __init__(self, disk: Path, breaks: str = "") -> None:
        self.disk, self.breaks = disk, breaks
        self.downloaded: list[str] = []

    def model_info(self, model: str) -> Any:
        assert model == "org/a"
        return types.SimpleNamespace(sha="5a5a")

    def list_repo_files(self, model: str, *, revision: str) -> list[str]:
        assert (model, revision) == ("org/a", "5a5a")
        return list(self.FILES)

    def download(self, model: str, file: str, *, revision: str, local_dir: str) -> str:
        assert (model, revision) == ("org/a", "5a5a")
        if file == self.breaks:
            raise OSError("no network")
        assert [each for each in self.disk.rglob("*") if each.is_file()] == []  # there is room for one
        self.downloaded.append(file)
        for path, text in ((Path(local_dir) / file, self.FILES[file]), (self.disk / "huggingface/xet/chunk", b"c")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        return str(Path(local_dir) / file)


def fill(monkeypatch: pytest.MonkeyPatch, hub: Hub, objects: dict[str, bytes]) -> Any:
    """Run the Job's script for org/a and b/general/; what it ends with."""
    boto3, module = types.ModuleType("boto3"), types.ModuleType("huggingface_hub")
    boto3.client = lambda name: Bucket(objects)  # type: ignore[attr-defined]
    module.HfApi = lambda: hub  # type: ignore[attr-defined]
    module.hf_hub_download = hub.download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "boto3", boto3)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    for name, said in {"MODEL": "org/a", "TARGET": "s3://b/general/", "LEFT_OUT": "*.bin *.pth"}.items():
        monkeypatch.setenv(name, said)
    script = models_scripts.FILL_BUCKET.replace("/weights", str(hub.disk))
    try:
        exec(compile(script, "fill", "exec"), {})
    except SystemExit as end:
        return end.code
    return None


NOTE = "general/.stoker-weights"


def test_the_bucket_is_filled_once_and_file_by_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there: dict[str, bytes] = {"general-2/config.json": b"another model's"}
    hub = Hub(tmp_path)
    assert fill(monkeypatch, hub, there) is None
    assert there == {
        "general-2/config.json": b"another model's",
        "general/config.json": b"{}",
        "general/deep/x.safetensors": b"x",
        "general/y.safetensors": b"y",
        NOTE: b"org/a complete",
    }
    assert hub.downloaded == ["config.json", "deep/x.safetensors", "y.safetensors"]
    assert list(tmp_path.iterdir()) == []
    again = Hub(tmp_path, breaks="config.json")
    assert fill(monkeypatch, again, there) is None
    assert again.downloaded == []


def test_what_was_broken_off_goes_on_with_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there: dict[str, bytes] = {}
    with pytest.raises(OSError, match="no network"):
        fill(monkeypatch, Hub(tmp_path, breaks="deep/x.safetensors"), there)
    assert there == {NOTE: b"org/a begun 5a5a", "general/config.json": b"{}"}
    hub = Hub(tmp_path)
    monkeypatch.setattr(hub, "model_info", None)  # the hub may have a newer one by now; it stays with what was begun
    assert fill(monkeypatch, hub, there) is None
    assert hub.downloaded == ["deep/x.safetensors", "y.safetensors"]
    assert there[NOTE] == b"org/a complete"


def test_weights_of_somebody_else_are_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    theirs = {"general/config.json": b"theirs"}
    assert fill(monkeypatch, Hub(tmp_path), theirs) is None
    assert theirs == {"general/config.json": b"theirs"}
    other = {"general/config.json": b"other", NOTE: b"org/b complete"}
    assert "weights of org/b" in fill(monkeypatch, Hub(tmp_path), other)
    assert other == {"general/config.json": b"other", NOTE: b"org/b complete"}


# --- several nodes --------------------------------------------------------------------------------------------------


def test_a_replica_of_several_nodes_is_a_group_whose_leader_serves() -> None:
    made = objects(plan(GIANT))
    group = made["LeaderWorkerSet model-giant"]["spec"]
    assert "replicas" not in group
    template = group["leaderWorkerTemplate"]
    assert template["size"] == 2
    leader, follower = template["leaderTemplate"], template["workerTemplate"]
    engine = container(leader["spec"], "engine")
    assert engine["command"][:2] == ["bash", "-ec"]
    assert engine["command"][2].endswith('exec vllm serve "$@"\n')
    assert engine["args"][0] == "org/giant"
    assert value(engine["args"], "--tensor-parallel-size") == "8"
    assert value(engine["args"], "--pipeline-parallel-size") == "2"
    assert value(engine["args"], "--distributed-executor-backend") == "ray"
    assert [each["name"] for each in leader["spec"]["containers"]] == ["engine", "worker"]
    (alone,) = follower["spec"]["containers"]
    assert alone["resources"] == engine["resources"]
    assert "ports" not in alone
    assert "LWS_LEADER_ADDRESS" in alone["command"][2]
    assert alone["lifecycle"] == engine["lifecycle"]
    assert env(alone)["VLLM_HOST_IP"] == "$(POD_IP)"
    selected = made["Service model-giant"]["spec"]["selector"]
    assert selected.items() <= leader["metadata"]["labels"].items()
    assert not selected.items() <= follower["metadata"]["labels"].items()
    target = made["ScaledObject model-giant"]["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "model-giant"}


# --- as a whole -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["karpenter", "auto", "hybrid"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        ACCOUNT,
        CPU,
        GIANT,
        ON_DEMAND,
        "llm: {inference: {cache: {kind: efs, fileSystem: fs-0123abcd}}}",
        "llm: {inference: {cache: {kind: fsx, fileSystem: fs-0123abcd}}}",
        "keda: {enabled: false}",
        "karpenter: {enabled: false}",
        "karpenter: {enabled: false}\n" + GIANT,
    ],
)
def test_the_linter_has_nothing_to_say(text: str, mode: Mode) -> None:
    assert [(each.rule, each.message) for each in findings(plan(text, mode))] == []


@pytest.mark.parametrize("mode", ["karpenter", "hybrid"])
def test_nor_of_a_shared_gpu(mode: Mode) -> None:
    shared = "llm: {models: {general: {serving: {gpu: {sharing: mps, share: 2, memory: 8Gi}}}}}"
    assert [(each.rule, each.message) for each in findings(plan(shared, mode))] == []


def test_comments_say_where_weights_come_from_and_how_long_leaving_takes() -> None:
    said = comments(plan(ACCOUNT))["Deployment model-general"]
    assert "s3://c-models-111122223333/general/" in said
    assert "90 s after SIGTERM, since a spot node" in said


@pytest.mark.parametrize(("most", "is_silenced"), [(4, True), (5, False)])
def test_a_model_on_machines_with_many_more_gpus_says_that_these_were_asked_for(most: int, is_silenced: bool) -> None:
    families = "karpenter: {nodePools: {gpu: {instanceFamilies: [p4d]}}}\n"
    made = plan(families + f"llm: {{models: {{general: {{replicas: {{min: 1, max: {most}}}}}}}}}")

    assert [each.message for each in findings(made)] == []
    assert ("STK-FIT-014" in comments(made)["Deployment model-general"]) == is_silenced


def test_no_idle_gpus_are_spoken_of_where_slices_are_asked_for() -> None:
    alone = "llm: {models: {m: {replicas: {min: 1, max: 2}}}, inference: {memory: 8Gi, gpu: {count: 1, %s}}}\n"
    pools = "karpenter: {nodePools: {gpu: {instanceFamilies: [p4d]}}}\n"
    key = "Deployment model-m"
    assert "STK-FIT-014" in comments(plan(alone % "memory: 8Gi" + pools))[key]
    sliced = "sharing: mig, migProfile: 3g.20gb, memory: 20Gi"
    assert "STK-FIT-014" not in comments(plan(alone % sliced + pools))[key]


@pytest.mark.parametrize(("gpu", "is_silenced"), [("3g.20gb", False), ("7g.40gb", True)])
def test_nor_beside_a_model_whose_gpus_a_node_overlay_counts(gpu: str, is_silenced: bool) -> None:
    """A GPU that is one slice is counted as its type has it, and the linter judges it."""
    shared = f"{{gpu: {{sharing: mig, migProfile: {gpu}, memory: 20Gi}}, memory: 8Gi}}"
    models = f"m: {{replicas: {{max: 2}}}}, sliced: {{replicas: {{max: 2}}, serving: {shared}}}"
    made = plan(f"karpenter: {{nodePools: {{gpu: {{instanceFamilies: [p4d]}}}}}}\nllm: {{models: {{{models}}}}}\n")

    assert [each.message for each in findings(made)] == []
    assert ("STK-FIT-014" in comments(made)["Deployment model-m"]) == is_silenced
    assert ("STK-FIT-014" in comments(made)["Deployment model-sliced"]) == is_silenced


def test_small_machines_that_others_share_with_it_are_none_for_a_model_that_does_not_fit_them() -> None:
    two = "{replicas: {min: 1, max: 1}, serving: {gpu: {count: 2}}}"
    made = plan(f"llm: {{models: {{one: {{}}, two: {two}}}}}")

    assert [each.message for each in findings(made)] == []
    assert "STK-FIT-014" in comments(made)["Deployment model-two"]
    assert "STK-FIT-014" not in comments(made)["Deployment model-one"]


def test_nobody_scales_it_to_its_most_where_keda_is_off() -> None:
    replicas = "{replicas: {min: 0, max: 3}, serving: {gpu: {count: 2}}}"
    made = plan(f"keda: {{enabled: false}}\nllm: {{models: {{m: {replicas}}}}}")

    assert [each.message for each in findings(made)] == []
    assert "STK-FIT-014" in comments(made)["Deployment model-m"]
