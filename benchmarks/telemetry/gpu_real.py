"""On a machine with an NVIDIA GPU: does `stoker gpus` say what nvidia-smi says, idle and under load, and is what
`stoker gpus export` serves read back as the same? At most a minute.

    pip install -e '.[gpu]'          # and torch, where load is wanted
    .venv/bin/python benchmarks/telemetry/gpu_real.py [--seconds 10] [--json FILE]

Exit code 0: all agree. Without a GPU it says so and ends with 2. Power and utilization move between two looks, so that
they may differ by 25 points or W in a hundred; memory by 64 MiB; temperature by 5 C; all else has to be the same.
"""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

FIELDS = {
    "uuid": "uuid",
    "name": "name",
    "utilization.gpu": "utilization",
    "memory.used": "memory_used_mib",
    "temperature.gpu": "temperature_c",
    "power.draw": "power_w",
    "power.limit": "power_limit_w",
    "ecc.errors.corrected.volatile.total": "ecc_corrected",
    "ecc.errors.uncorrected.volatile.total": "ecc_uncorrected",
}
MAY_DIFFER = {"utilization": 25.0, "memory_used_mib": 64.0, "temperature_c": 5.0, "power_w": 0.25}
"""Absolute, but for power: a part of it, and 25 W at least."""
LOAD = """
import sys, time, torch
n = 4096
a = torch.randn(n, n, device="cuda", dtype=torch.float16)
print("ready", flush=True)
ends_at = time.time() + float(sys.argv[1])
while time.time() < ends_at:
    for _ in range(20):
        a = (a @ a).clamp(-1, 1)
    torch.cuda.synchronize()
"""


def stoker(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stoker.cli.app", "gpus", *arguments]


def by_command(*arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(stoker("--json", *arguments), capture_output=True, text=True, timeout=30, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["gpus"]
    return sorted(found, key=lambda gpu: gpu["uuid"])


def by_nvidia_smi() -> list[dict[str, Any]]:
    asked = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout
    rows = [dict(zip(FIELDS.values(), line.split(", "), strict=True)) for line in said.splitlines() if line]
    return sorted(rows, key=lambda gpu: gpu["uuid"])


def differences(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[str]:
    if [gpu["uuid"] for gpu in ours] != [gpu["uuid"] for gpu in theirs]:
        return [f"GPUs: {[gpu['uuid'] for gpu in ours]}, nvidia-smi: {[gpu['uuid'] for gpu in theirs]}"]
    return [
        f"{name} of {one['uuid']}: {one[name]}, nvidia-smi: {other[name]}"
        for one, other in zip(ours, theirs, strict=True)
        for name in FIELDS.values()
        if not agree(name, one[name], other[name])
    ]


def agree(name: str, ours: Any, theirs: str) -> bool:
    try:
        value = float(theirs)
    except ValueError:  # a name, or [N/A]
        return theirs.startswith("[") if ours is None else ours == theirs or theirs.startswith("[")
    if ours is None:
        return False
    most = MAY_DIFFER.get(name, 0.01)
    return abs(ours - value) <= (max(25.0, most * value) if name == "power_w" else most)


def check(seconds: float) -> dict[str, Any]:
    report: dict[str, Any] = {"machine": socket.gethostname(), "idle": [], "load": [], "exporter": []}
    ours = by_command()
    report["gpus"] = [gpu["name"] for gpu in ours]
    report["idle"] = differences(ours, by_nvidia_smi())

    port = free_port()
    exporter = subprocess.Popen(stoker("export", "--port", str(port)), stderr=subprocess.PIPE, text=True)
    load = subprocess.Popen([sys.executable, "-c", LOAD, str(seconds)], stdout=subprocess.PIPE, text=True)
    try:
        assert exporter.stderr is not None
        exporter.stderr.readline()  # it says where it is
        assert load.stdout is not None
        report["had_load"] = load.stdout.readline() == "ready\n"
        time.sleep(min(3.0, seconds / 2))  # the driver's utilization is of the last second
        ours, theirs = by_command(), by_nvidia_smi()
        report["load"] = differences(ours, theirs)
        report["busiest"] = max(gpu["utilization"] or 0 for gpu in ours)
        if report["had_load"] and report["busiest"] < 50:
            report["load"].append(f"a GPU under load is {report['busiest']} % busy")
        if report["had_load"] and not any(f"pid {load.pid}" == each["pod"] for gpu in ours for each in gpu["holders"]):
            report["load"].append(f"process {load.pid} is on no GPU (in a container ids may be the host's)")
        place = f"http://127.0.0.1:{port}/metrics"
        served = by_command("--from", place)
        report["exporter"] = differences(served, by_nvidia_smi())
        if any(gpu["xid"] is None for gpu in served):
            report["exporter"].append("no XID: the driver gave no events")
        started = time.perf_counter()
        for _ in range(5):
            with urllib.request.urlopen(place, timeout=10) as answer:
                answer.read()
        report["scrape_s"] = round((time.perf_counter() - started) / 5, 4)
    finally:
        for process in (load, exporter):
            process.terminate()
            process.wait()
    return report


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of load; at most 30")
    parser.add_argument("--json", type=Path, help="where the report goes, too")
    asked = parser.parse_args()
    if shutil.which("nvidia-smi") is None:
        print("no GPU here: nvidia-smi is not installed", file=sys.stderr)
        return 2
    report = check(min(asked.seconds, 30.0))
    text = json.dumps(report, indent=1)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n")
    return 1 if report["idle"] + report["load"] + report["exporter"] else 0


if __name__ == "__main__":
    sys.exit(main())
