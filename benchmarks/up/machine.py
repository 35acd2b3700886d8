"""What a figure was measured on, in one line."""

import os
import platform
from importlib import metadata


def describe(*packages: str) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores (load {load:.1f} before), "
        f"Python {platform.python_version()}" + (f", {versions}" if versions else "")
    )
