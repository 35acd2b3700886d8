"""The GPU exporter and who is scraped."""

import pytest
from seeing_parts import objects, one, only

from stoker.render import monitoring, network, redis, training
from stoker.render.metric_names import COUNTERS
from stoker.render.plan import Plan
from stoker.spec import Mode, loads
from stoker.train.metrics import WHERE

CLOUDWATCH = "global: {observability: {cloudwatch: true}}"
NO_GPU = "llm: {inference: {gpu: {count: 0}}}"


def plan(text: str = "", mode: Mode = "karpenter") -> Plan:
    return Plan(loads(text), mode)


def kinds(made: Plan) -> list[str]:
    return sorted(f"{each['kind']} {each['metadata']['name']}" for each in objects(monitoring.render(made)))


def test_one_exporter_on_each_gpu_node_and_on_no_other() -> None:
    (exporter,) = only(monitoring.render(plan()), "DaemonSet")
    pod = exporter["spec"]["template"]["spec"]
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [term["matchExpressions"] for term in terms] == [
        [{"key": "karpenter.k8s.aws/instance-gpu-count", "operator": "Exists"}]
    ]
    assert {each["key"] for each in pod["tolerations"]} == {"nvidia.com/gpu"}
    assert exporter["metadata"]["namespace"] == "agentic-ai-monitoring"


@pytest.mark.parametrize(("mode", "domain"), [("auto", "eks.amazonaws.com"), ("hybrid", "karpenter.k8s.aws")])
def test_in_auto_mode_nodes_are_told_by_its_own_labels(mode: Mode, domain: str) -> None:
    (exporter,) = only(monitoring.render(plan(mode=mode)), "DaemonSet")
    assert f"{domain}/instance-gpu-count" in str(exporter["spec"]["template"]["spec"]["affinity"])


def test_on_nodes_of_your_own_it_goes_by_gpu_feature_discovery() -> None:
    (exporter,) = only(monitoring.render(plan("karpenter: {enabled: false}")), "DaemonSet")
    assert exporter["spec"]["template"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.present": "true"}


def test_the_exporter_may_read_profiling_fields_and_is_not_privileged() -> None:
    (exporter,) = only(monitoring.render(plan()), "DaemonSet")
    (container,) = exporter["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "nvcr.io/nvidia/k8s/dcgm-exporter:4.6.1-4.8.4-distroless"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["SYS_ADMIN"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert "privileged" not in container["securityContext"]
    assert [each for each in container["volumeMounts"] if "kubelet" in each["mountPath"]] == [
        {"name": "pod-resources", "mountPath": "/var/lib/kubelet/pod-resources", "readOnly": True}
    ]


def test_it_reads_the_list_of_counters_that_lies_beside_it() -> None:
    made = plan()
    (exporter,) = only(monitoring.render(made), "DaemonSet")
    pod = exporter["spec"]["template"]["spec"]
    said = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    folder, _, file = said["DCGM_EXPORTER_COLLECTORS"].rpartition("/")
    mounted = next(each["name"] for each in pod["containers"][0]["volumeMounts"] if each["mountPath"] == folder)
    volume = next(each for each in pod["volumes"] if each["name"] == mounted)
    listed = one(monitoring.render(made), "ConfigMap", volume["configMap"]["name"])["data"][file]
    rows = [line.split(", ") for line in listed.splitlines()]
    assert [row[0] for row in rows] == list(COUNTERS)
    assert {len(row) for row in rows} == {3}, "a comma in a help text would be another column"
    assert {row[1] for row in rows} == {"gauge", "counter"}
    assert "DCGM_FI_PROF_GR_ENGINE_ACTIVE" in COUNTERS


def test_cloudwatch_brings_the_exporter_so_that_ours_is_left_out_and_its_is_scraped() -> None:
    made = plan(CLOUDWATCH)
    assert only(monitoring.render(made), "DaemonSet") == []
    monitor = one(monitoring.render(made), "PodMonitor", "dcgm-exporter")
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["amazon-cloudwatch"]}
    assert monitor["spec"]["selector"] == {"matchLabels": {"k8s-app": "dcgm-exporter"}}
    assert monitor["spec"]["podMetricsEndpoints"][0]["scheme"] == "https"


def test_without_a_gpu_there_is_nothing_of_gpus() -> None:
    text = str(objects(monitoring.render(plan(NO_GPU))))
    assert "DCGM" not in text
    assert "nvidia" not in text


def test_training_nodes_have_gpus_too() -> None:
    made = plan(f"{NO_GPU}\ntraining: {{enabled: true}}")
    (exporter,) = only(monitoring.render(made), "DaemonSet")
    tolerated = exporter["spec"]["template"]["spec"]["tolerations"]
    assert {each["key"] for each in tolerated} == {"nvidia.com/gpu", "stoker.dev/serves"}


def test_the_switches() -> None:
    assert kinds(plan("global: {observability: {enabled: false}}")) == []
    without_prometheus = kinds(plan("global: {observability: {prometheus: false}}"))
    assert [each for each in without_prometheus if "Monitor" in each or "Rule" in each] == []
    assert [each for each in without_prometheus if "dashboard" in each] == []  # they show what rules record
    assert "DaemonSet dcgm-exporter" in without_prometheus
    without_grafana = kinds(plan("global: {observability: {grafana: false}}"))
    assert [each for each in without_grafana if "dashboard" in each] == []
    assert "PrometheusRule stoker" in without_grafana


def test_who_is_scraped() -> None:
    monitors = {
        "PodMonitor workers",
        "ServiceMonitor gateway",
        "ServiceMonitor engines",
        "PodMonitor redis",
        "PodMonitor dcgm-exporter",
    }
    others = {"ServiceMonitor karpenter", "PodMonitor keda-operator"}

    def scraped(made: Plan) -> set[str]:
        return {each for each in kinds(made) if "Monitor" in each}

    assert scraped(plan()) == monitors | others
    assert scraped(plan(mode="auto")) == monitors | others - {"ServiceMonitor karpenter"}
    assert scraped(plan("redis: {url: redis://cache:6379}")) == (monitors | others) - {"PodMonitor redis"}
    assert scraped(plan("keda: {enabled: false}")) == (monitors | others) - {"PodMonitor keda-operator"}
    assert scraped(plan("llm: {inference: {enabled: false}}")) == {
        "ServiceMonitor gateway",
        "PodMonitor redis",
        "ServiceMonitor karpenter",
    }


def test_a_monitor_looks_where_the_service_is_and_by_its_port() -> None:
    made = plan("global: {cluster: {namespace: ai}}")
    gateway = one(monitoring.render(made), "ServiceMonitor", "gateway")["spec"]
    assert gateway["namespaceSelector"] == {"matchNames": ["ai"]}
    assert gateway["selector"] == {"matchLabels": {"app.kubernetes.io/name": "gateway"}}
    assert [(each["port"], each["path"]) for each in gateway["endpoints"]] == [("http", "/metrics")]
    server = one(monitoring.render(made), "PodMonitor", "redis")["spec"]
    assert [each["port"] for each in server["podMetricsEndpoints"]] == ["metrics"]


TRAINED = 'global: {cluster: {account: "111122223333"}}\ntraining: {enabled: true, nodes: 2'


@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_run_is_scraped_in_the_pod_of_its_first_process_where_that_answers(is_legacy: bool) -> None:
    made = plan(f"{TRAINED}, legacyPytorchJob: {str(is_legacy).lower()}}}")
    monitor = one(monitoring.render(made), "PodMonitor", "training")["spec"]
    if is_legacy:
        spec = one(training.render(made), "PyTorchJob", "finetune")["spec"]
        pods = [each["template"] for each in spec["pytorchReplicaSpecs"].values()]
    else:
        spec = one(training.render(made), "TrainingRuntime", "finetune")["spec"]["template"]["spec"]
        pods = [each["template"]["spec"]["template"] for each in spec["replicatedJobs"]]
    assert monitor["namespaceSelector"] == {"matchNames": [made.training_namespace]}
    (endpoint,) = monitor["podMetricsEndpoints"]
    for pod in pods:
        assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        (container,) = pod["spec"]["containers"]
        said = {each["name"]: each["value"] for each in container["env"]}
        (port,) = [each["containerPort"] for each in container["ports"] if each["name"] == endpoint["port"]]
        assert said[WHERE] == f"0.0.0.0:{port}"
        policy = one(network.render(made), "NetworkPolicy", "training")["spec"]
        assert {"port": port, "protocol": "TCP"} in [
            each for rule in policy["ingress"] if "ports" in rule for each in rule["ports"]
        ]
    kept = [(each["sourceLabels"], each["regex"]) for each in endpoint["relabelings"] if each.get("action") == "keep"]
    assert kept == (
        [(["__meta_kubernetes_pod_label_training_kubeflow_org_replica_type"], "master")]
        if is_legacy
        else [(["__meta_kubernetes_pod_label_batch_kubernetes_io_job_completion_index"], "0")]
    )


def test_what_nobody_could_scrape_has_no_monitor() -> None:
    for text in ("", f"{TRAINED}, kubeflow: false}}"):
        assert "PodMonitor training" not in kinds(plan(text))


def test_the_copies_of_redis_are_scraped_too() -> None:
    made = plan()
    chosen = one(monitoring.render(made), "PodMonitor", "redis")["spec"]["selector"]["matchExpressions"]
    pods = [each["spec"]["template"]["metadata"]["labels"] for each in only(redis.render(made), "StatefulSet")]
    assert len(pods) == 2
    assert chosen == [
        {"key": "app.kubernetes.io/name", "operator": "In", "values": [each["app.kubernetes.io/name"] for each in pods]}
    ]


def test_engines_and_gpus_have_the_model_as_a_label() -> None:
    made = plan("llm: {models: {code: {}, code-large: {}}}")
    (engine,) = one(monitoring.render(made), "ServiceMonitor", "engines")["spec"]["endpoints"]
    assert engine["relabelings"] == [
        {"sourceLabels": ["__meta_kubernetes_service_label_stoker_dev_model"], "targetLabel": "model"}
    ]
    (gpu,) = one(monitoring.render(made), "PodMonitor", "dcgm-exporter")["spec"]["podMetricsEndpoints"]
    assert gpu["metricRelabelings"] == [
        {
            "sourceLabels": ["namespace", "pod"],
            "regex": "agentic-ai;model-(code\\-large|code)-.+",
            "targetLabel": "model",
        }
    ]


def test_a_gpu_that_nobody_uses_is_not_said_to_be_the_exporters() -> None:
    monitor = one(monitoring.render(plan()), "PodMonitor", "dcgm-exporter")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["honorLabels"] is True
    assert endpoint["relabelings"][-1] == {"action": "labeldrop", "regex": "namespace|pod|container"}
    assert monitor["attachMetadata"] == {"node": True}
    assert {each.get("targetLabel") for each in endpoint["relabelings"][:-1]} == {
        "node",
        "instance_type",
        "capacity_type",
        "zone",
    }
