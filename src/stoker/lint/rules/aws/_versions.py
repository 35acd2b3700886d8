"""Versions of Kubernetes on EKS, and until when AWS supports them."""

import re
from typing import Any

_MINOR = re.compile(r"1\.(\d{1,3})(?:\..*)?", re.ASCII)

# awsdocs/amazon-eks-user-guide latest/ug/versioning/kubernetes-versions.adoc: end of standard and of extended support.
SUPPORT: dict[int, tuple[str, str]] = {
    29: ("2025-03-23", "2026-03-23"),
    30: ("2025-07-23", "2026-07-23"),
    31: ("2025-11-26", "2026-11-26"),
    32: ("2026-03-23", "2027-03-23"),
    33: ("2026-07-29", "2027-07-29"),
    34: ("2026-12-02", "2027-12-02"),
}
LAST_ENDED = 30
"""The newest that AWS takes for no new cluster any more, when this was written (August 2026)."""
LAST_EXTENDED = 33
"""The newest whose standard support had ended by then."""


def minor(version: Any) -> int | None:
    """34 of `1.34`; None for anything else. YAML makes a number of 1.30 without quotes, which is then 1.3."""
    match = _MINOR.fullmatch(version) if isinstance(version, str) else None
    return int(match[1]) if match else None
