"""Workers of models on servers elsewhere: one for each, since the server scales itself (docs/autoscaling.md)."""

from collections.abc import Iterator

from stoker.render.base import SERVING_PRIORITY
from stoker.render.facts import MODEL
from stoker.render.items import Item, Resource
from stoker.render.objects import Object, from_secret, metadata, restricted_pod, selector, usual_labels
from stoker.render.plan import Plan
from stoker.render.secrets import engine_secret
from stoker.render.worker_containers import (
    HAND_BACK_S,
    SPEC_VOLUME,
    TMP_VOLUME,
    disruption_budget,
    general_may_be_on_spot,
    grace_s,
    worker_container,
)
from stoker.spec import ServerEngine


def render(plan: Plan) -> Iterator[Item]:
    for model in plan.hosted:
        engine = plan.spec.llm.models[model].engine
        assert isinstance(engine, ServerEngine)  # noqa: S101 - that is what hosted means
        file = f"workers/{name_of(model)}.yaml"
        yield Resource(file, _deployment(plan, model, engine), f"Takes the tasks of {model} to {engine.url}.")
        yield Resource(file, disruption_budget(plan, name_of(model), "workers"))


def name_of(model: str) -> str:
    return f"worker-{model}"


def _deployment(plan: Plan, model: str, engine: ServerEngine) -> Object:
    name = name_of(model)
    grace = grace_s(plan, model, may_be_on_spot=general_may_be_on_spot(plan))
    key = [from_secret(engine.api_key_env, engine_secret(model), "key")] if engine.api_key_env is not None else []
    pod: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": SERVING_PRIORITY,
        "terminationGracePeriodSeconds": grace + HAND_BACK_S,
        "securityContext": restricted_pod(),
        **plan.general_placement(),
        "containers": [worker_container(plan, model, url=engine.url, grace=grace, env=key)],
        "volumes": [SPEC_VOLUME, TMP_VOLUME],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(plan, name, "workers", namespace=plan.namespace, labels={MODEL: model}),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 3,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector(name)},
            "template": {
                "metadata": {"labels": {**selector(name), **usual_labels("workers"), MODEL: model}},
                "spec": pod,
            },
        },
    }
