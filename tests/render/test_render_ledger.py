"""The ledger in a pod of our own, on RDS, and at a URL."""

import pytest
from rendered import objects_of, plan_of, pod_of

from stoker.base.errors import InvalidInput
from stoker.render import ledger
from stoker.render.ledger import ledger_env, rds_name

RDS = "composition: {ack: {rds: true}}\nglobal: {cluster: {name: My__Cluster_1}, tags: {team: ml}}"


def test_one_postgresql_with_a_volume_and_a_password_from_a_file() -> None:
    found = objects_of(ledger.render)
    stateful = found["StatefulSet", "ledger"]
    assert stateful["spec"]["replicas"] == 1
    [claim] = stateful["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"] == {"requests": {"storage": "50Gi"}}
    [container] = pod_of(stateful)["containers"]
    said = {each["name"]: each["value"] for each in container["env"]}
    assert said["POSTGRES_PASSWORD_FILE"] == "/run/secrets/ledger/password"
    assert (said["POSTGRES_USER"], said["POSTGRES_DB"]) == ("stoker", "stoker")
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "password"]
    assert mount["mountPath"] == "/run/secrets/ledger"
    assert pod_of(stateful)["nodeSelector"]["karpenter.sh/capacity-type"] == "on-demand"
    assert found["Service", "ledger"]["spec"]["selector"] == {"app.kubernetes.io/name": "ledger"}
    assert found["Service", "ledger"]["spec"]["ports"][0]["port"] == 5432


def test_data_is_where_the_volume_is() -> None:
    [container] = pod_of(objects_of(ledger.render)["StatefulSet", "ledger"])["containers"]
    [data] = [each for each in container["volumeMounts"] if each["name"] == "data"]
    said = {each["name"]: each["value"] for each in container["env"]}
    assert said["PGDATA"].startswith(data["mountPath"] + "/")


def test_rds_takes_its_password_from_the_secret_and_says_its_address_to_pods() -> None:
    found = objects_of(ledger.render, RDS)
    assert sorted(kind for kind, _ in found) == ["ConfigMap", "DBInstance", "FieldExport"]
    spec = found["DBInstance", "ledger"]["spec"]
    assert spec["masterUserPassword"] == {"namespace": "agentic-ai", "name": "ledger", "key": "password"}
    assert (spec["dbInstanceIdentifier"], spec["dbSubnetGroupName"]) == ("my-cluster-1-ledger", "my-cluster-1-ledger")
    assert (spec["multiAZ"], spec["storageEncrypted"], spec["deletionProtection"]) == (True, True, True)
    assert {"key": "team", "value": "ml"} in spec["tags"]
    export = found["FieldExport", "ledger-endpoint"]["spec"]
    assert export["from"]["resource"] == {"group": "rds.services.k8s.aws", "kind": "DBInstance", "name": "ledger"}
    [host, *_] = ledger_env(plan_of(RDS))
    assert host["valueFrom"]["configMapKeyRef"] == {"name": export["to"]["name"], "key": export["to"]["key"]}
    # With a value, pods would start before there is one, and each apply would empty it.
    assert "data" not in found["ConfigMap", "ledger-endpoint"]


@pytest.mark.parametrize(
    ("cluster", "name"),
    [("1up", "c1up-ledger"), ("A_-_b", "a-b-ledger"), ("x" * 100, "x" * 56)],
)
def test_rds_has_names_that_it_takes(cluster: str, name: str) -> None:
    made = rds_name(plan_of(f"global: {{cluster: {{name: {cluster}}}}}"))
    assert made.startswith(name)
    assert len(made) <= 63


@pytest.mark.parametrize(
    ("text", "env"),
    [
        (
            "ledger: {url: 'postgresql://me@db.example.com:5433/x'}",
            [{"name": "STOKER_LEDGER_URL", "value": "postgresql://me@db.example.com:5433/x"}],
        ),
        (
            "ledger: {url: 'postgresql://me@db.example.com/x?sslmode=require', passwordEnv: DB_PASSWORD}",
            [
                {
                    "name": "STOKER_LEDGER_PASSWORD",
                    "valueFrom": {"secretKeyRef": {"name": "ledger", "key": "password"}},
                },
                {
                    "name": "STOKER_LEDGER_URL",
                    "value": "postgresql://me:$(STOKER_LEDGER_PASSWORD)@db.example.com/x?sslmode=require",
                },
            ],
        ),
    ],
)
def test_a_database_of_your_own_is_only_environment(text: str, env: list[object]) -> None:
    assert objects_of(ledger.render, text) == {}
    assert ledger_env(plan_of(text)) == env


def test_a_file_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"sqlite:///x\.db, a file, and the gateways of a cluster") as refused:
        objects_of(ledger.render, "ledger: {url: 'sqlite:///x.db'}")
    assert refused.value.param == "ledger.url"
