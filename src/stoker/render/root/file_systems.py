"""FSx for Lustre for training's data, where the file asks for it and names none of its own."""

from collections.abc import Iterator

from stoker.manifests.quantities import bytes_of
from stoker.render.hcl import Raw
from stoker.render.items import Item
from stoker.render.plan import Plan
from stoker.render.root.parts import resource

_GIB = 1024**3
_SMALLEST, _STEP = 1200, 2400


def makes_file_system(plan: Plan) -> bool:
    said = plan.spec.training
    return said.enabled and said.kubeflow and said.storage.enabled and said.storage.file_system is None


def capacity_gib(size: str) -> int:
    """What FSx has that is no smaller: 1200, or a multiple of 2400 (FSx for Lustre API, StorageCapacity of
    PERSISTENT_2)."""
    gib = -(-bytes_of(size) // _GIB)
    return _SMALLEST if gib <= _SMALLEST else -(-gib // _STEP) * _STEP


def render(plan: Plan) -> Iterator[Item]:
    if not makes_file_system(plan):
        return
    pool = next((pool for pool in plan.pools if pool.use == "training"), None)
    zone = next(iter(pool.zones if pool else ()), plan.zones[0])
    attributes = {
        "storage_capacity": capacity_gib(plan.spec.training.storage.size),
        "subnet_ids": [Raw(f'aws_subnet.private["{zone}"].id')],
        "security_group_ids": [Raw("aws_security_group.nodes.id")],
        "deployment_type": "PERSISTENT_2",
        "file_system_type_version": "2.15",
        "per_unit_storage_throughput": 125,
        "data_compression_type": "LZ4",
        "automatic_backup_retention_days": 7,
        "copy_tags_to_backups": True,
        "skip_final_backup": Raw("var.delete_data"),
        "tags": {"Name": f"{plan.cluster} training"},
    }
    why = f"In the zone of the nodes that train; sizes are 1200 GiB and multiples of 2400: {plan.spec.training.storage.size}."
    yield resource("fsx.tf", "aws_fsx_lustre_file_system", "training", attributes, comment=why)
