"""The ledger: PostgreSQL, in a pod of our own, on RDS through ACK or Terraform, or at the URL of the spec."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from stoker.base.errors import InvalidInput
from stoker.render.base import PLATFORM_PRIORITY, claim, disruption_budget
from stoker.render.cluster_spec import LEDGER_PASSWORD, ledger_url
from stoker.render.connections import with_password
from stoker.render.facts import LEDGER, LEDGER_PORT, LEDGER_SECRET, short
from stoker.render.items import Item, Resource
from stoker.render.objects import Object, metadata, resources, restricted_container, restricted_pod, selector
from stoker.render.plan import Plan

LEDGER_URL = "STOKER_LEDGER_URL"
ENDPOINT = "ledger-endpoint"  # ConfigMap with the key `address`, which ACK fills in
DATABASE, USER = "stoker", "stoker"
_IMAGE = "postgres:17.6-bookworm"
_POSTGRES_USER = 999  # of that image
_DATA = "/var/lib/postgresql/data"
VOLUME = "50Gi"
RDS_CLASS, RDS_GIB, RDS_MOST_GIB, RDS_VERSION, RDS_BACKUP_DAYS = "db.t4g.medium", 50, 500, "17", 14


def render(plan: Plan) -> Iterator[Item]:
    if plan.ledger == "cluster":
        yield Resource("ledger/ledger.yaml", _stateful_set(plan), _WHY_ONE)
        yield Resource("ledger/ledger.yaml", _service(plan))
        yield Resource("ledger/ledger.yaml", _account(plan))
        yield Resource("ledger/ledger.yaml", disruption_budget(plan, LEDGER, "ledger"), _WHY_BUDGET)
    elif plan.ledger == "rds" and plan.by_ack:
        yield Resource("ledger/rds.yaml", _db_instance(plan), _WHY_RDS)
        yield Resource("ledger/rds.yaml", _endpoint(plan), "empty until ACK knows; pods that need it wait until then")
        yield Resource("ledger/rds.yaml", _export(plan))
    elif plan.ledger == "url":
        ledger_env(plan)  # so that a URL that no pod reaches is refused, whichever components are rendered


_WHY_ONE = """\
One PostgreSQL without a standby: while its pod moves, gateways keep usage in Redis and write it down afterwards, and \
new keys cannot be made. For a standby and backups: composition.ack.rds, or ledger.url. Never on spot."""

_WHY_BUDGET = "one may be down: a budget of none would hold its node for ever, and each replacement is a short pause"

_WHY_RDS = """\
Needs a DB subnet group of that name, in subnets that the nodes reach; the instance is in the VPC's default security \
group, which has to let the nodes in on 5432. FieldExport is how ACK tells pods an address; it is deprecated without a \
date of its end, and kro is to follow it: composition.kro."""


def ledger_env(plan: Plan, variable: str = LEDGER_URL) -> list[Object]:
    """`variable`, with the URL of the ledger's database, after whatever it is made of. Raises InvalidInput for a file,
    which replicas do not share."""
    if plan.ledger == "rds":
        address = {"configMapKeyRef": {"name": ENDPOINT, "key": "address"}}
        if not plan.by_ack:  # Terraform writes it beside the password
            address = {"secretKeyRef": {"name": LEDGER_SECRET, "key": "address"}}
        host = "STOKER_LEDGER_HOST"
        url = f"postgresql://{USER}@$({host}):{LEDGER_PORT}/{DATABASE}?sslmode=require"
        made = with_password(variable, url, LEDGER_PASSWORD, LEDGER_SECRET)
        return [{"name": host, "valueFrom": address}, *made]
    url = ledger_url(plan) or ""
    if urlsplit(url).scheme == "sqlite":
        raise InvalidInput(
            f"ledger.url is {url}, a file, and the gateways of a cluster do not share one",
            param="ledger.url",
            hint="write postgresql://USER@HOST/DATABASE, or leave ledger.url out for PostgreSQL in the cluster",
        )
    if plan.ledger == "url" and plan.spec.ledger.password_env is None:
        return [{"name": variable, "value": url}]
    return with_password(variable, url, LEDGER_PASSWORD, LEDGER_SECRET)


def _account(plan: Plan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(plan, LEDGER, "ledger", namespace=plan.namespace),
        "automountServiceAccountToken": False,
    }


def _service(plan: Plan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(plan, LEDGER, "ledger", namespace=plan.namespace),
        "spec": {
            "clusterIP": "None",
            "selector": selector(LEDGER),
            "ports": [{"name": "postgresql", "port": LEDGER_PORT, "targetPort": "postgresql"}],
        },
    }


def _stateful_set(plan: Plan) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(plan, LEDGER, "ledger", namespace=plan.namespace),
        "spec": {
            "serviceName": LEDGER,
            "replicas": 1,
            "selector": {"matchLabels": selector(LEDGER)},
            "template": {
                "metadata": {"labels": metadata(plan, LEDGER, "ledger")["labels"]},
                "spec": _pod(plan),
            },
            "volumeClaimTemplates": [claim("data", VOLUME)],
        },
    }


def _pod(plan: Plan) -> Object:
    """What the official image needs to run as another user than root with a root file system that cannot be written:
    its socket's folder, /tmp, and data in a folder of the volume (docs of the image, "Arbitrary --user Notes")."""
    ready = ["pg_isready", "-h", "127.0.0.1", "-U", USER, "-d", DATABASE]
    return {
        "serviceAccountName": LEDGER,
        "automountServiceAccountToken": False,
        "priorityClassName": PLATFORM_PRIORITY,
        # SIGINT of the image is PostgreSQL's fast shutdown, which writes a checkpoint.
        "terminationGracePeriodSeconds": 120,
        "securityContext": restricted_pod(_POSTGRES_USER),
        **plan.general_placement(stateful=True),
        "containers": [
            {
                "name": "postgresql",
                "image": _IMAGE,
                "args": ["-c", "shared_buffers=256MB"],
                "env": [
                    {"name": "POSTGRES_USER", "value": USER},
                    {"name": "POSTGRES_DB", "value": DATABASE},
                    {"name": "POSTGRES_PASSWORD_FILE", "value": "/run/secrets/ledger/password"},
                    {"name": "PGDATA", "value": f"{_DATA}/pgdata"},
                ],
                "ports": [{"name": "postgresql", "containerPort": LEDGER_PORT}],
                # On TCP: while the image sets the database up, it listens on its socket alone.
                "startupProbe": {"exec": {"command": ready}, "periodSeconds": 5, "failureThreshold": 60},
                "readinessProbe": {"exec": {"command": ready}, "periodSeconds": 10, "timeoutSeconds": 5},
                "livenessProbe": {
                    "tcpSocket": {"port": "postgresql"},
                    "periodSeconds": 20,
                    "timeoutSeconds": 5,
                    "failureThreshold": 6,
                },
                "resources": resources("500m", "1Gi"),
                "securityContext": restricted_container(),
                "volumeMounts": [
                    {"name": "data", "mountPath": _DATA},
                    {"name": "password", "mountPath": "/run/secrets/ledger", "readOnly": True},
                    {"name": "run", "mountPath": "/var/run/postgresql"},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of the container
                ],
            }
        ],
        "volumes": [
            {"name": "password", "secret": {"secretName": LEDGER_SECRET, "defaultMode": 0o440}},
            {"name": "run", "emptyDir": {"sizeLimit": "16Mi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        ],
    }


def rds_name(plan: Plan) -> str:
    """Name of the instance, and of its subnet group: lower case, no underscores, a letter first (RDS API reference,
    DBInstanceIdentifier)."""
    name = plan.cluster.lower().replace("_", "-").strip("-")
    while "--" in name:
        name = name.replace("--", "-")
    return short(name if name[:1].isalpha() else f"c{name}", LEDGER)


def _db_instance(plan: Plan) -> Object:
    return {
        "apiVersion": "rds.services.k8s.aws/v1alpha1",
        "kind": "DBInstance",
        "metadata": metadata(plan, LEDGER, "ledger", namespace=plan.namespace),
        "spec": {
            "dbInstanceIdentifier": rds_name(plan),
            "dbInstanceClass": RDS_CLASS,
            "engine": "postgres",
            "engineVersion": RDS_VERSION,
            "dbName": DATABASE,
            "masterUsername": USER,
            "masterUserPassword": {"namespace": plan.namespace, "name": LEDGER_SECRET, "key": "password"},
            "dbSubnetGroupName": rds_name(plan),
            "allocatedStorage": RDS_GIB,
            "maxAllocatedStorage": RDS_MOST_GIB,
            "storageType": "gp3",
            "storageEncrypted": True,
            "multiAZ": True,
            "publiclyAccessible": False,
            "backupRetentionPeriod": RDS_BACKUP_DAYS,
            "copyTagsToSnapshot": True,
            "deletionProtection": True,
            "autoMinorVersionUpgrade": True,
            "tags": [{"key": key, "value": value} for key, value in sorted(plan.tags.items())],
        },
    }


def _endpoint(plan: Plan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(plan, ENDPOINT, "ledger", namespace=plan.namespace),
    }


def _export(plan: Plan) -> Object:
    """ACK, guide "Field Export"."""
    resource = {"group": "rds.services.k8s.aws", "kind": "DBInstance", "name": LEDGER}
    return {
        "apiVersion": "services.k8s.aws/v1alpha1",
        "kind": "FieldExport",
        "metadata": metadata(plan, ENDPOINT, "ledger", namespace=plan.namespace),
        "spec": {
            "from": {"path": ".status.endpoint.address", "resource": resource},
            "to": {"kind": "configmap", "name": ENDPOINT, "namespace": plan.namespace, "key": "address"},
        },
    }
