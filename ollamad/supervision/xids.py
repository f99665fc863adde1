"""NVIDIA's Xid codes: which are the GPU's own faults, and which only tell of a program that erred on it.

After the immediate actions in NVIDIA's Xid catalog (docs.nvidia.com/deploy/xid-errors, Ampere and newer), read as
follows. "Reset the GPU" or "restart the machine" makes a GPU unfit. "Restart the application" does not, since the
driver has ended the program that did it, and an ended runner is seen elsewhere. What is to be ignored but tells of
hardware that ages, what NVIDIA sends into a workflow of its own, and every code that is not in the table, is worth a
warning and no more.

Two differ from the catalog. 94 (restart the application) makes a GPU unfit too: some memory of a loaded model is lost,
and a child that is started anew loads it again into other memory. 109 (reset the GPU) is only a warning: a program
that hangs on its own causes it too, and NVIDIA's own Kubernetes plugin passes over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Blame(Enum):
    """Whose fault an Xid is."""

    PROGRAM = "program"
    """A program's own; the GPU is as good as before."""
    UNSURE = "unsure"
    """Perhaps the GPU's: worth a warning."""
    GPU = "gpu"
    """The GPU's: what runs on it can't be trusted until it is reset or its memory is loaded anew."""


@dataclass(frozen=True, slots=True)
class Xid:
    """What one code means."""

    blame: Blame
    meaning: str


_PROGRAM: Final = {
    8: "a channel did nothing for too long",
    11: "a malformed command buffer",
    13: "an exception in a kernel",
    25: "an illegal notification",
    31: "a memory page fault",
    32: "a corrupted command buffer",
    39: "a copy engine fault",
    40: "a copy engine fault",
    41: "a copy engine fault",
    43: "a program's channel was reset",
    45: "channels removed after an earlier fault, or as their program ended",
    60: "a fault of the security engine",
    68: "a video decoder fault",
    69: "an illegal method of the graphics engine",
    70: "a copy engine fault",
    71: "a copy engine fault",
    72: "a copy engine fault",
    75: "a copy engine fault",
    76: "a copy engine fault",
    77: "a copy engine fault",
    80: "a command buffer with a wrong checksum",
    85: "a copy engine fault",
    106: "a test message",
    107: "a test message",
}
_UNSURE: Final = {
    54: "a power cable is missing, clocks are reduced",
    61: "a warning of its microcontroller",
    63: "a bad memory row or page is put out of use at the next reset",
    74: "an NVLink error",
    92: "many corrected memory errors",
    109: "a context switch timed out",
    121: "a corrected error of the link to the CPU",
    137: "an NVLink access error",
    154: "the driver recommends another way to recover",
    157: "a part of it could not be put out of use",
    168: "less memory than it should have",
    999: "an error without a number",
}
_GPU: Final = {
    46: "it stopped processing",
    48: "an uncorrectable memory error",
    62: "its microcontroller halted",
    64: "a bad memory row or page could not be put out of use",
    79: "it has fallen off the bus",
    94: "an uncorrectable memory error, contained to the programs that used that memory",
    95: "an uncorrectable memory error that was not contained",
    110: "a security fault",
    119: "its system processor does not answer",
    120: "its system processor failed",
    136: "an NVLink could not be trained",
    140: "an uncorrectable memory error that was not recovered",
    143: "it could not be initialized",
    151: "its encryption keys could not be renewed",
    155: "an NVLink error that needs a reset",
    156: "a part of it is put out of use by a reset",
    158: "a fatal timeout",
}

XIDS: Final[Mapping[int, Xid]] = {
    code: Xid(blame, meaning)
    for blame, meanings in ((Blame.PROGRAM, _PROGRAM), (Blame.UNSURE, _UNSURE), (Blame.GPU, _GPU))
    for code, meaning in meanings.items()
}
"""By code."""


def explain(code: int) -> Xid:
    """What a code means; a code that is not in the table is worth a warning."""
    return XIDS.get(code, Xid(Blame.UNSURE, "see NVIDIA's Xid catalog"))
