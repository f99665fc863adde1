"""A fleet that is made up, for what its faces make of it: sixteen GPUs in every state, and names that mean harm."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from ollamad.errors import TurnedAway
from ollamad.fleet.happenings import Happening, Weight
from ollamad.fleet.tallies import Tallies
from ollamad.fleet.trip import Outcome, Trip
from ollamad.routing.knowledge import Tally
from ollamad.routing.snapshot import ChildView, GpuView, Resident, Snapshot, StreamView
from ollamad.supervision.cause import Cause
from ollamad.supervision.pinning import Pinning, Proof
from ollamad.supervision.state import Phase, Want

GIB: Final = 1 << 30
HOSTILE: Final = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>"\\\n{x="y"}'
MODELS: Final = ("llama3.3:70b", "gemma3:27b", "qwen3-coder:30b", "hf.co/bartowski/Mistral-Small-24B-GGUF:Q6_K")


@dataclass
class Showcase:
    """What the status listener looks at; tests change it as a fleet changes."""

    now_s: float = 10_000.0
    gpus: int = 16
    waiting: int = 3
    stopping: bool = False
    notes: tuple[str, ...] = ()
    tallies: Tallies = field(default_factory=lambda: Tallies(models_max=10, requests_kept=50, events_kept=50))

    def look(self) -> Snapshot:
        """The snapshot of the moment."""
        children = tuple(self._child(index) for index in range(self.gpus)) or (_cpu_child(self.now_s),)
        return Snapshot(self.now_s, children, waiting=self.waiting, stopping=self.stopping, notes=self.notes)

    def fill(self) -> None:
        """Let there have been requests, deaths and events."""
        for model in MODELS:
            self.tallies.meet(model)
        for index in range(24):
            self.tallies.ended(self._trip(index))
        self.tallies.died("gpu3", Cause.EXITED)
        self.tallies.died("gpu3", Cause.STUCK)
        told = (
            ("gpu0", Weight.INFO, "starting"),
            ("gpu0", Weight.INFO, "ready"),
            ("gpu3", Weight.WARNING, "died: exit status 2: cudaMalloc failed: out of memory"),
            ("GPU 9", Weight.ERROR, "quarantined: Xid 79, the GPU has fallen off the bus"),
            ("gpu9", Weight.ERROR, "in quarantine: GPU 9: Xid 79, the GPU has fallen off the bus"),
            ("gpu5", Weight.WARNING, f"died: exit status 1: {HOSTILE}"),
        )
        self.tallies.happened(
            Happening(self.now_s - 90 + 14 * number, subject, weight, text)
            for number, (subject, weight, text) in enumerate(told)
        )

    def _trip(self, index: int) -> Trip:
        trip = Trip("POST", "/api/chat", f"id{index}", since_s=self.now_s - 200 + 7 * index)
        trip.names(HOSTILE if index == 20 else MODELS[index % len(MODELS)])
        outcome = {5: Outcome.BROKEN, 9: Outcome.CLIENT_LEFT, 13: Outcome.REFUSED, 17: Outcome.CHILD_ERROR}.get(index)
        trip.ended_s = trip.since_s + 2.0 + index % 7
        if outcome is Outcome.REFUSED:
            trip.is_refused(TurnedAway.QUEUE_FULL, 503, "too many wait")
            return trip
        trip.sent(f"gpu{index % 8}", 0.2 * (index % 4), "has the model and a free slot; ready, 0.1 s")
        trip.tally = Tally(0.6 if index % 6 == 0 else 0.02, 300, 0.2, 40 * (1 + index % 7), 1.0 + index % 7)
        trip.first_byte_s = 0.08 * (1 + index % 9) + (0.6 if index % 6 == 0 else 0.0)
        trip.attempts = 2 if index == 11 else 1
        trip.sent_bytes = 4_000 * (1 + index)
        trip.status = 200
        trip.ends(outcome or Outcome.SERVED, 500 if outcome is Outcome.CHILD_ERROR else None)
        return trip

    def _child(self, index: int) -> ChildView:
        child = ChildView(
            id=f"gpu{index}",
            want=Want.UP,
            phase=Phase.READY,
            trusted=True,
            in_flight=2 if index % 4 == 0 else 0,
            slots=4,
            life=1,
            residents=(Resident(MODELS[index % len(MODELS)], 40 * GIB, 40 * GIB, "2026-11-24T12:00:00Z"),),
            residents_at_s=self.now_s - 0.5,
            gpus=(self._gpu(index),),
            pid=1000 + index,
            port=11_500 + index,
            version="0.33.0",
            ready_since_s=self.now_s - 7_000 - 60 * index,
            pinning=Pinning(Proof.PROVEN, "on its GPU, and on no other GPU"),
        )
        return self._odd(index, child)

    def _odd(self, index: int, child: ChildView) -> ChildView:
        """The states that are not the usual one, each on a child of its own."""
        if index in {0, 4, 8, 12}:
            return msgspec.structs.replace(child, streams=self._streams(index))
        lost = "GPU 9: Xid 79, the GPU has fallen off the bus"
        spilled = Pinning(Proof.PARTLY_ON_CPU, "31.0 of 40.0 GiB are in VRAM, the rest is on the CPU")
        dead = msgspec.structs.replace(child, residents=(), ready_since_s=None)
        odd = {
            3: msgspec.structs.replace(
                dead,
                phase=Phase.BACKOFF,
                deaths=4,
                failures=3,
                life=5,
                next_s=self.now_s + 3.7,
                reason="exit status 2: cudaMalloc failed: out of memory",
            ),
            6: msgspec.structs.replace(child, pinning=spilled, outdated=True),
            9: msgspec.structs.replace(dead, phase=Phase.STOPPED, quarantine=lost),
            10: msgspec.structs.replace(child, trusted=False),
            11: msgspec.structs.replace(dead, phase=Phase.STARTING),
        }
        return odd.get(index, child)

    def _streams(self, index: int) -> tuple[StreamView, ...]:
        model = MODELS[index % len(MODELS)]
        waits = StreamView(HOSTILE if index == 4 else model, self.now_s - 2.0, None, held=index == 8)
        return (StreamView(model, self.now_s - 12.5, self.now_s - 0.05), waits)

    def _gpu(self, index: int) -> GpuView:
        used = (2 + (index * 11) % 72) * GIB
        wave = 50 + 45 * math.sin(self.now_s / 9 + index) if index % 5 else 3
        gpu = GpuView(
            index=index,
            uuid=f"GPU-{index:08x}-0000-4000-8000-000000000000",
            name=HOSTILE if index == 5 else "NVIDIA H100 80GB HBM3",
            memory_total_bytes=80 * GIB,
            memory_used_bytes=used,
            memory_free_bytes=80 * GIB - used,
            utilization_percent=round(wave),
            temperature_c=38 + index * 2,
            sampled_at_s=self.now_s - 0.4,
            error=None,
            power_w=90.0 + 30 * index,
            throttled=index == 14,
            foreign_bytes=None if index == 7 else (used // 3 if index % 4 == 2 else 0),
        )
        if index == 9:
            lost = "Xid 79, the GPU has fallen off the bus"
            return replace(gpu, sampled_at_s=self.now_s - 84, error="GPU is lost", quarantined=lost)
        return gpu


def _cpu_child(now_s: float) -> ChildView:
    return ChildView(
        "cpu0", Want.UP, Phase.READY, trusted=True, in_flight=0, ready_since_s=now_s - 5, residents_at_s=now_s
    )
