"""What is known of a child's present process, beside its phase. Written by whoever watches it, read by snapshots."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from ollamad.fleet.bell import Bell
from ollamad.ollama.program import Stamp
from ollamad.routing.snapshot import Resident
from ollamad.supervision.pinning import Pinning, Proof


@dataclass(slots=True)
class Known:
    """The facts of one process; each is None, or empty, until it is learned."""

    changed: Bell
    """Rung when something changes that may let a waiting request go on."""
    pid: int | None = None
    port: int | None = None
    program: Stamp | None = None
    """The program file that it was started from."""
    version: str | None = None
    trusted: bool = False
    """It answered last time we asked, and no connection has failed since."""
    residents: tuple[Resident, ...] = ()
    residents_at_s: float | None = None
    ps_silent_since_s: float | None = None
    """Since when `/api/ps` is asked in vain."""
    looked_s: float | None = None
    """When it was last about to be asked how it is; None while nobody watches it."""
    members: frozenset[int] = frozenset()
    """Its processes, when they were last looked at; empty while it has nothing loaded."""
    pinning: Pinning | None = None
    """Whether they are where they were pinned."""
    misplaced: Proof | None = None
    """The fault of its pinning that was told; it stays one until they are proven to be where they belong."""
    stirred_s: float = field(default_factory=time.monotonic)
    """When something about what it has loaded last changed: it is worth a closer look for a while."""

    def trust(self, *, trusted: bool) -> None:
        """It answers, or it does not."""
        if trusted is not self.trusted:
            self.trusted = trusted
            self.changed.ring()

    def see(self, residents: tuple[Resident, ...]) -> None:
        """What `/api/ps` says is loaded.

        The end of a keep-alive stays where it was on our clock for as long as it is said in the same words: the wall
        clock may have been set since, or the machine may have slept, and Ollama's own timer knows of neither.
        """
        now_s = time.monotonic()
        ends_s = {(before.model, before.expires_at): before.expires_s for before in self.residents}
        residents = tuple(
            replace(one, expires_s=ends_s.get((one.model, one.expires_at), one.expires_s)) for one in residents
        )
        if {resident.model for resident in residents} != {resident.model for resident in self.residents}:
            self.stirred_s = now_s
            self.changed.ring()
        self.residents, self.residents_at_s, self.ps_silent_since_s = residents, now_s, None

    def place(self, members: frozenset[int], pinning: Pinning) -> str | None:
        """Where its processes are; gives what is wrong with that once two looks in a row have found the same fault.

        The driver's list and `/api/ps` are not of the same instant: one look alone may catch a load half done. A model
        that is partly on the CPU did not fit, which is no fault of the pinning.
        """
        before, self.members, self.pinning = self.pinning, members, pinning
        same = before is not None and before.proof is pinning.proof
        return pinning.text if same and pinning.proof in {Proof.WRONG_GPU, Proof.ON_CPU} else None

    def news_of(self, found: Pinning) -> bool | None:
        """Whether a fault of its pinning begins with this verdict, or ends; None where there is nothing new to tell.

        Each load leaves it unproven until the driver is asked again: that ends none.
        """
        if found.is_fault and found.proof is not self.misplaced:
            self.misplaced = found.proof
            return True
        if found.proof is Proof.PROVEN and self.misplaced is not None:
            self.misplaced = None
            return False
        return None

    @property
    def vram_bytes(self) -> int | None:
        """What it has in VRAM, all models together; None where a model does not say."""
        sizes = [resident.vram_bytes for resident in self.residents]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def expect(self, model: str) -> None:
        """An answer with this model has begun: it is resident, before `/api/ps` was asked again."""
        if not any(resident.model == model for resident in self.residents):
            self.residents = (*self.residents, Resident(model, None, None, None))
            self.stirred_s = time.monotonic()
