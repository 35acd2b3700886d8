"""The pipeline of a model: prepare, train, evaluate, register, deploy, as a WorkflowTemplate of Argo made by hera.

A run is started by a person or by an event; rendering it starts nothing. Only a run whose score is good enough is
registered, and only what was registered is deployed.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stoker.manifests.writing import to_yaml
from stoker.render import training_queue
from stoker.render.facts import PIPELINE_ACCOUNT, Served
from stoker.render.items import Item, Resource
from stoker.render.objects import Object, metadata, resources, restricted_container, restricted_pod
from stoker.render.plan import Plan
from stoker.render.training import pytorch_job_ignores, pytorch_job_spec, train_job_spec
from stoker.render.training_pods import (
    DO_NOT_DISRUPT,
    EVALUATE,
    GRACE_S,
    MOUNT,
    PREPARE,
    REGISTER,
    RUN,
    RUN_FOLDER,
    SCORE_FILE,
    container,
    devices,
    environment,
    image,
    is_replaced,
    run_folder,
    tuned,
    volumes,
)

if TYPE_CHECKING:
    from hera.workflows import Container, Task
    from hera.workflows import Resource as ResourceStep
    from hera.workflows.models import DAGTask

PIPELINE = "pipeline"
REGISTERED = "stoker.dev/registered"
"""Annotation of a model's pods: the run whose weights they load. A new value replaces the pods, step by step."""
_RETRIES = 3
_LONGEST_S = 7 * 86400
_THIS_RUN = "{{workflow.name}}"
_STEP = {"cpu": "500m", "memory": "1Gi"}
_KEPT = ("AWS_REGION", "AWS_DEFAULT_REGION", "HOME", "STOKER_STATE")


def render(plan: Plan) -> Iterator[Item]:
    training = plan.spec.training
    if not (training.enabled and training.kubeflow and training.pipeline.enabled):
        return
    deployed = deployed_model(plan)
    yield Resource("pipeline/account.yaml", account(plan))
    yield from _access(plan, "pipeline/account.yaml", plan.training_namespace, PIPELINE, step_rules(plan))
    if deployed is not None:
        name = f"deploys-{deployed.workload}"
        yield from _access(plan, "pipeline/deploy.yaml", plan.namespace, name, [deploy_rule(deployed)])
    yield Resource("pipeline/workflow-template.yaml", workflow_template(plan), _comment(plan, deployed))


def _comment(plan: Plan, deployed: Served | None) -> str:
    said = f"argo submit -n {plan.training_namespace} --from workflowtemplate/{PIPELINE} starts a run."
    if deployed is None and not plan.served:
        said += " It ends with the registration: the cluster serves no model of its own."
    elif deployed is None:
        said += (
            " It ends with the registration: replicas do not load from there (llm.inference.cache, serving.weights)."
        )
    return said


def deployed_model(plan: Plan) -> Served | None:
    """Whose replicas are replaced in the end. None where they would not load what was registered."""
    return tuned(plan) if is_replaced(plan) else None


def account(plan: Plan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(plan, PIPELINE_ACCOUNT, PIPELINE, namespace=plan.training_namespace),
    }


def step_rules(plan: Plan) -> list[Object]:
    """What the steps do with the API: report their outputs, make the job and look at it.

    Source: argoproj/argo-workflows@v4.1.2 docs/workflow-rbac.md, workflow/executor/resource.go.
    """
    legacy = plan.spec.training.legacy_pytorch_job
    group, kind = ("kubeflow.org", "pytorchjobs") if legacy else ("trainer.kubeflow.org", "trainjobs")
    return [
        {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]},
        {"apiGroups": [group], "resources": [kind], "verbs": ["create", "get"]},
    ]


def deploy_rule(deployed: Served) -> Object:
    group, kind = ("leaderworkerset.x-k8s.io", "leaderworkersets") if deployed.spans_nodes else ("apps", "deployments")
    return {
        "apiGroups": [group],
        "resources": [kind],
        "resourceNames": [deployed.workload],
        "verbs": ["get", "patch"],
    }


def _access(plan: Plan, file: str, namespace: str, name: str, rules: list[Object]) -> Iterator[Item]:
    group = "rbac.authorization.k8s.io"
    role = {
        "apiVersion": f"{group}/v1",
        "kind": "Role",
        "metadata": metadata(plan, name, PIPELINE, namespace=namespace),
        "rules": rules,
    }
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": metadata(plan, name, PIPELINE, namespace=namespace),
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": PIPELINE_ACCOUNT, "namespace": plan.training_namespace}],
    }
    yield Resource(file, role)
    yield Resource(file, binding)


def workflow_template(plan: Plan) -> Object:
    """hera's own names, so that what it does not know it refuses; parts of pods go in as they are written elsewhere."""
    from hera.workflows import DAG, WorkflowTemplate, models

    deployed = deployed_model(plan)
    workflow = WorkflowTemplate(
        name=PIPELINE,
        entrypoint=PIPELINE,
        service_account_name=PIPELINE_ACCOUNT,
        security_context=models.PodSecurityContext.model_validate(restricted_pod()),
        ttl_strategy=models.TTLStrategy(seconds_after_success=86400, seconds_after_failure=604800),
        pod_gc=models.PodGC(strategy="OnPodSuccess"),
        # Two runs at once would deploy over one another.
        synchronization=models.Synchronization(mutexes=[models.Mutex(name=RUN)]),
        **_general(plan),
    )
    dag = DAG(name=PIPELINE, tasks=_tasks(plan, deploys=deployed is not None))
    workflow.templates = [dag, *_steps(plan, deployed)]
    made: Object = workflow.to_dict()
    return {**made, "metadata": metadata(plan, PIPELINE, PIPELINE, namespace=plan.training_namespace)}


def _general(plan: Plan) -> dict[str, Any]:
    place = plan.general_placement()
    return {"node_selector": place["nodeSelector"]} if place else {}


def _tasks(plan: Plan, *, deploys: bool) -> "list[Task | DAGTask]":
    """`depends` names the result: a task that was skipped counts as done for `dependencies`, and what failed the gate
    would be deployed."""
    from hera.workflows import Task

    gate = f"{{{{tasks.evaluate.outputs.parameters.score}}}} >= {plan.spec.training.pipeline.least_score}"
    found: list[Task | DAGTask] = [
        Task(name="prepare", template="prepare"),
        Task(name="train", template="train", depends="prepare.Succeeded"),
        Task(name="evaluate", template="evaluate", depends="train.Succeeded"),
        Task(name="register", template="register", depends="evaluate.Succeeded", when=gate),
    ]
    if deploys:
        found.append(Task(name="deploy", template="deploy", depends="register.Succeeded"))
    return found


def _steps(plan: Plan, deployed: Served | None) -> "Sequence[Container | ResourceStep]":
    checkpoint = ("--checkpoint", run_folder(plan, _THIS_RUN))
    to = () if deployed is None else ("--to", f"s3://{plan.bucket('models')}/{deployed.name}/")
    steps: list[Container | ResourceStep] = [
        _prepare(plan),
        _train(plan),
        _evaluate(plan, (*EVALUATE, *checkpoint)),
        _on_training_nodes(plan, "register", (*REGISTER, *checkpoint, *to), retry_strategy=_retry()),
    ]
    if deployed is not None:
        steps.append(_deploy(plan, deployed))
    return steps


def _prepare(plan: Plan) -> "Container":
    from hera.workflows import Container, models

    mounts: list[Object] = [
        {"name": "run", "mountPath": RUN_FOLDER, "readOnly": True},
        {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod
    ]
    if plan.spec.training.is_on_file_system:
        mounts.append({"name": "data", "mountPath": MOUNT, "readOnly": True})
    mounted = {each["name"] for each in mounts}
    needed = [each for each in volumes(plan) if each["name"] in mounted]
    env = {key: value for key, value in environment(plan).items() if key in _KEPT}
    return Container(
        name="prepare",
        image=image(plan),
        command=list(PREPARE),
        env=[models.EnvVar(name=key, value=value) for key, value in env.items()],
        resources=_amounts(resources(_STEP["cpu"], _STEP["memory"])),
        security_context=models.SecurityContext.model_validate(restricted_container()),
        volume_mounts=[models.VolumeMount.model_validate(each) for each in mounts],
        volumes=[models.Volume.model_validate(each) for each in needed],
        retry_strategy=_retry(),
    )


def _evaluate(plan: Plan, command: tuple[str, ...]) -> "Container":
    """Without a score there is no file, and a verdict of failed is exit code 1: either ends the pipeline. The same
    weights would fail again, so only what became of the pod is a reason to try again."""
    from hera.workflows import Parameter, models

    score = Parameter(name="score", value_from=models.ValueFrom(path=SCORE_FILE))
    retry = _retry(expression='lastRetry.status == "Error" || asInt(lastRetry.exitCode) > 2')
    return _on_training_nodes(plan, "evaluate", command, outputs=[score], retry_strategy=retry)


def _on_training_nodes(plan: Plan, name: str, command: tuple[str, ...], **more: Any) -> "Container":
    """On the GPUs that the training leaves, whose nodes are still there and hold the model: what is registered is made
    of base and checkpoint anew, and compared with what was evaluated."""
    from hera.workflows import Container, models

    pod = container(plan, name, command)
    asked = resources(plan.training_pods.cpu, plan.training_pods.memory, devices=devices(plan, efa=False))
    place = plan.training_placement()
    env = [each for each in pod["env"] if each["name"] in (*_KEPT, "NCCL_DEBUG")]
    return Container(
        name=name,
        image=pod["image"],
        command=pod["command"],
        env=[models.EnvVar.model_validate(each) for each in env],
        resources=_amounts(asked),
        security_context=models.SecurityContext.model_validate(pod["securityContext"]),
        volume_mounts=[models.VolumeMount.model_validate(each) for each in pod["volumeMounts"]],
        volumes=[models.Volume.model_validate(each) for each in volumes(plan)],
        node_selector=place.get("nodeSelector"),
        tolerations=[models.Toleration.model_validate(each) for each in place["tolerations"]],
        annotations=dict(DO_NOT_DISRUPT),
        pod_spec_patch=f'{{"terminationGracePeriodSeconds": {GRACE_S}}}',
        **more,
    )


def _train(plan: Plan) -> "ResourceStep":
    """The job goes through the queue like any other; its nodes and retries are its own, so the step has none.

    Conditions of a step are label selectors, which cannot look for an element of a list. A TrainJob has three
    conditions, Suspended, Complete and Failed, and one that Kueue admits begins as suspended, so the second is the
    last. A PyTorchJob's list has no such order: it is judged by its master, and a failure by the time that it took.

    Source: argoproj/argo-workflows issues 2288 and 7143; kubeflow/trainer@v2.3.0 pkg/controller/trainjob_controller.go.
    """
    from hera.workflows import Resource as ResourceStep

    legacy = plan.spec.training.legacy_pytorch_job
    manifest = _pytorch_job(plan) if legacy else _train_job(plan)
    ignores = "".join(f"# {each}\n" for each in pytorch_job_ignores(plan)) if legacy else ""
    conditions: dict[str, Any] = {
        "success_condition": "status.conditions.1.type == Complete",
        "failure_condition": "status.conditions.1.type == Failed",
    }
    if legacy:
        conditions = {"success_condition": "status.replicaStatuses.Master.succeeded > 0"}
    return ResourceStep(
        name="train",
        action="create",
        set_owner_reference=True,
        manifest=ignores + to_yaml(manifest),
        active_deadline_seconds=_LONGEST_S,
        annotations=dict(DO_NOT_DISRUPT),
        **conditions,
    )


def _train_job(plan: Plan) -> Object:
    spec = train_job_spec(plan)
    spec["trainer"]["env"] = [{"name": "CHECKPOINT_S3", "value": run_folder(plan, _THIS_RUN)}]
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": _job_metadata(plan),
        "spec": spec,
    }


def _pytorch_job(plan: Plan) -> Object:
    spec = pytorch_job_spec(plan)
    for each in spec["pytorchReplicaSpecs"].values():
        for variable in each["template"]["spec"]["containers"][0]["env"]:
            if variable["name"] == "CHECKPOINT_S3":
                variable["value"] = run_folder(plan, _THIS_RUN)
    return {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": _job_metadata(plan), "spec": spec}


def _job_metadata(plan: Plan) -> Object:
    """The namespace is written out: what is made belongs to the workflow, and owners are of the same namespace."""
    labels = training_queue.labels(training_queue.QUEUE)
    found = metadata(plan, RUN, PIPELINE, namespace=plan.training_namespace, labels=labels)
    del found["name"]
    return {"generateName": f"{RUN}-", **found}


def _deploy(plan: Plan, deployed: Served) -> "ResourceStep":
    """Replicas load the weights of their model when they start: an annotation of their pods replaces them, as `kubectl
    rollout restart` does. Argo CD leaves it alone: it is in no file that it compares."""
    from hera.workflows import Resource as ResourceStep

    pods = {"metadata": {"annotations": {REGISTERED: "{{workflow.name}}"}}}
    head: Object = {"apiVersion": "apps/v1", "kind": "Deployment"}
    spec: Object = {"template": pods}
    if deployed.spans_nodes:
        head = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"}
        spec = {"leaderWorkerTemplate": {"workerTemplate": pods}}
    manifest = {**head, "metadata": {"name": deployed.workload, "namespace": plan.namespace}, "spec": spec}
    return ResourceStep(name="deploy", action="patch", merge_strategy="merge", manifest=to_yaml(manifest))


def _amounts(asked: Object) -> Any:
    """hera takes quantities as text only."""
    from hera.workflows import models

    written = {part: {key: str(amount) for key, amount in found.items()} for part, found in asked.items()}
    return models.ResourceRequirements.model_validate(written)


def _retry(*, expression: str | None = None) -> Any:
    """Always: a pod that went with its node is an Error, which the usual policy leaves alone. `expression`: only where
    it holds. Source: argoproj/argo-workflows docs/retries.md, conditional retries."""
    from hera.workflows import RetryStrategy, models

    # No maxDuration: it counts from the beginning of the first try, and would end the retries of a long step.
    backoff = models.Backoff.model_validate({"duration": "30s", "factor": 2})
    return RetryStrategy(limit=str(_RETRIES), retry_policy="Always", backoff=backoff, expression=expression)
