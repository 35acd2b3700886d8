"""Secrets: the External Secrets Operator copies them from AWS Secrets Manager; no manifest holds one.

The operator signs in by the pod identity of its own ServiceAccount, so the store names no key and no role (External
Secrets Operator documentation, AWS provider, "controller's pod identity").
"""

from collections.abc import Iterator

from stoker.base.errors import InvalidInput
from stoker.render.facts import (
    AGENT_TOOLS_SECRET,
    AGENTS_SECRET,
    AGENTS_STORE_SECRET,
    ENGINE_SECRET,
    LEDGER_SECRET,
    OTLP_SECRET,
    REDIS_SECRET,
)
from stoker.render.items import Item, Resource
from stoker.render.objects import Object, metadata
from stoker.render.plan import Plan
from stoker.spec import ServerEngine

STORE = "aws-secrets-manager"
ADMIN_SECRET = "admin"  # noqa: S105 - the name of the Secret with the key `key`: the first admin's key
CALLBACKS_SECRET = "callbacks"  # noqa: S105 - the name of the Secret with a key for each variable of callbackSecretEnv


def render(plan: Plan) -> Iterator[Item]:
    yield Resource("base/secret-store.yaml", _store(plan))
    for name, keys in wanted(plan).items():
        comment = f"in AWS Secrets Manager: {remote(plan, name)}, JSON with {', '.join(keys)}"
        yield Resource("base/secrets.yaml", _external_secret(plan, name, keys), comment)


def remote(plan: Plan, name: str) -> str:
    """What a Secret is called in AWS Secrets Manager."""
    return f"{plan.cluster}/{name}"


def wanted(plan: Plan) -> dict[str, tuple[str, ...]]:
    """The Secrets of the platform's namespace with their keys, which are also the properties of the JSON in AWS."""
    found: dict[str, tuple[str, ...]] = {}
    if plan.redis == "elasticache":
        found[REDIS_SECRET] = ("password", "url", "address")
    elif plan.redis == "cluster" or plan.spec.redis.password_env is not None:
        found[REDIS_SECRET] = ("password",)
    if plan.ledger == "rds" and not plan.by_ack:
        found[LEDGER_SECRET] = ("password", "address")
    elif plan.ledger != "url" or plan.spec.ledger.password_env is not None:
        found[LEDGER_SECRET] = ("password",)
    found[ENGINE_SECRET] = ("key",)
    found[ADMIN_SECRET] = ("key",)
    for name in plan.hosted:
        if key_variable(plan, name) is not None:
            found[engine_secret(name)] = ("key",)
    if signs := callback_variables(plan):
        found[CALLBACKS_SECRET] = signs
    if plan.spec.global_.observability.otlp.headers_from_secret:
        found[OTLP_SECRET] = ("headers",)
    if plan.has_agents:
        found[AGENTS_SECRET] = ("key",)
        if plan.agents_store == "url" and plan.spec.agents.store.password_env is not None:
            found[AGENTS_STORE_SECRET] = ("password",)
        if variables := tool_variables(plan):
            found[AGENT_TOOLS_SECRET] = variables
    return found


def tool_variables(plan: Plan) -> tuple[str, ...]:
    """What the tools of agents name, each once. Raises InvalidInput for a variable that is the platform's own: a tool
    would hand a secret of ours to whoever it talks to."""
    found: set[str] = set()
    for name, tool in plan.spec.agents.tools.items():
        kind, said = ("fetch", tool.fetch) if tool.fetch is not None else ("mcp", tool.mcp)
        if said is None:
            continue
        named = {"headers": said.headers, **({"env": tool.mcp.env} if tool.mcp is not None else {})}
        for key, variables in named.items():
            for variable in variables.values():
                if variable.startswith("STOKER_"):
                    path = f"agents.tools.{name}.{kind}.{key}"
                    raise InvalidInput(
                        f"{path} names {variable}, and what begins with STOKER_ is the platform's own",
                        param=path,
                        hint="choose another name for the variable, such as SEARCH_API_KEY",
                    )
                found.add(variable)
    return tuple(sorted(found))


def callback_variables(plan: Plan) -> tuple[str, ...]:
    """What `callbackSecretEnv` of tenants and the webhook of alerts name, each once: several may sign with one
    secret."""
    webhook = plan.spec.costs.alerts.webhook
    said = [tenant.callback_secret_env for tenant in plan.spec.tenants.values()]
    said += [] if webhook is None else [webhook.secret_env]
    return tuple(sorted({variable for variable in said if variable is not None}))


def engine_secret(model: str) -> str:
    """The Secret with the key of a server elsewhere."""
    return f"{ENGINE_SECRET}-{model}"


_OWN = ("STOKER_REDIS_", "STOKER_LEDGER_", "STOKER_ENGINE_KEY", "STOKER_ADMIN_KEY", "STOKER_AGENTS_")
"""How variables begin whose values are the platform's own."""


def hosted_keys(plan: Plan) -> dict[str, str]:
    """Environment variables for the keys of servers elsewhere, with the Secret of each. Models that name the same
    variable have one key, and the first of them says which Secret."""
    found: dict[str, str] = {}
    for name in plan.hosted:
        variable = key_variable(plan, name)
        if variable is not None and variable.startswith(_OWN):
            raise InvalidInput(
                f"llm.models.{name}.engine.apiKeyEnv is {variable}, which the platform itself sets in its pods",
                param=f"llm.models.{name}.engine.apiKeyEnv",
                hint="choose another name for the variable, such as LARGE_API_KEY",
            )
        if variable is not None:
            found.setdefault(variable, engine_secret(name))
    return found


def key_variable(plan: Plan, model: str) -> str | None:
    """The environment variable with the key of a server elsewhere; None where it wants none."""
    engine = plan.spec.llm.models[model].engine
    return engine.api_key_env if isinstance(engine, ServerEngine) else None


def _store(plan: Plan) -> Object:
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "SecretStore",
        "metadata": metadata(plan, STORE, "base", namespace=plan.namespace),
        "spec": {"provider": {"aws": {"service": "SecretsManager", "region": plan.region}}},
    }


def _external_secret(plan: Plan, name: str, keys: tuple[str, ...]) -> Object:
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": metadata(plan, name, "base", namespace=plan.namespace),
        "spec": {
            "refreshInterval": "1h",
            "secretStoreRef": {"kind": "SecretStore", "name": STORE},
            "target": {"name": name, "creationPolicy": "Owner"},
            "data": [{"secretKey": key, "remoteRef": {"key": remote(plan, name), "property": key}} for key in keys],
        },
    }
