"""Redis in pods of our own and in ElastiCache."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rendered import Object, blocks_of, objects_of, plan_of, pod_of

from stoker.base.errors import InvalidInput
from stoker.render import base, redis
from stoker.render.hcl import Raw
from stoker.render.writing import files

ELASTICACHE = "redis: {elasticache: {enabled: true, nodeType: cache.m7g.large}}"


def settings(text: str = "") -> dict[str, str]:
    lines = objects_of(redis.render, text)["ConfigMap", "redis"]["data"]["valkey.conf"].splitlines()
    return dict(line.split(" ", 1) for line in lines)


def test_nothing_that_was_answered_is_lost_and_no_key_is_evicted() -> None:
    found = settings()
    assert (found["appendonly"], found["appendfsync"], found["maxmemory-policy"]) == ("yes", "always", "noeviction")


@pytest.mark.parametrize(
    ("volume", "memory", "keeps"),
    [("8Gi", "4096Mi", 3 * 1024**3), ("500Mi", "512Mi", 384 * 1024**2), ("1Ti", "65536Mi", 48 * 1024**3)],
)
def test_it_is_full_before_it_is_killed_for_its_memory(volume: str, memory: str, keeps: int) -> None:
    """Memory is half of the volume, and a quarter of it is left for what is not data."""
    text = f"redis: {{master: {{persistence: {{size: {volume}}}}}}}"
    stateful = objects_of(redis.render, text)["StatefulSet", "redis"]
    assert pod_of(stateful)["containers"][0]["resources"]["limits"] == {"memory": memory}
    assert settings(text)["maxmemory"] == str(keeps)
    [claim] = stateful["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"] == {"requests": {"storage": volume}}
    assert claim["spec"]["storageClassName"] == base.STORAGE_CLASS


def test_writes_go_to_one_server_and_copies_follow_it() -> None:
    found = objects_of(redis.render)
    assert found["StatefulSet", "redis"]["spec"]["replicas"] == 1
    assert found["Service", "redis"]["spec"]["selector"] == {"app.kubernetes.io/name": "redis"}
    copies = found["StatefulSet", "redis-replica"]
    assert copies["spec"]["replicas"] == 2
    assert "replicaof redis.agentic-ai.svc.cluster.local 6379" in pod_of(copies)["containers"][0]["command"][2]


@pytest.mark.parametrize("text", ["redis: {architecture: standalone}", "redis: {replica: {replicaCount: 0}}"])
def test_no_copies_where_none_are_asked_for(text: str) -> None:
    found = objects_of(redis.render, text)
    assert [name for kind, name in found if kind == "StatefulSet"] == ["redis"]


def test_more_copies_where_more_are_asked_for() -> None:
    found = objects_of(redis.render, "redis: {replica: {replicaCount: 5}}")
    assert found["StatefulSet", "redis-replica"]["spec"]["replicas"] == 5


def test_the_password_comes_by_environment_and_never_on_a_command_line() -> None:
    [server, exporter] = pod_of(objects_of(redis.render)["StatefulSet", "redis"])["containers"]
    by_reference = {"secretKeyRef": {"name": "redis", "key": "password"}}
    assert server["env"] == [{"name": "STOKER_REDIS_PASSWORD", "valueFrom": by_reference}]
    assert "exec valkey-server /run/valkey/valkey.conf\n" in server["command"][2]  # no --requirepass
    assert exporter["env"][1] == {"name": "REDIS_PASSWORD", "valueFrom": by_reference}


def test_its_version_has_no_hole_for_who_may_run_lua() -> None:
    """8.1.7 is the last release of 8.1 with a mended one (CVE-2026-23631)."""
    images = {
        pod_of(found)["containers"][0]["image"]
        for (kind, _), found in objects_of(redis.render).items()
        if kind == "StatefulSet"
    }
    (image,) = images
    name, _, version = image.partition(":")
    assert (name, version.startswith("8.1."), int(version.split(".")[2]) >= 7) == ("valkey/valkey", True, True)


def test_never_on_spot() -> None:
    selector = pod_of(objects_of(redis.render)["StatefulSet", "redis"])["nodeSelector"]
    assert selector["karpenter.sh/capacity-type"] == "on-demand"


@pytest.mark.parametrize("key", ["enabled", "prometheus"])
def test_an_exporter_only_for_somebody_who_reads_it(key: str) -> None:
    def names(found: dict[tuple[str, str], Object]) -> list[str]:
        return [each["name"] for each in pod_of(found["StatefulSet", "redis"])["containers"]]

    def ports(found: dict[tuple[str, str], Object]) -> list[str]:
        return [each["name"] for each in found["Service", "redis"]["spec"]["ports"]]

    with_it = objects_of(redis.render)
    without = objects_of(redis.render, f"global: {{observability: {{{key}: false}}}}")
    assert (names(with_it), ports(with_it)) == (["valkey", "exporter"], ["redis", "metrics"])
    assert (names(without), ports(without)) == (["valkey"], ["redis"])


@pytest.mark.parametrize("text", ["redis: {url: 'redis://redis.example.com'}", ELASTICACHE])
def test_no_pods_where_redis_is_elsewhere(text: str) -> None:
    assert objects_of(redis.render, text) == {}


def test_a_socket_of_one_machine_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"unix:///run/redis\.sock, a socket of one machine") as refused:
        objects_of(redis.render, "redis: {url: 'unix:///run/redis.sock'}")
    assert refused.value.param == "redis.url"


def test_elasticache_evicts_nothing_encrypts_and_fails_over() -> None:
    found = blocks_of(redis.render, ELASTICACHE)
    group = found["aws_elasticache_replication_group"]
    assert (group["node_type"], group["num_cache_clusters"], group["automatic_failover_enabled"]) == (
        "cache.m7g.large",
        3,
        True,
    )
    assert group["transit_encryption_enabled"] is group["at_rest_encryption_enabled"] is True
    assert group["parameter_group_name"] == Raw("aws_elasticache_parameter_group.redis.name")
    assert found["aws_elasticache_parameter_group"]["family"] == "valkey8"
    text = files(redis.render(plan_of(ELASTICACHE)))["terraform/redis.tf"]
    said = re.search(r'parameter {\s+name\s+= "maxmemory-policy"\s+value\s+= "(.+)"', text)
    assert said is not None
    assert said[1] == "noeviction"


def test_elasticache_of_one_node_asks_for_no_failover() -> None:
    group = blocks_of(redis.render, "redis: {architecture: standalone, elasticache: {enabled: true}}")[
        "aws_elasticache_replication_group"
    ]
    assert (group["num_cache_clusters"], group["automatic_failover_enabled"], group["multi_az_enabled"]) == (
        1,
        False,
        False,
    )


def test_what_pods_are_told_of_elasticache_lies_in_the_secret_that_is_copied() -> None:
    found = blocks_of(redis.render, ELASTICACHE)
    assert found["aws_secretsmanager_secret"]["name"] == "agentic-ai-cluster/redis"
    said = found["aws_secretsmanager_secret_version"]["secret_string"].value
    external = objects_of(base.render, ELASTICACHE)["ExternalSecret", "redis"]["spec"]["data"]
    assert sorted(said) == sorted(each["remoteRef"]["property"] for each in external)
    assert said["url"].startswith("rediss://:${urlencode(local.redis_token)}@")


@pytest.mark.skipif(shutil.which("terraform") is None, reason="no terraform on PATH")
def test_its_terraform_is_formatted(tmp_path: Path) -> None:
    for name, text in files(redis.render(plan_of(ELASTICACHE))).items():
        (tmp_path / Path(name).name).write_text(text)
    ran = subprocess.run(["terraform", "fmt", "-check", "-diff", str(tmp_path)], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "")
