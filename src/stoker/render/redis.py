"""Redis: Valkey in pods of our own, ElastiCache (`redis_terraform`), or the server at the URL of the spec.

What the embedded server of one machine promises (`queue/server.py`) holds here too: nothing that was answered is lost
when the server is killed, and no key is ever evicted.
"""

from collections.abc import Iterator

from stoker.manifests.quantities import bytes_of
from stoker.render import redis_terraform
from stoker.render.base import PLATFORM_PRIORITY, claim, disruption_budget
from stoker.render.connections import redis_env
from stoker.render.facts import REDIS, REDIS_PORT, REDIS_SECRET
from stoker.render.items import Item, Resource
from stoker.render.objects import (
    Object,
    from_secret,
    metadata,
    resources,
    restricted_container,
    restricted_pod,
    selector,
)
from stoker.render.plan import Plan

REPLICA = "redis-replica"
CONFIG = "redis"
METRICS_PORT = 9121
_FILE = "redis/redis.yaml"
_IMAGE = "valkey/valkey:8.1.8"
"""On Debian. 8.1.4 and 8.1.7 close holes that a client which may run Lua can use: CVE-2025-49844, CVE-2026-23631 (their
release notes). Its user and tags: valkey-io/valkey-container 8.1/debian/Dockerfile, versions.json."""
_VALKEY_USER = 999  # of that image
_EXPORTER_IMAGE = "oliver006/redis_exporter:v1.74.0"
_GIB = 1024**3
_SMALLEST, _LARGEST = _GIB // 2, 64 * _GIB

# `always`, where one machine has `no` and a keeper that syncs: there the machine's own loss is out of the promise, and
# here it is an ordinary day. One sync serves all clients of a turn of the server's loop.
_SETTINGS = """\
port {port}
dir /data
save ""
appendonly yes
appendfsync always
aof-load-truncated yes
maxmemory {maxmemory}
maxmemory-policy noeviction
loglevel notice
"""

_WHY_SETTINGS = """\
appendfsync always: a task is on disk before its client hears that it is accepted.
noeviction: a full server refuses new tasks, and forgets none."""

_WHY_MASTER = """\
One server takes all writes. It is not replaced by a copy when it is lost: its pod starts again elsewhere in its zone \
with its volume, and gateways go on meanwhile with what budgets they hold \
(docs/budgets.md). For failover by itself: redis.elasticache. Never on spot."""

_WHY_REPLICAS = """\
Copies for the loss of the volume or the zone: to promote one, stop the server and say REPLICAOF NO ONE to the copy \
(docs/render/platform.md). Nothing reads from them, and nothing promotes them by itself."""

_WHY_BUDGET = "one may be down: a budget of none would hold its node for ever, and each replacement is a short pause"

# The password goes from the environment into a file in memory, since command lines are for all to read. PING answers an
# error while the server still loads its data.
_START = """\
umask 077
cp /etc/valkey/valkey.conf /run/valkey/valkey.conf
printf 'requirepass %s\\n' "$STOKER_REDIS_PASSWORD" >> /run/valkey/valkey.conf
exec valkey-server /run/valkey/valkey.conf
"""
_FOLLOW = """\
umask 077
cp /etc/valkey/valkey.conf /run/valkey/valkey.conf
printf 'requirepass %s\\n' "$STOKER_REDIS_PASSWORD" >> /run/valkey/valkey.conf
printf 'masterauth %s\\n' "$STOKER_REDIS_PASSWORD" >> /run/valkey/valkey.conf
printf 'replicaof {host} {port}\\n' >> /run/valkey/valkey.conf
exec valkey-server /run/valkey/valkey.conf
"""
_PING = 'REDISCLI_AUTH="$STOKER_REDIS_PASSWORD" valkey-cli -h 127.0.0.1 ping | grep -q PONG'


def render(plan: Plan) -> Iterator[Item]:
    redis_env(plan)  # so that a URL that no pod reaches is refused, whichever components are rendered
    if plan.redis == "elasticache":
        yield from redis_terraform.render(plan)
    if plan.redis != "cluster":
        return
    yield Resource(_FILE, _config(plan), _WHY_SETTINGS)
    yield Resource(_FILE, _stateful_set(plan, REDIS, 1), _WHY_MASTER)
    yield Resource(_FILE, _service(plan, REDIS, headless=False), "always the one that takes writes")
    yield Resource(_FILE, _service(plan, REDIS, headless=True))
    yield Resource(_FILE, disruption_budget(plan, REDIS, "redis"), _WHY_BUDGET)
    yield Resource(_FILE, _account(plan))
    copies = replicas(plan)
    if copies:
        yield Resource("redis/replicas.yaml", _stateful_set(plan, REPLICA, copies), _WHY_REPLICAS)
        yield Resource("redis/replicas.yaml", _service(plan, REPLICA, headless=True))
        yield Resource("redis/replicas.yaml", disruption_budget(plan, REPLICA, "redis"))


def replicas(plan: Plan) -> int:
    """Copies of the server."""
    return plan.spec.redis.replica.replica_count if plan.spec.redis.architecture == "replication" else 0


def memory_bytes(plan: Plan) -> int:
    """Half of the volume, which holds the append-only file and, while it is written anew, a second one."""
    return min(max(bytes_of(plan.spec.redis.master.persistence.size) // 2, _SMALLEST), _LARGEST)


def _settings(plan: Plan) -> str:
    # A quarter is left for buffers of clients, and for what changes while the file is written anew.
    return _SETTINGS.format(port=REDIS_PORT, maxmemory=memory_bytes(plan) * 3 // 4)


def _config(plan: Plan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(plan, CONFIG, "redis", namespace=plan.namespace),
        "data": {"valkey.conf": _settings(plan)},
    }


def _account(plan: Plan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(plan, REDIS, "redis", namespace=plan.namespace),
        "automountServiceAccountToken": False,
    }


def _service(plan: Plan, name: str, *, headless: bool) -> Object:
    called = f"{name}-pods" if headless else name
    ports = [{"name": "redis", "port": REDIS_PORT, "targetPort": "redis"}]
    if not headless and has_exporter(plan):
        ports.append({"name": "metrics", "port": METRICS_PORT, "targetPort": "metrics"})
    spec: Object = {"selector": selector(name), "ports": ports}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(plan, called, "redis", namespace=plan.namespace),
        "spec": {"clusterIP": "None", **spec} if headless else spec,
    }


def has_exporter(plan: Plan) -> bool:
    seen = plan.spec.global_.observability
    return seen.enabled and seen.prometheus


def _stateful_set(plan: Plan, name: str, count: int) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(plan, name, "redis", namespace=plan.namespace),
        "spec": {
            "serviceName": f"{name}-pods",
            "replicas": count,
            "podManagementPolicy": "OrderedReady",
            "selector": {"matchLabels": selector(name)},
            "template": {
                "metadata": {"labels": metadata(plan, name, "redis")["labels"]},
                "spec": _pod(plan, name),
            },
            "volumeClaimTemplates": [claim("data", plan.spec.redis.master.persistence.size)],
        },
    }


def _pod(plan: Plan, name: str) -> Object:
    host, port = plan.redis_address.rsplit(":", 1)
    start = _START if name == REDIS else _FOLLOW.replace("{host}", host).replace("{port}", port)
    spread = {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(name)},
    }
    return {
        "serviceAccountName": REDIS,
        "automountServiceAccountToken": False,
        "priorityClassName": PLATFORM_PRIORITY,
        "terminationGracePeriodSeconds": 60,
        "securityContext": restricted_pod(_VALKEY_USER),
        **plan.general_placement(stateful=True),
        **({"topologySpreadConstraints": [spread]} if name == REPLICA else {}),
        "containers": [_server(plan, start), *([_exporter()] if has_exporter(plan) else [])],
        "volumes": [
            {"name": "config", "configMap": {"name": CONFIG}},
            {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ],
    }


def _server(plan: Plan, start: str) -> Object:
    ping = {"exec": {"command": ["sh", "-c", _PING]}, "timeoutSeconds": 5}
    return {
        "name": "valkey",
        "image": _IMAGE,
        "command": ["sh", "-ec", start],
        "env": [from_secret("STOKER_REDIS_PASSWORD", REDIS_SECRET, "password")],
        "ports": [{"name": "redis", "containerPort": REDIS_PORT}],
        # Loading a large file takes minutes.
        "startupProbe": {**ping, "periodSeconds": 5, "failureThreshold": 240},
        "readinessProbe": {**ping, "periodSeconds": 5},
        "livenessProbe": {"tcpSocket": {"port": "redis"}, "periodSeconds": 20, "timeoutSeconds": 5},
        "resources": resources("500m", f"{memory_bytes(plan) // 1024**2}Mi"),
        "securityContext": restricted_container(),
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "config", "mountPath": "/etc/valkey", "readOnly": True},
            {"name": "run", "mountPath": "/run/valkey"},
        ],
    }


def _exporter() -> Object:
    """redis_exporter: its README, "Command line flags"."""
    return {
        "name": "exporter",
        "image": _EXPORTER_IMAGE,
        "env": [
            {"name": "REDIS_ADDR", "value": f"redis://127.0.0.1:{REDIS_PORT}"},
            from_secret("REDIS_PASSWORD", REDIS_SECRET, "password"),
        ],
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": "metrics"}, "periodSeconds": 10},
        "livenessProbe": {"httpGet": {"path": "/health", "port": "metrics"}, "periodSeconds": 30},
        "resources": resources("50m", "64Mi"),
        "securityContext": restricted_container(),
    }
