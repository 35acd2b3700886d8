"""The stack AIInferenceStack: one object of a few lines becomes a bucket, a model server and what goes with it.

It is for models beside those of `llm.models`: the gateway does not know it, its Service is asked directly. The graph is
the guide's, with what its expressions and templates lacked.

Source: kubernetes-sigs/kro@v0.9.3 website/docs, concepts/rgd (simple schema, expressions, readyWhen) and
access control (the label by which kro's own ClusterRole takes in others).
"""

from collections.abc import Iterator
from typing import Any

from stoker.render import iam, network
from stoker.render.facts import (
    ENGINE_PORT,
    ENGINE_SECRET,
    GPU,
    GPU_TOLERATION,
    STACK_REPLICAS,
    WEIGHTS,
    Served,
    short,
)
from stoker.render.items import Item, Resource
from stoker.render.models_weights import stream_env
from stoker.render.objects import (
    Object,
    from_secret,
    metadata,
    restricted_container,
    restricted_pod,
    selector,
    usual_labels,
)
from stoker.render.plan import Plan

COMPONENT = "kro"
GRAPH, KIND, VERSION = "ai-inference-stack", "AIInferenceStack", "v1alpha1"
PLURAL = "aiinferencestacks"
NAME = "${schema.spec.modelName}"
_MOST_GPUS = 8
_SYNCED = '.status.conditions.exists(c, c.type == "ACK.ResourceSynced" && c.status == "True")}'
_STOP_S, _DRAIN_S = 100, 10  # together less than the two minutes of a spot notice
_IN_S3 = "schema.spec.weights.startsWith('s3://')"
_BUSY = 6
"""Running and waiting requests for each replica: 3 of 4 that it is meant to run at once, 8 by default."""
_READ_ONLY_PATHS = ("/tmp", "/cache")  # noqa: S108 - of the container, an emptyDir each


def render(plan: Plan) -> Iterator[Item]:
    if not plan.spec.composition.kro:
        return
    served = plan.stack
    yield Resource("kro/graph.yaml", _graph(plan, served), _GRAPH_COMMENT)
    yield Resource("kro/role.yaml", _role(plan), _ROLE_COMMENT)
    if served is not None:
        yield Resource("kro/instance.yaml", _instance(plan, served), _instance_comment(served))


_GRAPH_COMMENT = (
    "Apply it before its instances: kro makes their kind of it. `kubectl get rgd ai-inference-stack` says Active when "
    "every expression fits the kinds that it reads, so ACK's controllers for S3, IAM and EKS have to be there first."
)
_ROLE_COMMENT = (
    "What kro may do for this graph, and no more. Installed by Helm with rbac.mode aggregation, kro takes the role in "
    "by its label (the chart's default may do everything). The EKS capability has it once a group of the capability's "
    "access entry is bound to it."
)


def _instance_comment(served: Served) -> str:
    return (
        f"What the model {served.name} is served from, once more and by another name, on the same nodes, whose limits "
        f"count it. Delete it and everything of it goes, but for the bucket."
    )


def _graph(plan: Plan, served: Served | None) -> Object:
    usual = plan.spec.llm.inference
    fields = {
        # In names of buckets, too, which are at most 63 characters.
        "modelName": 'string | required=true pattern="^[a-z][a-z0-9-]*$" maxLength=24 description="name of it all"',
        "weights": f'string | default="{served.weights if served else WEIGHTS["general"]}" '
        'description="model of the Hugging Face hub, or an s3 URL; empty: what is put into the bucket of the stack"',
        "minReplicas": "integer | default=1 minimum=1 maximum=100",
        "maxReplicas": f"integer | default={STACK_REPLICAS} minimum=1 maximum=100",
        "gpuCount": f"integer | default={served.gpu.count if served else 1} minimum=1 maximum={_MOST_GPUS}",
        "cpu": f'string | default="{served.cpu if served else usual.cpu}"',
        "memory": f'string | default="{served.memory if served else usual.memory}"',
    }
    status = {
        "bucket": "${bucket.spec.name}",
        "replicas": "${server.status.?availableReplicas.orValue(0)}",
        "service": "http://${service.metadata.name}.${service.metadata.namespace}.svc:" + str(ENGINE_PORT),
    }
    return {
        "apiVersion": "kro.run/v1alpha1",
        "kind": "ResourceGraphDefinition",
        "metadata": metadata(plan, GRAPH, COMPONENT),
        "spec": {
            "schema": {"apiVersion": VERSION, "kind": KIND, "spec": fields, "status": status},
            "resources": list(_resources(plan, served)),
        },
    }


def _resources(plan: Plan, served: Served | None) -> Iterator[Object]:
    """Pods come after their role: a pod that starts before its association never gets credentials."""
    yield _resource("bucket", _bucket(plan), ready="${bucket" + _SYNCED)
    yield _resource("role", _bucket_role(plan), ready="${role" + _SYNCED)
    yield _resource("account", _account())
    yield _resource("identity", _identity(plan), ready="${identity" + _SYNCED)
    yield _resource("server", _server(plan, served))
    yield _resource("service", _service())
    yield _resource("budget", _budget())
    yield _resource("network", _network(plan))
    seen = plan.spec.global_.observability
    if plan.spec.keda.enabled and seen.enabled and seen.prometheus:
        yield _resource("monitor", _monitor())
        yield _resource("scaler", _scaled_object(plan))
    else:
        yield _resource("scaler", _pod_autoscaler())


def _resource(name: str, template: Object, *, ready: str | None = None) -> Object:
    return {"id": name, **({"readyWhen": [ready]} if ready else {}), "template": template}


def _meta(*, annotations: dict[str, str] | None = None, suffix: str = "") -> Object:
    labels = {**selector(NAME), **usual_labels(COMPONENT)}
    return {"name": NAME + suffix, "labels": labels, **({"annotations": annotations} if annotations else {})}


def _bucket(plan: Plan) -> Object:
    """Its name ends with the account, or without one with the region, which leaves it to chance whether it is free."""
    cluster = plan.cluster.lower().replace("_", "-")
    where = {} if plan.region == "us-east-1" else {"createBucketConfiguration": {"locationConstraint": plan.region}}
    block = dict.fromkeys(("blockPublicACLs", "blockPublicPolicy", "ignorePublicACLs", "restrictPublicBuckets"), True)
    rule = {"applyServerSideEncryptionByDefault": {"sseAlgorithm": "aws:kms"}, "bucketKeyEnabled": True}
    return {
        "apiVersion": "s3.services.k8s.aws/v1alpha1",
        "kind": "Bucket",
        "metadata": _meta(annotations={"services.k8s.aws/deletion-policy": "retain"}),
        "spec": {
            "name": f"{NAME}-{short(cluster, plan.account or plan.region, at_most=38)}",
            **where,
            "encryption": {"rules": [rule]},
            "publicAccessBlock": block,
            "versioning": {"status": "Enabled"},
            "tagging": {"tagSet": iam.tag_list(plan)},
        },
    }


def _bucket_role(plan: Plan) -> Object:
    """Reading the stack's bucket, or the one that its weights name."""
    bucket = iam.bucket_arn(plan, f"${{{_IN_S3} ? schema.spec.weights.split('/')[2] : bucket.spec.name}}")
    rights = (
        iam.allow("ListWeights", ("s3:ListBucket",), bucket),
        iam.allow("ReadWeights", ("s3:GetObject",), f"{bucket}/*"),
    )
    trust = iam.pod_trust(plan, "${schema.metadata.namespace}", NAME)
    return {
        "apiVersion": "iam.services.k8s.aws/v1alpha1",
        "kind": "Role",
        "metadata": _meta(),
        "spec": {
            "name": f"{short(plan.cluster, plan.region, at_most=39)}-{NAME}",
            "assumeRolePolicyDocument": iam.policy(trust),
            "inlinePolicies": {"weights": iam.policy(*rights)},
            "tags": iam.tag_list(plan),
        },
    }


def _account() -> Object:
    found = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta()}
    return {**found, "automountServiceAccountToken": False}


def _identity(plan: Plan) -> Object:
    return {
        "apiVersion": "eks.services.k8s.aws/v1alpha1",
        "kind": "PodIdentityAssociation",
        "metadata": _meta(),
        "spec": {
            "clusterName": plan.cluster,
            "namespace": "${schema.metadata.namespace}",
            "serviceAccount": "${account.metadata.name}",
            "roleRef": {"from": {"name": "${role.metadata.name}"}},
            "tags": plan.tags,
        },
    }


def _server(plan: Plan, served: Served | None) -> Object:
    """Without `replicas`, which are the scaler's."""
    placement = plan.placement(served) if served is not None else {"tolerations": [GPU_TOLERATION]}
    spread = {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(NAME)},
    }
    volumes = [{"name": path[1:], "emptyDir": {}} for path in _READ_ONLY_PATHS]
    pod: Object = {
        "serviceAccountName": "${account.metadata.name}",
        "automountServiceAccountToken": False,
        **placement,
        "topologySpreadConstraints": [spread],
        "securityContext": restricted_pod(),
        "terminationGracePeriodSeconds": _STOP_S + _DRAIN_S,
        "containers": [_vllm(plan, served)],
        "volumes": [*volumes, {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}],
    }
    annotations = {"stoker.dev/identity": "${identity.metadata.name}"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(),
        "spec": {
            "selector": {"matchLabels": selector(NAME)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {**selector(NAME), **usual_labels(COMPONENT)}, "annotations": annotations},
                "spec": pod,
            },
        },
    }


def _vllm(plan: Plan, served: Served | None) -> Object:
    """The user has no entry in the image's passwd, hence USER and HOME. The weights of the stack's own bucket are
    streamed.

    The model is the first word: `--model` of `vllm serve` is deprecated (vLLM 0.11.2, vllm/utils/argparse_utils.py).
    """
    given = """${schema.spec.weights == '' ? 's3://' + bucket.spec.name + '/' : schema.spec.weights}"""
    streamed = f"${{schema.spec.weights == '' || {_IN_S3} ? 'runai_streamer' : 'auto'}}"
    quantities: Object = {"memory": "${schema.spec.memory}", GPU: "${string(schema.spec.gpuCount)}"}
    probe = {"httpGet": {"path": "/health", "port": "http"}}
    context = {} if served is None else {"context": f"--max-model-len={served.model.limits.context_tokens}"}
    return {
        "name": "vllm",
        "image": served.image if served is not None else plan.spec.llm.inference.image,
        "command": ["vllm", "serve"],
        "args": [
            given,
            "--load-format",
            streamed,
            f"--served-model-name={NAME}",
            "--tensor-parallel-size=${string(schema.spec.gpuCount)}",
            f"--port={ENGINE_PORT}",
            *context.values(),
        ],
        "env": [
            {"name": "USER", "value": "vllm"},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - of the container
            {"name": "HF_HOME", "value": "/cache"},
            {"name": "VLLM_CACHE_ROOT", "value": "/cache/vllm"},
            *stream_env(plan.region),
            from_secret("VLLM_API_KEY", ENGINE_SECRET, "key"),
        ],
        "ports": [{"name": "http", "containerPort": ENGINE_PORT}],
        "resources": {"requests": {"cpu": "${schema.spec.cpu}", **quantities}, "limits": quantities},
        # Half an hour to load: pulling the image is not in it, downloading the weights is.
        "startupProbe": {**probe, "periodSeconds": 10, "failureThreshold": 180},
        "readinessProbe": {**probe, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**probe, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        # It answers what it still gets while the load balancers take it out.
        "lifecycle": {"preStop": {"sleep": {"seconds": _DRAIN_S}}},
        "securityContext": restricted_container(),
        "volumeMounts": [
            *({"name": path[1:], "mountPath": path} for path in _READ_ONLY_PATHS),
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - of the container
        ],
    }


def _service() -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(),
        "spec": {
            "selector": selector("${server.metadata.name}"),
            "ports": [{"name": "http", "port": ENGINE_PORT, "targetPort": "http"}],
        },
    }


def _budget() -> Object:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": selector("${server.metadata.name}")}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": _meta(), "spec": spec}


def _network(plan: Plan) -> Object:
    """In a namespace that denies by default, it is asked from this namespace and by what watches; it asks for names,
    for weights over HTTPS, in the hub or in S3, and for its credentials."""
    here: Object = {"podSelector": {}}
    names = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    dns = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    agent = {"to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}], "ports": [{"protocol": "TCP", "port": 80}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _meta(),
        "spec": {
            "podSelector": {"matchLabels": selector("${server.metadata.name}")},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [here, *network.watchers(plan)], "ports": [{"protocol": "TCP", "port": "http"}]}],
            "egress": [
                {"to": [names], "ports": dns},
                {"ports": [{"protocol": "TCP", "port": 443}]},
                agent,
            ],
        },
    }


def _monitor() -> Object:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": _meta(),
        "spec": {
            "selector": {"matchLabels": selector("${service.metadata.name}")},
            "endpoints": [{"port": "http", "path": "/metrics", "interval": "15s"}],
        },
    }


def _scaled_object(plan: Plan) -> Object:
    """Metrics of a server that is not there do not exist: so it never goes to zero.

    Source: vLLM 0.11.2, vllm/v1/metrics/loggers.py: num_requests_running, num_requests_waiting.
    """
    keda = plan.spec.keda
    where = '{namespace="${schema.metadata.namespace}",service="${service.metadata.name}"}'
    query = f"sum(vllm:num_requests_running{where}) + sum(vllm:num_requests_waiting{where})"
    address = plan.spec.global_.observability.prometheus_url
    trigger = {"serverAddress": address, "query": query, "threshold": str(_BUSY), "ignoreNullValues": "false"}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": _meta(),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "${server.metadata.name}"},
            "minReplicaCount": "${schema.spec.minReplicas}",
            "maxReplicaCount": "${schema.spec.maxReplicas}",
            "pollingInterval": keda.polling_interval,
            "fallback": {
                "failureThreshold": 3,
                "replicas": "${schema.spec.minReplicas}",
                "behavior": "currentReplicas",
            },
            "triggers": [{"type": "prometheus", "metricType": "AverageValue", "metadata": trigger}],
        },
    }


def _pod_autoscaler() -> Object:
    """By CPU, the only metric of every cluster with metrics-server: a poor sign of load on a GPU, and the one there is
    without KEDA and Prometheus."""
    metric: dict[str, Any] = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _meta(),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "${server.metadata.name}"},
            "minReplicas": "${schema.spec.minReplicas}",
            "maxReplicas": "${schema.spec.maxReplicas}",
            "metrics": [{"type": "Resource", "resource": metric}],
        },
    }


def _role(plan: Plan) -> Object:
    kinds = {
        "": ["serviceaccounts", "services"],
        "apps": ["deployments"],
        "autoscaling": ["horizontalpodautoscalers"],
        "eks.services.k8s.aws": ["podidentityassociations"],
        "iam.services.k8s.aws": ["roles"],
        "keda.sh": ["scaledobjects"],
        # the chart's own role lacks the kinds that graphs define (kro, advanced/access-control)
        "kro.run": [PLURAL, f"{PLURAL}/status", f"{PLURAL}/finalizers"],
        "monitoring.coreos.com": ["servicemonitors"],
        "networking.k8s.io": ["networkpolicies"],
        "policy": ["poddisruptionbudgets"],
        "s3.services.k8s.aws": ["buckets"],
    }
    verbs = ["get", "list", "watch", "create", "update", "patch", "delete"]
    labels = {"rbac.kro.run/aggregate-to-controller": "true"}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": metadata(plan, f"kro-{GRAPH}", COMPONENT, labels=labels),
        "rules": [{"apiGroups": [group], "resources": names, "verbs": verbs} for group, names in kinds.items()],
    }


def _instance(plan: Plan, served: Served) -> Object:
    name = short("stack", served.name, at_most=24)  # as no model's objects are called
    return {
        "apiVersion": f"kro.run/{VERSION}",
        "kind": KIND,
        "metadata": metadata(plan, name, COMPONENT, namespace=plan.namespace),
        "spec": {
            "modelName": name,
            "weights": served.weights,
            "minReplicas": 1,
            "maxReplicas": STACK_REPLICAS,
            "gpuCount": served.gpu.count,
            "cpu": served.cpu,
            "memory": served.memory,
        },
    }
