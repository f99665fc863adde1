"""What ollamad's own process takes, read from the kernel."""

from __future__ import annotations

import psutil

from ollamad.status.metrics import Own


class OwnProcess:
    """The process that this runs in."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def read(self) -> Own:
        """As it is now."""
        with self._process.oneshot():
            times = self._process.cpu_times()
            return Own(
                cpu_s=times.user + times.system,
                memory_bytes=self._process.memory_info().rss,
                open_fds=self._process.num_fds(),
                started_s=self._process.create_time(),
            )
