"""Secrets in AWS Secrets Manager, from which ExternalSecrets take them (component `base`): CLUSTER/NAME, a JSON object.

Those that nobody needs to know are made by Terraform, which neither prints nor keeps them: the value is ephemeral, and
the argument that takes it write-only. Those that somebody else gave out are made empty, as ACK objects, for a person to
fill in: with a value, ACK would want it in a Secret of the cluster, which is where it is to come from in the end.
"""

from collections.abc import Iterator

from stoker.render.facts import (
    AGENT_TOOLS_SECRET,
    AGENTS_SECRET,
    AGENTS_STORE_SECRET,
    ENGINE_SECRET,
    LEDGER_AUTH,
    LEDGER_SECRET,
    OTLP_SECRET,
    REDIS_AUTH,
    REDIS_SECRET,
)
from stoker.render.hcl import Block, Json, Raw
from stoker.render.iam import COMPONENT, tag_list
from stoker.render.items import Item, Resource, Terraform
from stoker.render.objects import metadata
from stoker.render.plan import Plan
from stoker.render.secrets import (
    ADMIN_SECRET,
    CALLBACKS_SECRET,
    callback_variables,
    engine_secret,
    key_variable,
    remote,
    tool_variables,
)
from stoker.render.surroundings import RECOVERY_DAYS, recovery

FILE = "terraform/secrets.tf"
_LENGTH = 40


def made(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """Name, property and use of the secrets whose values are made up."""
    if plan.redis == "cluster":
        yield REDIS_SECRET, "password", "Password of Redis."
    if plan.redis == "elasticache":
        yield REDIS_AUTH, "password", "Token of ElastiCache, from which redis.tf makes the secret of the platform."
    if plan.ledger == "rds" and not plan.by_ack:
        yield LEDGER_AUTH, "password", "Password of RDS, from which rds.tf makes the secret of the platform."
    elif plan.ledger != "url":
        yield LEDGER_SECRET, "password", "Password of the ledger's database."
    yield ENGINE_SECRET, "key", "What engines ask of the gateway and the workers."
    yield ADMIN_SECRET, "key", "The key of the admin API."
    if plan.has_agents:
        yield AGENTS_SECRET, "key", "What the grants of agents' runs are signed with."


def given(plan: Plan) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Name, properties and use of those whose values come from elsewhere."""
    if plan.redis == "url" and plan.spec.redis.password_env:
        yield REDIS_SECRET, ("password",), "Password of the Redis at redis.url."
    if plan.ledger == "url" and plan.spec.ledger.password_env:
        yield LEDGER_SECRET, ("password",), "Password of the database at ledger.url."
    for name in plan.hosted:
        if key_variable(plan, name) is not None:
            yield engine_secret(name), ("key",), f"Key of the server of the model {name}."
    if signs := callback_variables(plan):
        yield CALLBACKS_SECRET, signs, "What callbacks of tenants are signed with: whsec_ and 24 to 64 bytes in base64."
    if plan.spec.global_.observability.otlp.headers_from_secret:
        yield OTLP_SECRET, ("headers",), "Headers for the endpoint of global.observability.otlp."
    if plan.has_agents:
        if plan.agents_store == "url" and plan.spec.agents.store.password_env:
            yield AGENTS_STORE_SECRET, ("password",), "Password of the database at agents.store.url."
        if variables := tool_variables(plan):
            yield AGENT_TOOLS_SECRET, variables, "What tools of agents are given."


def terraform(plan: Plan) -> Iterator[Item]:
    """Source: Terraform's AWS provider, ephemeral aws_secretsmanager_random_password and secret_string_wo of
    aws_secretsmanager_secret_version; write-only arguments are Terraform's since 1.11."""
    yield Terraform(FILE, Block("terraform", (), {"required_version": ">= 1.11"}), "For write-only arguments.")
    for name, key, use in made(plan):
        yield from _made(plan, name, key, use)
    if not plan.by_ack:
        for name, keys, use in given(plan):
            yield Terraform(FILE, _secret(plan, name, use), f"Empty until somebody writes {_form(keys)} into it.")


def _form(keys: tuple[str, ...]) -> str:
    return "{" + ", ".join(f'"{key}": "..."' for key in keys) + "}"


def _made(plan: Plan, name: str, key: str, use: str) -> Iterator[Item]:
    random = {"password_length": _LENGTH, "exclude_punctuation": True}
    yield Terraform(FILE, Block("ephemeral", ("aws_secretsmanager_random_password", name), random), use)
    yield Terraform(FILE, _secret(plan, name, use))
    value = {key: Raw(f"ephemeral.aws_secretsmanager_random_password.{name}.random_password")}
    version = {
        "secret_id": Raw(f"aws_secretsmanager_secret.{name}.id"),
        "secret_string_wo": Json(value),
        "secret_string_wo_version": 1,
    }
    comment = "Written once. A higher number writes a new one; pods take it when they are restarted."
    yield Terraform(FILE, Block("resource", ("aws_secretsmanager_secret_version", name), version), comment)


def _secret(plan: Plan, name: str, use: str) -> Block:
    attributes = {
        "name": remote(plan, name),
        "description": use,
        "recovery_window_in_days": RECOVERY_DAYS,
        **recovery(plan),
        "tags": plan.tags,
    }
    return Block("resource", ("aws_secretsmanager_secret", name), attributes)


def empty(plan: Plan) -> Iterator[Item]:
    for name, keys, use in given(plan):
        found = {
            "apiVersion": "secretsmanager.services.k8s.aws/v1alpha1",
            "kind": "Secret",
            "metadata": metadata(
                plan,
                name,
                COMPONENT,
                namespace=plan.namespace,
                annotations={"services.k8s.aws/deletion-policy": "retain"},
            ),
            "spec": {"name": remote(plan, name), "description": use, "tags": tag_list(plan)},
        }
        comment = (
            f"Empty until somebody writes the value: aws secretsmanager put-secret-value --secret-id "
            f"{remote(plan, name)} --secret-string '{_form(keys)}'"
        )
        yield Resource("aws/secrets.yaml", found, comment)
