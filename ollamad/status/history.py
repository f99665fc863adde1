"""The GPUs' utilization over the last minutes, a point a tick for each: a dashboard just opened shows a past."""

from __future__ import annotations

from collections import deque

from ollamad.routing.snapshot import Snapshot
from ollamad.status.gpu_metrics import owned


class History:
    """Bounded: as many points as `history_s` has ticks, for the GPUs that there are now."""

    def __init__(self, *, history_s: float, interval_s: float) -> None:
        self._points = max(2, round(history_s / interval_s))
        self._gpus: dict[str, deque[int | None]] = {}

    def take(self, snapshot: Snapshot) -> dict[str, int | None]:
        """One more point; gives it, by UUID. None where there was no reading, or an old one while the driver errs."""
        point = {gpu.uuid: None if gpu.error else gpu.utilization_percent for gpu, _ in owned(snapshot)}
        self._gpus = {uuid: self._gpus.get(uuid) or deque(maxlen=self._points) for uuid in point}
        for uuid, percent in point.items():
            self._gpus[uuid].append(percent)
        return point

    @property
    def points(self) -> int:
        """How many are kept."""
        return self._points

    def all(self) -> dict[str, list[int | None]]:
        """All points, oldest first, by UUID."""
        return {uuid: list(points) for uuid, points in self._gpus.items()}
