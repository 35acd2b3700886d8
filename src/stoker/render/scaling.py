"""Autoscaling: a ScaledObject for each model that is scaled, and for the workers of agents, with the numbers that
`stoker up` scales by.

Parameters of the triggers: kedacore/keda@v2.20.2 pkg/scalers/*.go and schema/generated/scalers-schema.json. All
triggers are asked at all times, and the one that wants the most replicas wins.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from stoker.aws import cloudwatch_names
from stoker.base.errors import InvalidInput
from stoker.policy import hpa, keda, scaled, streams
from stoker.render.facts import AGENT_WORKER, MODEL, REDIS_SECRET, Served
from stoker.render.items import Item, Resource
from stoker.render.objects import Object, metadata
from stoker.render.plan import Plan
from stoker.spec import AGENT_STEPS

REDIS_AUTH, AWS_AUTH = "keda-redis", "keda-aws"


def render(plan: Plan) -> Iterator[Item]:
    found = [served for served in plan.served if served.is_scaled]
    said = plan.spec.keda.scalers
    if found and not _is_asked(plan):
        raise _nobody_to_ask(found[0])
    has_agents = plan.has_agents and scaled.scales_agents(plan.spec)
    if ((found and said.redis) or has_agents) and (parameters := _secret_parameters(plan)):
        yield Resource("scaling/authentication.yaml", _redis_auth(plan, parameters))
    if found and (_has_cloudwatch(plan) or _has_sqs(plan)):
        comment = "As the role of KEDA's operator, which has it by Pod Identity."
        yield Resource("scaling/authentication.yaml", _aws_auth(plan), comment)
    for served in found:
        yield Resource(f"scaling/{served.workload}.yaml", scaled_object(plan, served), _why(plan, served))
    if has_agents:
        yield Resource(f"scaling/{AGENT_WORKER}.yaml", _agents_object(plan), _WHY_AGENTS)


_WHY_AGENTS = "A run that waits for a person is a row of a database: it waits in no queue, and keeps no worker."


def scaled_object(plan: Plan, served: Served) -> Object:
    numbers = scaled.scaled_object(plan.spec, served.name, "cluster")
    kind = "LeaderWorkerSet" if served.spans_nodes else "Deployment"
    version = "leaderworkerset.x-k8s.io/v1" if served.spans_nodes else "apps/v1"
    target = {"apiVersion": version, "kind": kind, "name": served.workload}
    return _object(plan, target, numbers, list(_triggers(plan, served, numbers)), labels={MODEL: served.name})


def _agents_object(plan: Plan) -> Object:
    numbers = scaled.scaled_object(plan.spec, AGENT_STEPS, "cluster")
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": AGENT_WORKER}
    return _object(plan, target, numbers, [_of_queue(plan, AGENT_STEPS, each) for each in numbers.triggers])


def _object(
    plan: Plan,
    target: Object,
    numbers: keda.ScaledObject,
    triggers: list[Object],
    *,
    labels: Mapping[str, str] | None = None,
) -> Object:
    spec: Object = {
        "scaleTargetRef": target,
        "minReplicaCount": numbers.minimum,
        "maxReplicaCount": numbers.maximum,
    }
    if numbers.minimum == 0:
        # From 1 on the HPA decides, and none of these says anything.
        spec["pollingInterval"] = int(numbers.polling_s)
        spec["cooldownPeriod"] = int(numbers.cooldown_s)
        if numbers.initial_cooldown_s:
            spec["initialCooldownPeriod"] = int(numbers.initial_cooldown_s)
    spec["fallback"] = _fallback(numbers)
    if numbers.behavior is not None:
        spec["advanced"] = {"horizontalPodAutoscalerConfig": {"behavior": _behavior(numbers.behavior)}}
    spec["triggers"] = triggers
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata(plan, target["name"], "scaling", namespace=plan.namespace, labels=labels),
        "spec": spec,
    }


def _triggers(plan: Plan, served: Served, numbers: keda.ScaledObject) -> Iterator[Object]:
    known = {one.name: one for one in numbers.triggers}
    running = known[scaled.RUNNING]
    has_prometheus = _has_prometheus(plan)
    if (waiting := known.get(scaled.WAITING)) is not None:
        yield _of_queue(plan, served.name, waiting)
    pending = known.get(scaled.PENDING)
    if pending is None and not has_prometheus and plan.spec.keda.scalers.redis:
        pending = running  # nobody counts requests; tasks that run at least keep their replicas
    if pending is not None:
        yield _of_queue(plan, served.name, replace(pending, name=scaled.PENDING))
    if has_prometheus:
        yield _prometheus(plan, served, running)
    if _has_sqs(plan):
        yield _sqs(plan, served)
    if _has_cloudwatch(plan):
        yield _cloudwatch(plan, served)


def _of_queue(plan: Plan, model: str, asked: keda.Trigger) -> Object:
    """What waits or what runs of a model's tasks, or of the steps of agents."""
    counts: Object = {"pendingEntriesCount": str(_up(asked.target))}
    if asked.name == scaled.WAITING:
        counts = {"lagCount": str(_up(asked.target)), "activationLagCount": str(_down(asked.activation))}
    trigger: Object = {
        "type": "redis-streams",
        "name": asked.name,
        "metadata": {
            **_redis_metadata(plan),
            "stream": streams.tasks(model),
            "consumerGroup": streams.GROUP,
            **counts,
        },
    }
    if _secret_parameters(plan):
        trigger["authenticationRef"] = {"name": REDIS_AUTH}
    return trigger


def _redis_metadata(plan: Plan) -> Object:
    """Where Redis is; of ElastiCache only AWS knows, so its address comes out of the Secret."""
    if plan.redis == "cluster":
        return {"address": plan.redis_address}
    if plan.redis == "elasticache":
        return {"enableTLS": "true"}
    url = urlsplit(plan.spec.redis.url or "")
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    found = {"address": f"{host}:{url.port or 6379}"}
    if (number := url.path.strip("/")) not in ("", "0"):
        found["databaseIndex"] = number
    if url.username:
        found["username"] = url.username
    if url.scheme == "rediss":
        found["enableTLS"] = "true"
    return found


def _secret_parameters(plan: Plan) -> tuple[str, ...]:
    if plan.redis == "elasticache":
        return ("address", "password")
    if plan.redis == "cluster" or plan.spec.redis.password_env is not None:
        return ("password",)
    return ()


def _prometheus(plan: Plan, served: Served, running: keda.Trigger) -> Object:
    """Each gateway counts its own requests, and all say the same of the queue. Without an answer nobody knows, and
    nothing is scaled down: `ignoreNullValues` false makes that an error, where true would be 0."""
    label = f'{{model="{served.name}"}}'
    return {
        "type": "prometheus",
        "name": scaled.RUNNING,
        "metadata": {
            "serverAddress": plan.spec.global_.observability.prometheus_url,
            "query": f"sum(stoker_requests_in_flight{label}) + max(stoker_queue_pending{label})",
            "threshold": _text(running.target),
            "activationThreshold": _text(running.activation),
            "ignoreNullValues": "false",
        },
    }


def sqs_queue(plan: Plan, served: Served) -> str:
    """The user's queue of a model."""
    return f"{plan.spec.keda.sqs_queue}-{served.name}"


def sqs_queues(plan: Plan) -> tuple[str, ...]:
    """Those that KEDA asks."""
    return tuple(sqs_queue(plan, served) for served in plan.served if served.is_scaled) if _has_sqs(plan) else ()


def _sqs(plan: Plan, served: Served) -> Object:
    """A queue by its name is enough where no account is said (keda-docs scalers/aws-sqs.md, queueURL)."""
    name = sqs_queue(plan, served)
    suffix = ".cn" if plan.partition == "aws-cn" else ""
    at = f"https://sqs.{plan.region}.amazonaws.com{suffix}/{plan.account}/"
    waiting = _waiting(plan, served)
    return {
        "type": "aws-sqs-queue",
        "name": "sqs",
        "metadata": {
            "queueURL": f"{at}{name}" if plan.account else name,
            "queueLength": str(_up(waiting)),
            "awsRegion": plan.region,
        },
        "authenticationRef": {"name": AWS_AUTH},
    }


def _cloudwatch(plan: Plan, served: Served) -> Object:
    """The lag once more, as gateways put it into CloudWatch (`metric_names`), a minute old: for a KEDA that does not
    reach Redis."""
    return {
        "type": "aws-cloudwatch",
        "name": "cloudwatch",
        "metadata": {
            "namespace": cloudwatch_names.QUEUE,
            "metricName": cloudwatch_names.WAITING,
            "dimensionName": f"{cloudwatch_names.CLUSTER};{cloudwatch_names.MODEL}",
            "dimensionValue": f"{plan.cluster};{served.name}",
            "metricStat": "Maximum",
            "metricStatPeriod": "60",
            "metricCollectionTime": "300",
            "targetMetricValue": _text(_waiting(plan, served)),
            "minMetricValue": "0",
            "awsRegion": plan.region,
        },
        "authenticationRef": {"name": AWS_AUTH},
    }


def _waiting(plan: Plan, served: Served) -> int:
    """What should wait for each replica at most, in thousandths, whether or not Redis is asked."""
    said = plan.spec.keda.lag_count
    return scaled.milli(served.model.limits.concurrency if said is None else said)


def _fallback(numbers: keda.ScaledObject) -> Object:
    """Said by nobody, it is as many as there are, which is what KEDA and the HPA do anyway."""
    said = numbers.fallback or keda.Fallback(3, max(numbers.minimum, 1), "currentReplicas")
    found: Object = {"failureThreshold": said.failure_threshold, "replicas": min(said.replicas, numbers.maximum)}
    return found if said.behavior == "static" else {**found, "behavior": said.behavior}


def _behavior(behavior: hpa.Behavior) -> Object:
    return {"scaleUp": _rules(behavior.up), "scaleDown": _rules(behavior.down)}


def _rules(rules: hpa.Rules) -> Object:
    """A tolerance that is not the cluster's own wants Kubernetes 1.35 (HPAConfigurableTolerance)."""
    policies = [
        {"type": each.type, "value": each.value, "periodSeconds": int(each.period_s)} for each in rules.policies
    ]
    found: Object = {
        "stabilizationWindowSeconds": int(rules.stabilization_s),
        "selectPolicy": rules.select,
        "policies": policies,
    }
    own = {} if rules.tolerance == hpa.TOLERANCE else {"tolerance": _text(scaled.milli(rules.tolerance))}
    return {**found, **own}


def _redis_auth(plan: Plan, parameters: tuple[str, ...]) -> Object:
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": metadata(plan, REDIS_AUTH, "scaling", namespace=plan.namespace),
        "spec": {
            "secretTargetRef": [{"parameter": each, "name": REDIS_SECRET, "key": each} for each in parameters],
        },
    }


def _aws_auth(plan: Plan) -> Object:
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": metadata(plan, AWS_AUTH, "scaling", namespace=plan.namespace),
        "spec": {"podIdentity": {"provider": "aws"}},
    }


def _has_prometheus(plan: Plan) -> bool:
    said = plan.spec.global_.observability
    return said.enabled and said.prometheus


def _has_cloudwatch(plan: Plan) -> bool:
    """Only where gateways put what would be read."""
    said = plan.spec.global_.observability
    return plan.spec.keda.scalers.cloudwatch and said.enabled and said.cloudwatch


def _has_sqs(plan: Plan) -> bool:
    return plan.spec.keda.scalers.sqs and plan.spec.keda.sqs_queue is not None


def _is_asked(plan: Plan) -> bool:
    """Whether KEDA has anything to ask: a ScaledObject without a trigger is refused by KEDA."""
    redis = plan.spec.keda.scalers.redis
    return redis or _has_prometheus(plan) or _has_sqs(plan) or _has_cloudwatch(plan)


def _nobody_to_ask(served: Served) -> InvalidInput:
    replicas = served.replicas
    return InvalidInput(
        f"llm.models.{served.name} has {replicas.min} to {replicas.max} replicas, and nothing tells KEDA how many: "
        "keda.scalers.redis is false, Prometheus is off (global.observability.enabled and prometheus), there is no "
        "keda.scalers.cloudwatch with global.observability.cloudwatch, and no keda.scalers.sqs with keda.sqsQueue",
        param="keda.scalers.redis",
        hint="write true, or turn one of the others on; or fix the replicas (replicas.min and max alike)",
    )


def _why(plan: Plan, served: Served) -> str:
    said, lines = plan.spec.keda, []
    if said.scalers.cloudwatch and not _has_cloudwatch(plan):
        lines.append(
            "No CloudWatch trigger, although keda.scalers.cloudwatch is on: without global.observability.cloudwatch "
            "nobody publishes what it would read."
        )
    if said.scalers.sqs and not _has_sqs(plan):
        lines.append(
            "No SQS trigger: SQS gets what was given up, which no replica would work off. keda.sqsQueue names queues "
            "of your own."
        )
    if not _has_prometheus(plan):
        lines.append(
            "Without Prometheus nobody counts the requests that gateways send to replicas; tasks that run count."
        )
    return "\n".join(lines)


def _up(milli: int) -> int:
    """KEDA takes whole numbers here."""
    return max(1, hpa.ceil_div(milli, 1000))


def _down(milli: int) -> int:
    """More than 2.5 of something that is counted is more than 2."""
    return milli // 1000


def _text(milli: int) -> str:
    whole, part = divmod(milli, 1000)
    return f"{whole}.{part:03}".rstrip("0") if part else str(whole)
