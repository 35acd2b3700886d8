"""Writes the instance types, spot facts and KEDA triggers that ship with the package, from a shared folder of facts.

    scripts/build_ec2.py SHARED [--out src/stoker/catalog/data]

SHARED holds `data/ec2/instances.json`, `spot_advisor_2025-06.json` and `spot_prices_sample.csv` beside it, and
`data/keda/scalers-schema_v2.20.2.json`, as their SOURCES.md describes them. Of on-demand prices only those of
Karpenter's regions are taken, and of types those of its reference page.
"""

import argparse
import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stoker.manifests.quantities import in_base_units

REGIONS = ("us-east-1", "us-gov-east-1", "us-gov-west-1")
"""Whose prices Karpenter (Apache-2.0) publishes. The other regions come from lists without a licence."""
PAGE = "karpenter-instance-types-doc"
EFA = "vpc.amazonaws.com/efa"
POD_ENI = "vpc.amazonaws.com/pod-eni"
FIELDS = {
    "name": "instance_type",
    "family": "family",
    "size": "size",
    "category": "category",
    "generation": "generation",
    "arch": "arch",
    "hypervisor": "hypervisor",
    "bare_metal": "bare_metal",
    "vcpu": "vcpu",
    "cpu_manufacturer": "cpu_manufacturer",
    "memory_mib": "memory_mib",
    "gpu_count": "gpu_count",
    "gpu_name": "gpu_name",
    "gpu_manufacturer": "gpu_manufacturer",
    "gpu_memory_mib": "gpu_memory_mib_each",
    "accelerator_count": "accelerator_count",
    "accelerator_name": "accelerator_name",
    "accelerator_manufacturer": "accelerator_manufacturer",
    "network_mbps": "network_bandwidth_mbps",
    "ebs_mbps": "ebs_bandwidth_mbps",
    "local_nvme_gb": "local_nvme_gb",
    "efa_count": "efa_count",
    "max_pods": "max_pods",
    "ipv4_per_eni": "ipv4_per_eni",
}
NUMBERS_OF_NOTHING = ("gpu_memory_mib", "network_mbps", "ebs_mbps", "ipv4_per_eni")  # null in the source: 0 here


def row(facts: dict[str, Any]) -> list[Any]:
    values = {name: facts[key] for name, key in FIELDS.items()}
    for name in NUMBERS_OF_NOTHING:
        values[name] = values[name] or 0
    values["enis"] = enis(facts)
    values["bare_metal"] = bool(values["bare_metal"])
    for name, value in values.items():
        if value is None:
            values[name] = ""
    allocatable = {key: in_base_units(key, amount) for key, amount in facts["allocatable"].items()}
    allocatable["pods"] = facts["max_pods"]
    if facts["efa_count"]:
        allocatable[EFA] = facts["efa_count"]
    if facts["branch_enis"]:
        allocatable[POD_ENI] = facts["branch_enis"]
    prices = facts["on_demand_usd_per_hour"] or {}
    kept = {region: prices[region] for region in REGIONS if region in prices}
    return [*values.values(), dict(sorted(allocatable.items())), kept]


def enis(facts: dict[str, Any]) -> int:
    """Network interfaces of the default network card, which the CNI uses alone. The source counts those of all cards;
    where that does not give the type's pods it has several cards, and the number is worked out from the pods."""
    interfaces, addresses, pods = facts["max_enis"], facts["ipv4_per_eni"], facts["max_pods"]
    if interfaces is None or addresses is None:
        return 0
    if interfaces * (addresses - 1) + 2 == pods:
        return int(interfaces)
    found, rest = divmod(pods - 2, addresses - 1)
    if rest:
        raise ValueError(f"{facts['instance_type']}: {pods} pods come from no whole number of interfaces")
    return int(found)


def instances(source: dict[str, Any]) -> dict[str, Any]:
    taken = [each for each in source["instances"] if each["source_tier"] == PAGE]
    taken.sort(key=lambda each: each["instance_type"])
    return {"fields": [*FIELDS, "enis", "allocatable", "prices"], "types": [row(each) for each in taken]}


def spot(advisor: dict[str, Any], prices: Sequence[Mapping[str, str]], names: set[str]) -> dict[str, Any]:
    """Of the types that ship: `[savings in per cent, interruption bucket]` by region and type, and by type and id of
    the zone what spot was seen to cost, in USD per hour."""
    regions = {
        region: {name: found[name] for name in sorted(found.keys() & names)}
        for region, found in sorted(advisor["regions"].items())
    }
    zones: dict[str, dict[str, float]] = {}
    for each in prices:
        if each["instance_type"] in names:
            zones.setdefault(each["instance_type"], {})[each["az_id"]] = float(each["spot_usd"])
    of_zone = {each["az_id"]: each["region"] for each in prices}
    return {
        "regions": regions,
        "prices": {name: dict(sorted(found.items())) for name, found in sorted(zones.items())},
        "zones": dict(sorted(of_zone.items())),
    }


def scalers(source: dict[str, Any]) -> dict[str, Any]:
    """`{type: [[name, flags, default, allowed, separator, range separator, deprecated, announced], ...]}`; flags are
    letters of: o optional, m metadata, e environment, a authentication."""
    letters = (
        ("o", "optional"),
        ("m", "metadataVariableReadable"),
        ("e", "envVariableReadable"),
        ("a", "triggerAuthenticationVariableReadable"),
    )
    rest = ("default", "allowedValue", "separator", "rangeSeparator", "deprecated", "deprecatedAnnounce")
    found = {}
    for scaler in sorted(source["scalers"], key=lambda each: each["type"]):
        rows = []
        for each in scaler["parameters"]:
            full = [each["name"], "".join(c for c, key in letters if each.get(key)), *(each.get(key) for key in rest)]
            while full[-1] is None:
                full.pop()
            rows.append(full)
        found[scaler["type"]] = rows
    return found


def write(path: Path, data: Any) -> None:
    """The same data gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{path}: {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "src" / "stoker" / "catalog" / "data")
    asked = parser.parse_args()
    facts = asked.shared / "data" / "ec2"
    ec2 = json.loads((facts / "instances.json").read_text())
    advisor = json.loads((facts / "spot_advisor_2025-06.json").read_text())
    prices = list(csv.DictReader((facts / "spot_prices_sample.csv").read_text().splitlines()))
    keda = json.loads((asked.shared / "data" / "keda" / "scalers-schema_v2.20.2.json").read_text())
    types = instances(ec2)
    write(asked.out / "ec2" / "instances.json.gz", types)
    write(asked.out / "ec2" / "spot.json.gz", spot(advisor, prices, {each[0] for each in types["types"]}))
    write(asked.out / "keda" / "scalers.json.gz", scalers(keda))


if __name__ == "__main__":
    main()
