"""The ledger on RDS. Redis on ElastiCache is `redis_terraform`'s.

The password is made up, and neither Terraform's plan nor its state has it: it goes from one secret into the database's
write-only argument, and with the address into the secret that pods read.
"""

from collections.abc import Iterator

from stoker.render import ledger, secrets
from stoker.render.facts import LEDGER_AUTH, LEDGER_PORT, LEDGER_SECRET
from stoker.render.hcl import Block, Json, Raw
from stoker.render.items import Item, Terraform
from stoker.render.plan import Plan
from stoker.render.root.parts import resource, role
from stoker.render.surroundings import recovery

_FILE = "rds.tf"
_LOGS = ("postgresql", "upgrade")
_LOGS_KEPT_DAYS = 365
_PASSWORD = Raw(f'jsondecode(ephemeral.aws_secretsmanager_secret_version.{LEDGER_AUTH}.secret_string)["password"]')
_SLOW_MS = 1000


def render(plan: Plan) -> Iterator[Item]:
    if plan.ledger != "rds":
        return
    made = {"secret_id": Raw(f"aws_secretsmanager_secret_version.{LEDGER_AUTH}.secret_id")}
    password = Block("ephemeral", ("aws_secretsmanager_secret_version", LEDGER_AUTH), made)
    yield Terraform(_FILE, password, "Made in secrets.tf. It is read when the database is made, and kept by nobody.")
    yield from _network(plan)
    name = ledger.rds_name(plan)
    slow = {"name": "log_min_duration_statement", "value": str(_SLOW_MS)}
    changes = {"name": "log_statement", "value": "ddl"}
    group = {"name": name, "family": f"postgres{ledger.RDS_VERSION}"}
    tls = {"name": "rds.force_ssl", "value": "1"}
    parameters = [Block("parameter", (), each) for each in (slow, changes, tls)]
    why = "Logs statements of over a second, and changes of tables."
    yield resource(_FILE, "aws_db_parameter_group", LEDGER_SECRET, group, *parameters, comment=why)
    for what in _LOGS:
        log = {
            "name": f"/aws/rds/instance/{name}/{what}",
            "retention_in_days": _LOGS_KEPT_DAYS,
            "kms_key_id": Raw("aws_kms_key.main.arn"),
        }
        yield resource(_FILE, "aws_cloudwatch_log_group", f"ledger_{what}", log)
    trust = {"Effect": "Allow", "Principal": {"Service": "monitoring.rds.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = "service-role/AmazonRDSEnhancedMonitoringRole"
    yield from role(
        plan, _FILE, "ledger_monitoring", plan.name_in_region("ledger-monitoring"), trust, policies=[policy]
    )
    why = "Its id ends the name of the last snapshot: that of a database before this one may still be there."
    yield resource(_FILE, "terraform_data", LEDGER_SECRET, {}, comment=why)
    yield _instance(plan, name)
    yield from _secret(plan)


def _network(plan: Plan) -> Iterator[Item]:
    name = ledger.rds_name(plan)
    subnets = {"name": name, "subnet_ids": Raw("values(aws_subnet.private)[*].id")}
    yield resource(_FILE, "aws_db_subnet_group", LEDGER_SECRET, subnets)
    group = {"name": f"{name}-rds", "description": "Database of the ledger", "vpc_id": Raw("aws_vpc.main.id")}
    yield resource(_FILE, "aws_security_group", LEDGER_SECRET, group)
    rule = {
        "security_group_id": Raw(f"aws_security_group.{LEDGER_SECRET}.id"),
        "referenced_security_group_id": Raw("aws_security_group.nodes.id"),
        "ip_protocol": "tcp",
        "from_port": LEDGER_PORT,
        "to_port": LEDGER_PORT,
        "description": "Gateways and agents",
    }
    yield resource(_FILE, "aws_vpc_security_group_ingress_rule", LEDGER_SECRET, rule)


def _instance(plan: Plan, name: str) -> Item:
    attributes = {
        "identifier": name,
        "engine": "postgres",
        "engine_version": ledger.RDS_VERSION,
        "instance_class": ledger.RDS_CLASS,
        "allocated_storage": ledger.RDS_GIB,
        "max_allocated_storage": ledger.RDS_MOST_GIB,
        "storage_type": "gp3",
        "storage_encrypted": True,
        "db_name": ledger.DATABASE,
        "username": ledger.USER,
        "password_wo": _PASSWORD,
        "password_wo_version": 1,
        "port": LEDGER_PORT,
        "db_subnet_group_name": Raw(f"aws_db_subnet_group.{LEDGER_SECRET}.name"),
        "vpc_security_group_ids": [Raw(f"aws_security_group.{LEDGER_SECRET}.id")],
        "parameter_group_name": Raw(f"aws_db_parameter_group.{LEDGER_SECRET}.name"),
        "multi_az": True,
        "publicly_accessible": False,
        "backup_retention_period": ledger.RDS_BACKUP_DAYS,
        "copy_tags_to_snapshot": True,
        "auto_minor_version_upgrade": True,
        "performance_insights_enabled": True,
        "monitoring_interval": 60,
        "monitoring_role_arn": Raw("aws_iam_role.ledger_monitoring.arn"),
        "enabled_cloudwatch_logs_exports": list(_LOGS),
        "deletion_protection": False,
        "skip_final_snapshot": Raw("var.delete_data"),
        "final_snapshot_identifier": f"{name}-last-${{substr(terraform_data.{LEDGER_SECRET}.id, 0, 8)}}",
        "delete_automated_backups": Raw("var.delete_data"),
        "depends_on": [Raw(f"aws_cloudwatch_log_group.ledger_{each}") for each in _LOGS],
    }
    return resource(_FILE, "aws_db_instance", LEDGER_SECRET, attributes)


def _secret(plan: Plan) -> Iterator[Item]:
    secret = {
        "name": secrets.remote(plan, LEDGER_SECRET),
        "description": "Password and address of the ledger's database.",
        **recovery(plan),
    }
    yield resource(_FILE, "aws_secretsmanager_secret", LEDGER_SECRET, secret)
    address = f"aws_db_instance.{LEDGER_SECRET}.address"
    version = {
        "secret_id": Raw(f"aws_secretsmanager_secret.{LEDGER_SECRET}.id"),
        "secret_string_wo": Json({"password": _PASSWORD, "address": Raw(address)}),
        "secret_string_wo_version": Raw(f"parseint(substr(sha1({address}), 0, 6), 16)"),
    }
    why = "What the ExternalSecret ledger copies; written anew when the address is another."
    yield resource(_FILE, "aws_secretsmanager_secret_version", LEDGER_SECRET, version, comment=why)
