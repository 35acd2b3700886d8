"""ElastiCache for Valkey, as `terraform/redis.tf`: ACK's schema for it is not among those that are checked."""

from collections.abc import Iterator, Mapping

from stoker.render import secrets
from stoker.render.facts import REDIS_AUTH, REDIS_PORT, REDIS_SECRET, short
from stoker.render.hcl import Block, Json, Raw
from stoker.render.items import Item, Terraform
from stoker.render.plan import Plan
from stoker.render.surroundings import NODES_GROUP, SUBNETS, VPC, recovery

_FILE = "terraform/redis.tf"
_SAID = 'jsondecode(data.aws_secretsmanager_secret_version.redis_auth.secret_string)["password"]'
_TOKEN = "local.redis_token"  # noqa: S105 - an expression
_ENDPOINT = "aws_elasticache_replication_group.redis.primary_endpoint_address"


def render(plan: Plan) -> Iterator[Item]:
    for each in (VPC, SUBNETS, NODES_GROUP):
        yield from each.asked(plan)
    auth = secrets.remote(plan, REDIS_AUTH)
    why = "Made in secrets.tf. ElastiCache takes its token as an argument, so that Terraform's state holds it too."
    read = {"secret_id": auth, "depends_on": [Raw(f"aws_secretsmanager_secret_version.{REDIS_AUTH}")]}
    yield Terraform(_FILE, _data("aws_secretsmanager_secret_version", "redis_auth", read), why)
    yield Terraform(_FILE, Block("locals", (), {"redis_token": Raw(_SAID)}))
    for block, comment in _blocks(plan):
        yield Terraform(_FILE, block, comment)


def _blocks(plan: Plan) -> Iterator[tuple[Block, str]]:
    name = short(plan.cluster.lower().replace("_", "-"), REDIS_SECRET, at_most=40)
    yield (
        _resource(
            "aws_elasticache_subnet_group",
            {"name": name, "subnet_ids": SUBNETS.value(plan), "tags": plan.tags},
        ),
        "",
    )
    yield (
        _resource(
            "aws_security_group",
            {
                "name": f"{name}-elasticache",
                "description": "Redis of the platform",
                "vpc_id": VPC.value(plan),
                "tags": plan.tags,
            },
        ),
        "",
    )
    rule = {
        "security_group_id": Raw("aws_security_group.redis.id"),
        "referenced_security_group_id": NODES_GROUP.value(plan),
        "ip_protocol": "tcp",
        "from_port": REDIS_PORT,
        "to_port": REDIS_PORT,
    }
    yield _resource("aws_vpc_security_group_ingress_rule", rule), ""
    policy = Block("parameter", (), {"name": "maxmemory-policy", "value": "noeviction"})
    group = {"name": name, "family": "valkey8", "tags": plan.tags}
    yield _resource("aws_elasticache_parameter_group", group, policy), "the family's own policy evicts keys"
    yield _resource("aws_elasticache_replication_group", _group(plan, name)), _WHY_GROUP
    secret = {"name": secrets.remote(plan, REDIS_SECRET), **recovery(plan), "tags": plan.tags}
    yield _resource("aws_secretsmanager_secret", secret), ""
    version = {
        "secret_id": Raw("aws_secretsmanager_secret.redis.id"),
        "secret_string": Json(
            {
                "password": Raw(_TOKEN),
                "address": f"${{{_ENDPOINT}}}:{REDIS_PORT}",
                "url": f"rediss://:${{urlencode({_TOKEN})}}@${{{_ENDPOINT}}}:{REDIS_PORT}/0",
            }
        ),
    }
    yield _resource("aws_secretsmanager_secret_version", version), "what the ExternalSecret redis copies"


_WHY_GROUP = """\
Not cluster mode: the platform's scripts touch keys of several slots. It has no append-only file: a failover loses \
what the primary had not yet copied; a snapshot is taken each day."""


def _group(plan: Plan, name: str) -> Mapping[str, object]:
    copies = plan.spec.redis.replica.replica_count if plan.spec.redis.architecture == "replication" else 0
    return {
        "replication_group_id": name,
        "description": "Tasks and budgets of the platform",
        "engine": "valkey",
        "engine_version": "8.0",
        "node_type": plan.spec.redis.elasticache.node_type,
        "port": REDIS_PORT,
        "num_cache_clusters": 1 + copies,
        "automatic_failover_enabled": copies > 0,
        "multi_az_enabled": copies > 0,
        "parameter_group_name": Raw("aws_elasticache_parameter_group.redis.name"),
        "subnet_group_name": Raw("aws_elasticache_subnet_group.redis.name"),
        "security_group_ids": [Raw("aws_security_group.redis.id")],
        "at_rest_encryption_enabled": True,
        "transit_encryption_enabled": True,
        "auth_token": Raw(_TOKEN),
        "snapshot_retention_limit": 7,
        "tags": plan.tags,
    }


def _data(kind: str, name: str, attributes: Mapping[str, object]) -> Block:
    return Block("data", (kind, name), attributes)


def _resource(kind: str, attributes: Mapping[str, object], *blocks: Block) -> Block:
    return Block("resource", (kind, REDIS_SECRET), attributes, blocks)
