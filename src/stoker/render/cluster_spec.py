"""platform.yaml as the processes in the cluster read it: the same file, with what the cluster decides filled in.

vLLM stands for the embedded engine, Redis and the ledger are where pods reach them, and the gateway listens on all
addresses of its pod. It holds no secret, only names of variables, as every spec.
"""

from typing import Any

from stoker.base.errors import InvalidInput
from stoker.base.process import ENGINE_KEY
from stoker.render.connections import REDIS_PASSWORD
from stoker.render.facts import ENGINE_PORT, GATEWAY_PORT, LEDGER, LEDGER_PORT, Served
from stoker.render.plan import Plan
from stoker.spec import Agents, Ledger, Platform, ServerEngine, dump

MOST_BYTES = 1_000_000
"""Of a ConfigMap, which the API server bounds at 1 MiB, names and labels included."""
LEDGER_PASSWORD = "STOKER_LEDGER_PASSWORD"  # noqa: S105 - the name of a variable
AGENTS_PASSWORD = "STOKER_AGENTS_PASSWORD"  # noqa: S105 - the name of a variable


def platform_yaml(plan: Plan) -> str:
    """Normalised, so that the same spec gives the same bytes. Raises InvalidInput for one that no ConfigMap holds."""
    text = dump(cluster_platform(plan))
    size = len(text.encode())
    if size > MOST_BYTES:
        raise InvalidInput(
            f"platform.yaml with all its keys is {size} bytes, and a ConfigMap holds {MOST_BYTES}",
            hint="leave out tenants, and make them by `stoker tenants` once the platform runs",
        )
    return text


def cluster_platform(plan: Plan) -> Platform:
    spec = plan.spec
    models = {
        **spec.llm.models,
        **{each.name: each.model.model_copy(update=_served(plan, each)) for each in plan.served},
    }
    everywhere = "0.0.0.0"  # noqa: S104 - a pod has an address of its own, and NetworkPolicies say who reaches it
    cluster = spec.global_.cluster.model_copy(update={"mode": plan.mode})
    sections: dict[str, Any] = {
        "global_": spec.global_.model_copy(update={"cluster": cluster}),
        "llm": spec.llm.model_copy(update={"models": models}),
        "gateway": spec.gateway.model_copy(update={"host": everywhere, "port": GATEWAY_PORT}),
    }
    if plan.redis == "cluster":
        url = f"redis://{plan.redis_address}/0"
        sections["redis"] = spec.redis.model_copy(update={"url": url, "password_env": REDIS_PASSWORD})
    elif spec.redis.password_env is not None:
        sections["redis"] = spec.redis.model_copy(update={"password_env": REDIS_PASSWORD})
    sections["ledger"] = _ledger(plan)
    sections["agents"] = _agents(plan)
    return spec.model_copy(update=sections)


def engine_url(plan: Plan, served: Served) -> str:
    """A model's API as pods reach it through its Service."""
    return f"http://{served.workload}.{plan.namespace}.svc:{ENGINE_PORT}/v1"


def ledger_host(plan: Plan) -> str:
    return f"{LEDGER}.{plan.namespace}.svc.cluster.local"


def ledger_url(plan: Plan) -> str | None:
    """Without the password. None where only AWS will know: RDS."""
    if plan.ledger == "cluster":
        return f"postgresql://stoker@{ledger_host(plan)}:{LEDGER_PORT}/stoker"
    return plan.spec.ledger.url if plan.ledger == "url" else None


def _ledger(plan: Plan) -> Ledger:
    ledger = plan.spec.ledger
    url = ledger_url(plan)
    has_password = plan.ledger == "cluster" or ledger.password_env is not None
    return ledger.model_copy(update={"url": url, "password_env": LEDGER_PASSWORD if url and has_password else None})


def _agents(plan: Plan) -> Agents:
    agents = plan.spec.agents
    has_password = agents.store.password_env is not None
    store = agents.store.model_copy(update={"password_env": AGENTS_PASSWORD if has_password else None})
    return agents.model_copy(update={"enabled": plan.has_agents, "store": store})


def _served(plan: Plan, served: Served) -> dict[str, Any]:
    """Weights of a laptop's state directory stay there; here `serving.weights` says it."""
    return {"weights": None, **(_by_vllm(plan, served) if served.is_on_gpu else {})}


def _by_vllm(plan: Plan, served: Served) -> dict[str, Any]:
    """What differs of a model when vLLM serves it. What the chat template and an image may take is a bound on money,
    and the engine decides it: what was not written is the usual of a server, and no longer the embedded engine's."""
    engine = ServerEngine(url=engine_url(plan, served), model=served.name, api_key_env=ENGINE_KEY, continues=True)
    return {"engine": engine}
