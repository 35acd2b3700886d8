"""The pipeline: its steps, its gate, and what it may do in the cluster."""

from typing import Any

import yaml

from stoker.render import pipeline
from stoker.render.items import Resource
from stoker.render.plan import Plan
from stoker.spec import loads

ACCOUNT = 'global: {cluster: {account: "111122223333"}}'
RUN = "s3://agentic-ai-cluster-checkpoints-111122223333/runs/{{workflow.name}}/"


def plan(said: str = "", more: str = "", first: str = ACCOUNT) -> Plan:
    return Plan(loads(f"{first}\ntraining: {{enabled: true, {said}}}\n{more}"), "karpenter")


def rendered(made: Plan) -> dict[str, dict[str, Any]]:
    items = [each for each in pipeline.render(made) if isinstance(each, Resource)]
    return {f"{each.object['kind']}/{each.object['metadata']['name']}": each.object for each in items}


def templates(made: Plan) -> dict[str, dict[str, Any]]:
    spec = rendered(made)["WorkflowTemplate/pipeline"]["spec"]
    return {each["name"]: each for each in spec["templates"]}


def tasks(made: Plan) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = templates(made)["pipeline"]["dag"]["tasks"]
    return found


def manifest(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(template["resource"]["manifest"])
    return found


def test_no_pipeline_where_it_is_off_or_has_no_job_to_make() -> None:
    assert list(pipeline.render(Plan(loads(ACCOUNT), "karpenter"))) == []
    assert list(pipeline.render(plan("pipeline: {enabled: false}"))) == []
    assert list(pipeline.render(plan("kubeflow: false"))) == []


def test_what_fails_the_gate_is_neither_registered_nor_deployed() -> None:
    """`dependencies` would count a task that was skipped as done."""
    assert tasks(plan("pipeline: {leastScore: 0.75}")) == [
        {"name": "prepare", "template": "prepare"},
        {"name": "train", "template": "train", "depends": "prepare.Succeeded"},
        {"name": "evaluate", "template": "evaluate", "depends": "train.Succeeded"},
        {
            "name": "register",
            "template": "register",
            "depends": "evaluate.Succeeded",
            "when": "{{tasks.evaluate.outputs.parameters.score}} >= 0.75",
        },
        {"name": "deploy", "template": "deploy", "depends": "register.Succeeded"},
    ]
    evaluate = templates(plan())["evaluate"]
    assert evaluate["outputs"] == {"parameters": [{"name": "score", "valueFrom": {"path": "/tmp/score"}}]}
    assert evaluate["container"]["command"][-4:] == ["--score-file", "/tmp/score", "--checkpoint", RUN]


def test_the_train_step_makes_a_job_that_is_admitted_and_looks_at_its_end() -> None:
    step = templates(plan("nodes: 3"))["train"]
    assert step["resource"]["action"] == "create"
    assert step["resource"]["setOwnerReference"] is True
    assert step["resource"]["successCondition"] == "status.conditions.1.type == Complete"
    assert step["resource"]["failureCondition"] == "status.conditions.1.type == Failed"
    job = manifest(step)
    assert (job["kind"], job["metadata"]["generateName"]) == ("TrainJob", "finetune-")
    assert "name" not in job["metadata"]
    assert job["metadata"]["namespace"] == "agentic-ai-training"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"
    # The order of its conditions rests on this: Kueue admits what begins as suspended.
    assert job["spec"]["suspend"] is True
    assert job["spec"]["trainer"] == {
        "numNodes": 3,
        "numProcPerNode": 8,
        "env": [{"name": "CHECKPOINT_S3", "value": RUN}],
    }


def test_the_older_job_is_judged_by_its_master() -> None:
    step = templates(plan("legacyPytorchJob: true"))["train"]
    assert step["resource"]["successCondition"] == "status.replicaStatuses.Master.succeeded > 0"
    assert "failureCondition" not in step["resource"]
    assert step["activeDeadlineSeconds"] == 604800
    replicas = manifest(step)["spec"]["pytorchReplicaSpecs"]
    for each in replicas.values():
        env = {one["name"]: one["value"] for one in each["template"]["spec"]["containers"][0]["env"]}
        assert env["CHECKPOINT_S3"] == RUN
    rules = rendered(plan("legacyPytorchJob: true"))["Role/pipeline"]["rules"]
    assert {"apiGroups": ["kubeflow.org"], "resources": ["pytorchjobs"], "verbs": ["create", "get"]} in rules


def test_steps_that_run_long_are_tried_again_and_not_moved() -> None:
    made = templates(plan())
    for name in ("prepare", "evaluate", "register"):
        # A maxDuration would count from the first try, and leave a long step without a second.
        retried = dict(made[name]["retryStrategy"])
        # A verdict is no accident: the same weights would fail again.
        only = {"evaluate": 'lastRetry.status == "Error" || asInt(lastRetry.exitCode) > 2'}
        assert retried.pop("expression", None) == only.get(name)
        assert retried == {
            "limit": "3",
            "retryPolicy": "Always",
            "backoff": {"duration": "30s", "factor": 2},
        }
    assert "retryStrategy" not in made["train"]
    for name in ("train", "evaluate", "register"):
        assert made[name]["metadata"]["annotations"] == {"karpenter.sh/do-not-disrupt": "true"}


def test_the_data_is_looked_at_where_the_training_reads_it() -> None:
    """The first step is given the file system only when the data lie there."""
    storage = "storage: {enabled: true, fileSystem: fs-0123abcd}"
    (lake,) = [each for each in templates(plan(storage)).values() if each["name"] == "prepare"]
    assert [each["name"] for each in lake["container"]["volumeMounts"]] == ["run", "scratch"]
    (own,) = [each for each in templates(plan(storage + ", data: /fsx/a.jsonl")).values() if each["name"] == "prepare"]
    assert {"name": "data", "mountPath": "/fsx", "readOnly": True} in own["container"]["volumeMounts"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "training-data"}} in own["volumes"]


def test_the_evaluation_uses_the_gpus_of_the_training_without_its_network() -> None:
    made = templates(plan("gpus: 4"))["evaluate"]
    assert made["nodeSelector"] == {"stoker.dev/serves": "training"}
    assert {"key": "stoker.dev/serves", "operator": "Equal", "value": "training", "effect": "NoSchedule"} in made[
        "tolerations"
    ]
    limits = made["container"]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "4"
    assert set(limits) == {"memory", "nvidia.com/gpu"}


def test_what_the_pipeline_may_do() -> None:
    made = rendered(plan())
    assert made["Role/pipeline"]["metadata"]["namespace"] == "agentic-ai-training"
    assert made["Role/pipeline"]["rules"] == [
        {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]},
        {"apiGroups": ["trainer.kubeflow.org"], "resources": ["trainjobs"], "verbs": ["create", "get"]},
    ]
    role = made["Role/deploys-model-general"]
    assert role["metadata"]["namespace"] == "agentic-ai"
    assert role["rules"] == [
        {
            "apiGroups": ["apps"],
            "resources": ["deployments"],
            "resourceNames": ["model-general"],
            "verbs": ["get", "patch"],
        }
    ]
    for name in ("pipeline", "deploys-model-general"):
        assert made[f"RoleBinding/{name}"]["subjects"] == [
            {"kind": "ServiceAccount", "name": "pipeline", "namespace": "agentic-ai-training"}
        ]
    assert made["WorkflowTemplate/pipeline"]["spec"]["serviceAccountName"] == "pipeline"


def test_deploying_replaces_the_pods_of_the_model() -> None:
    assert manifest(templates(plan())["deploy"]) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "model-general", "namespace": "agentic-ai"},
        "spec": {"template": {"metadata": {"annotations": {"stoker.dev/registered": "{{workflow.name}}"}}}},
    }
    models = "llm: {models: {big: {serving: {nodes: 2, gpu: {count: 8, memory: 640Gi}}}}}\n"
    pool = "gateway: {defaultModel: big}\nkarpenter: {nodePools: {gpu: {instanceFamilies: [p5], spotEnabled: false}}}"
    wide = plan(more=models + pool)
    assert manifest(templates(wide)["deploy"])["kind"] == "LeaderWorkerSet"
    assert rendered(wide)["Role/deploys-model-big"]["rules"][0]["apiGroups"] == ["leaderworkerset.x-k8s.io"]


def test_what_is_registered_lies_where_the_replicas_look_for_it() -> None:
    command = templates(plan())["register"]["container"]["command"]
    assert command[-2:] == ["--to", "s3://agentic-ai-cluster-models-111122223333/general/"]
    own = plan(more="llm: {inference: {cache: {bucket: weights}}}")
    assert templates(own)["register"]["container"]["command"][-1] == "s3://weights/general/"


def test_without_replicas_that_load_it_the_pipeline_ends_with_the_registration() -> None:
    without = [
        plan("checkpointing: {s3Bucket: mine}", first=""),
        plan(more="llm: {inference: {enabled: false}}"),
        plan(more="llm: {inference: {cache: {kind: node}}}"),
        plan(more="llm: {inference: {gpu: {count: 0}}}"),
        plan(
            more='llm: {models: {own: {serving: {weights: "s3://weights/own"}}}}\ngateway: {defaultModel: own}',
        ),
    ]
    for made in without:
        assert [each["name"] for each in tasks(made)] == ["prepare", "train", "evaluate", "register"]
        assert not [each for each in rendered(made) if each.startswith("Role/deploys")]
        assert "--to" not in templates(made)["register"]["container"]["command"]


def test_runs_are_one_at_a_time_and_are_removed() -> None:
    spec = rendered(plan())["WorkflowTemplate/pipeline"]["spec"]
    assert spec["synchronization"] == {"mutexes": [{"name": "finetune"}]}
    assert spec["ttlStrategy"] == {"secondsAfterSuccess": 86400, "secondsAfterFailure": 604800}
    assert spec["podGC"] == {"strategy": "OnPodSuccess"}
    assert spec["nodeSelector"] == {"stoker.dev/serves": "cpu"}
    assert "nodeSelector" not in rendered(plan(more="karpenter: {enabled: false}"))["WorkflowTemplate/pipeline"]["spec"]
