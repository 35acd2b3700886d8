"""XID errors: what NVIDIA's driver says when a GPU, its memory, its link or a program on it fails.

Source: NVIDIA, "Xid Errors", Xid catalog (docs.nvidia.com/deploy/xid-errors), read 2026-11-27: description and the
immediate action, in our words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Action = Literal["nothing", "restart the program", "reset the GPU", "restart the machine"]


@dataclass(frozen=True, slots=True)
class Xid:
    meaning: str
    action: Action
    """NVIDIA's immediate one."""


XIDS: Mapping[int, Xid] = MappingProxyType(
    {
        13: Xid("a program made the GPU's engine fail", "restart the program"),
        31: Xid("a program used an address that is not its own", "restart the program"),
        32: Xid("the GPU was sent commands that it cannot read", "restart the program"),
        38: Xid("error of the driver's firmware", "nothing"),
        43: Xid("a program failed and was ended; the GPU is well", "nothing"),
        45: Xid("a program was ended, by itself or by an error before", "nothing"),
        46: Xid("the GPU stopped working on anything", "reset the GPU"),
        48: Xid("memory error of two bits, which ECC cannot correct", "reset the GPU"),
        62: Xid("the GPU's own controller halted", "reset the GPU"),
        63: Xid("a row of memory was replaced by a spare one", "nothing"),
        64: Xid("a row of memory could not be replaced", "reset the GPU"),
        69: Xid("a program made the GPU's engine fail", "restart the program"),
        74: Xid("error of an NVLink", "reset the GPU"),
        79: Xid("the GPU has fallen off the bus", "restart the machine"),
        92: Xid("many memory errors of one bit", "nothing"),
        94: Xid("memory error that only one program met", "restart the program"),
        95: Xid("memory error that all programs met", "reset the GPU"),
        109: Xid("the GPU could not change between programs in time", "reset the GPU"),
        110: Xid("security fault", "reset the GPU"),
        119: Xid("the GPU's system processor did not answer in time", "reset the GPU"),
        120: Xid("the GPU's system processor failed", "reset the GPU"),
        140: Xid("memory error that could not be mended", "reset the GPU"),
        143: Xid("the GPU could not be started", "reset the GPU"),
        154: Xid("another error needs the GPU or the machine restarted", "nothing"),
        157: Xid("no spare is left for a broken part", "nothing"),
        158: Xid("the GPU did not answer in time, for good", "reset the GPU"),
    }
)
"""Those that one meets; an XID that is not here is in NVIDIA's list."""

HARDWARE_XIDS = (48, 64, 74, 79, 95, 119, 120, 140)
"""XID errors that say that the GPU, its memory or its link is bad. Others (13, 31, 43, 45) are mostly a program's."""


def meaning(code: int) -> str:
    found = XIDS.get(code)
    return found.meaning if found is not None else "see NVIDIA's list of XID errors"
