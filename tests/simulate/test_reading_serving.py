"""Which engine a container runs, whatever the shell around it; how it serves, and what it loads."""

from typing import Any

import pytest

from stoker.manifests.objects import Document, Manifest
from stoker.manifests.workloads import workloads_of
from stoker.simulate.reading_commands import Engine, engine_of, environment
from stoker.simulate.reading_notes import Notes
from stoker.simulate.reading_platform import Platform
from stoker.simulate.reading_serving import Found, Pods, found_in, load_of, serving_of
from stoker.simulate.scenario import Dispatch, Load, Serving

GPU = {"limits": {"nvidia.com/gpu": 1}}


def container(**fields: Any) -> dict[str, Any]:
    return {"name": "engine", "image": "vllm/vllm-openai:v0.11.2", "resources": GPU, **fields}


def engine(**fields: Any) -> Engine:
    one = container(**fields)
    found = engine_of(one, environment(one, {"settings": {"LENGTH": "4096"}}))
    assert found is not None
    return found


def pods(*containers: dict[str, Any], labels: dict[str, str] | None = None, **spec: Any) -> Pods:
    template = {"metadata": {"labels": labels or {}}, "spec": {"containers": list(containers), **spec}}
    data = {"kind": "Deployment", "metadata": {"name": "chat"}, "spec": {"template": template}}
    (workload,) = workloads_of(Manifest(data, Document("a.yaml", 0, data)))
    return Pods(workload, None, 1)


def read(*containers: dict[str, Any], **more: Any) -> tuple[Found | None, tuple[str, ...]]:
    notes = Notes()
    found = found_in(pods(*containers, **more), {}, notes)
    return found, notes.lines()


def serving(
    *containers: dict[str, Any], dispatch: Dispatch = "balance", platform: Platform | None = None, **more: Any
) -> Serving:
    found, _ = read(*containers, **more)
    assert found is not None
    return serving_of(found, dispatch, platform or Platform(), "Deployment chat", Notes())


def load(one: dict[str, Any], *others: dict[str, Any], **spec: Any) -> Load:
    replica = pods(one, *others, **spec)
    return load_of(replica, found_in(replica, {}, Notes()), 30.0, {})


# --- command lines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"args": ["--model", "org/m", "--max-model-len", "4096"]}, id="arguments of the image"),
        pytest.param({"args": ["org/m", "--max_model_len=4096"]}, id="a model without an option, underscores"),
        pytest.param({"command": ["vllm", "serve", "org/m"], "args": ["--max-model-len=4096"]}, id="vllm serve"),
        pytest.param(
            {"command": ["/usr/bin/vllm", "serve", "--enable-prefix-caching", "org/m", "--max-model-len", "4096"]},
            id="a switch before the model",
        ),
        pytest.param(
            {
                "command": ["python3", "-m", "vllm.entrypoints.openai.api_server"],
                "args": ["--model=org/m", "--max-model-len=4096"],
            },
            id="the module",
        ),
        pytest.param({"command": ["sh", "-c", "vllm serve org/m --max-model-len 4096"]}, id="in a shell"),
        pytest.param(
            {"command": ["/bin/bash", "-c"], "args": ["exec vllm serve org/m --max-model-len 4096"]}, id="exec"
        ),
        pytest.param(
            {
                "command": ["bash", "-ec", 'ray start --head \\\n  --port=1\nexec vllm serve "$@"', "vllm"],
                "args": ["org/m", "--max-model-len", "4096"],
            },
            id="arguments handed on, after another command",
        ),
        pytest.param(
            {
                "command": ["sh", "-c", "echo start && vllm serve ${MODEL_ID} --max-model-len ${LEN:-4096} | tee log"],
                "env": [{"name": "MODEL_ID", "value": "org/m"}],
            },
            id="variables of the shell",
        ),
        pytest.param(
            {"args": ["--model=$(WHICH)", "--max-model-len=4096"], "env": [{"name": "WHICH", "value": "org/m"}]},
            id="variables of Kubernetes",
        ),
        pytest.param(
            {
                "args": ["--model=org/m", "--max-model-len=$(LENGTH)"],
                "envFrom": [{"configMapRef": {"name": "settings"}}],
            },
            id="variables of a ConfigMap",
        ),
    ],
)
def test_vllm_is_found_whatever_is_around_it(fields: dict[str, Any]) -> None:
    found = engine(**fields)
    assert found.kind == "vllm"
    assert found.number("max-model-len") == 4096
    assert (found.text("model"), found.words[:1]) in (("org/m", ()), ("", ("org/m",)))


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"image": "ghcr.io/huggingface/text-generation-inference:3.3", "args": ["--model-id", "org/m"]}, "tgi"),
        ({"command": ["python3", "-m", "sglang.launch_server", "--model-path", "org/m"]}, "sglang"),
        ({"image": "lmsysorg/sglang:v0.5", "args": ["--model-path=org/m"]}, "sglang"),
        ({"image": "nvcr.io/nvidia/tritonserver:25.01-py3", "command": ["tritonserver", "--model-id=org/m"]}, "triton"),
        ({"image": "x", "command": ["llama-server", "-m", "org/m", "-c", "4096"]}, "llama.cpp"),
        ({"image": "x", "command": ["python", "-m", "stoker.engine", "--model", "org/m"]}, "stoker engine"),
    ],
)
def test_other_engines(fields: dict[str, Any], kind: str) -> None:
    found, _ = read(container(**fields))
    assert found is not None
    assert found.engine is not None
    assert (found.engine.kind, found.weights) == (kind, "org/m")


@pytest.mark.parametrize(
    ("text", "number"), [("8192", 8192), ("8k", 8000), ("8K", 8192), ("1.5k", 1500), ("auto", None)]
)
def test_numbers_as_vllm_writes_them(text: str, number: int | None) -> None:
    assert engine(args=["--max-model-len", text]).number("max-model-len") == number


# --- what is served ---------------------------------------------------------------------------------------------------


def test_the_name_that_clients_use_is_the_label_then_the_option_then_the_weights() -> None:
    args = ["--model", "org/m", "--served-model-name", "chat", "other", "--port", "8000"]
    assert serving(container(args=args), labels={"stoker.dev/model": "labelled"}).model == "labelled"
    assert serving(container(args=args)).model == "chat"
    assert serving(container(args=args[:2])).model == "org/m"
    found, notes = read(container(image="registry/own:1"))
    assert found is not None
    assert (found.model, found.weights) == ("chat", "")  # of the Deployment
    assert "taken to serve the model chat, since it has GPUs" in notes[0]


def test_what_the_options_say_is_taken() -> None:
    found = serving(
        container(
            args=[
                "--model=org/m", "--max-num-seqs=64", "--max-num-batched-tokens=4096", "--quantization=fp8",
                "--gpu-memory-utilization=0.8", "--no-enable-prefix-caching", "--max-model-len=32k",
            ]
        )
    )  # fmt: skip
    assert (found.concurrency, found.max_batched_tokens, found.quantization) == (64, 4096, "fp8")
    assert (found.memory_share, found.prefix_caching, found.max_model_len) == (0.8, False, 32000)


def test_what_no_option_says_is_vllms_own() -> None:
    found = serving(container(args=["--model=org/m"]))
    assert (found.concurrency, found.max_batched_tokens, found.memory_share) == (256, 8192, 0.9)
    assert (found.prefix_caching, found.max_model_len, found.gpus) == (True, None, 1)


@pytest.mark.parametrize(
    ("args", "is_on"),
    [
        (["--enable-prefix-caching=false"], False),
        (["--enable-prefix-caching"], True),
        (["--disable-radix-cache"], False),
    ],
)
def test_prefix_caching_is_on_unless_it_is_switched_off(args: list[str], is_on: bool) -> None:
    assert serving(container(args=["--model=m", *args])).prefix_caching is is_on


def test_the_worker_beside_it_takes_fewer_than_the_engine_can_run() -> None:
    worker = {"name": "worker", "image": "w", "command": ["python", "-m", "stoker.worker", "--model", "m"]}
    platform = Platform(concurrency={"org/m": 8}, context_tokens={"org/m": 2048})
    one = container(args=["--model=org/m", "--max-num-seqs=64"])
    found = serving(one, worker, platform=platform)
    assert (found.concurrency, found.max_model_len) == (8, 2048)
    assert serving(one, platform=platform).concurrency == 64  # without one, the engine's
    of_stream = {"name": "w", "image": "w", "env": [{"name": "WORKER_CONCURRENCY", "value": "20"}]}
    assert serving(one, of_stream, dispatch="queue").concurrency == 20
    assert serving(one, of_stream, dispatch="balance").concurrency == 64


def test_a_worker_without_an_engine_serves_nothing_that_is_known_here() -> None:
    worker = {"name": "worker", "image": "w", "command": ["python", "-m", "stoker.worker", "--model", "m"]}
    found, notes = read(worker, labels={"stoker.dev/model": "m"})
    assert found is None
    assert "its workers send what they take to an engine elsewhere" in notes[0]


@pytest.mark.parametrize("image", ["nvcr.io/nvidia/k8s/dcgm-exporter:4", "jupyter/tensorflow-notebook"])
def test_what_has_gpus_and_is_no_server(image: str) -> None:
    found, notes = read(container(image=image))
    assert found is None
    assert "is no server of a model by its image" in notes[0]


def test_a_part_of_a_gpu_counts_as_one() -> None:
    found, notes = read(container(args=["--model=m"], resources={"limits": {"nvidia.com/mig-3g.40gb": 1}}))
    assert found is not None
    assert found.gpus == 1
    assert not [each for each in notes if "mig" in each]


@pytest.mark.parametrize(
    ("args", "has", "used", "said"),
    [
        (["--tensor-parallel-size=4"], 4, 4, ""),
        (["-tp", "2", "-pp", "2"], 4, 4, ""),
        (["--tensor-parallel-size=2", "--data-parallel-size=2"], 4, 4, ""),
        ([], 4, 1, "its engine uses 1 of the 4 GPUs"),
        (["--tensor-parallel-size=8"], 4, 4, "its engine wants 8 GPUs and its pods have 4"),
    ],
)
def test_the_gpus_that_an_engine_uses(args: list[str], has: int, used: int, said: str) -> None:
    one = container(args=["--model=m", *args], resources={"limits": {"nvidia.com/gpu": has}}, readinessProbe={})
    found, notes = read(one)
    assert found is not None
    assert found.gpus == used
    assert said in "".join(notes)
    assert bool(notes) is bool(said)


def test_a_worker_beside_a_server_that_nobody_knows() -> None:
    worker = {"name": "worker", "image": "w", "command": ["python", "-m", "stoker.worker", "--model", "m"]}
    found, _ = read(container(image="own:1"), worker, labels={"stoker.dev/model": "m"})
    assert found is not None
    assert (found.model, found.has_worker, found.gpus) == ("m", True, 1)


@pytest.mark.parametrize("variable", ["MODEL_ID", "HF_MODEL_ID", "MODEL"])
def test_weights_of_the_environment(variable: str) -> None:
    one = container(image="own:1", env=[{"name": variable, "value": "org/m"}])
    assert serving(one).weights == "org/m"


# --- what is loaded ---------------------------------------------------------------------------------------------------

MOUNT = [{"name": "weights", "mountPath": "/models"}]


@pytest.mark.parametrize(
    ("args", "spec", "source"),
    [
        (["--model=org/m"], {}, "hub"),
        (["--model=s3://bucket/m/"], {}, "s3"),
        (
            ["--model=/models/m"],
            {"volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": "w"}}]},
            "volume",
        ),
        (["--model=/models/m"], {"volumes": [{"name": "weights", "hostPath": {"path": "/w"}}]}, "node"),
        (["--model=/opt/m"], {}, "node"),  # in the image
        (
            ["--model=/models/m"],
            {
                "volumes": [{"name": "weights", "emptyDir": {}}],
                "initContainers": [{"name": "i", "image": "cli", "args": ["aws s3 sync s3://b/m /models/m"]}],
            },
            "s3",
        ),
        (["--model=/models/m"], {"volumes": [{"name": "weights", "emptyDir": {}}]}, "hub"),
    ],
)
def test_where_weights_come_from(args: list[str], spec: dict[str, Any], source: str) -> None:
    assert load(container(args=args, volumeMounts=MOUNT), **spec).weights_from == source


@pytest.mark.parametrize(
    "script",
    [
        "pip install -q hf && hf download org/m --local-dir /models/m",
        "huggingface-cli download org/m",
        "python -c 'from huggingface_hub import snapshot_download; snapshot_download(repo_id=\"org/m\")'",
    ],
)
def test_an_init_container_says_what_lies_at_a_path(script: str) -> None:
    init = {"name": "fetch", "image": "python", "command": ["sh", "-c", script]}
    one = container(args=["--model=/models/m", "--served-model-name=chat"], volumeMounts=MOUNT)
    spec = {"initContainers": [init], "volumes": [{"name": "weights", "emptyDir": {}}]}
    found, _ = read(one, **spec)
    assert found is not None
    assert (found.weights, found.place) == ("org/m", "/models/m")
    assert load(one, **spec).weights_from == "hub"


def test_images_have_sizes_by_name_or_by_kind() -> None:
    found = load(container(args=["--model=m"]), {"name": "side", "image": "own/proxy:1"})
    assert [(each.name, each.size_bytes) for each in found.images] == [
        ("vllm/vllm-openai:v0.11.2", 9 * 10**9),
        ("own/proxy:1", 2 * 10**8),
    ]
    assert load(container(image="own/llm:1")).images[0].size_bytes == 8 * 10**9


def test_readiness_is_seen_by_the_startup_probe_or_the_readiness_probe() -> None:
    startup, readiness = {"startupProbe": {"periodSeconds": 7}}, {"readinessProbe": {}}
    assert load(container(**startup, **readiness)).probe_period_s == 7.0
    assert load(container(**readiness)).probe_period_s == 10.0
    assert load(container()).probe_period_s == 1.0  # the kubelet's own
    _, notes = read(container(args=["--model=m"]))
    assert "without a readiness probe, Kubernetes sends it requests while it still loads" in notes[0]


def sh(script: str) -> dict[str, Any]:
    return {"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", script]}}}}


@pytest.mark.parametrize(
    ("fields", "waits_s", "drains"),
    [
        pytest.param({"args": ["--model=m"]}, 0.0, False, id="vLLM cuts off what runs"),
        pytest.param({"args": ["--model=m", "--shutdown-timeout=60"]}, 0.0, True, id="unless it is told to wait"),
        pytest.param(sh("sleep 15"), 15.0, False, id="a sleep does not look"),
        pytest.param({"lifecycle": {"preStop": {"sleep": {"seconds": 20}}}}, 20.0, False, id="nor the built-in one"),
        pytest.param(
            sh("sleep 5; while curl -s localhost:8000/metrics; do sleep 1; done"), 5.0, True, id="a loop does"
        ),
        pytest.param(sh("while curl -s localhost:8000/metrics; do sleep 3; done"), 0.0, True, id="a loop at once"),
        pytest.param(sh("sleep 90"), 30.0, False, id="no longer than the grace"),
        pytest.param({"image": "lmsysorg/sglang:v0.5"}, 0.0, True, id="SGLang finishes"),
    ],
)
def test_what_becomes_of_running_requests(fields: dict[str, Any], waits_s: float, drains: bool) -> None:
    found = load(container(**fields))
    assert (found.prestop_s, found.drains) == (waits_s, drains)
