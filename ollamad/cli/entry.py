"""Where the commands begin. What they need can take a second to load: Ctrl-C ends that in silence."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


def ollamad() -> int:
    """`ollamad`; gives its exit code."""
    with _interruptible():
        from ollamad.cli.main import main  # noqa: PLC0415 - see above
    return main()


def ollamactl() -> int:
    """`ollamactl`; gives its exit code."""
    with _interruptible():
        from ollamad.cli.ctl.errors import INTERRUPTED  # noqa: PLC0415 - see above
        from ollamad.cli.ctl.main import main  # noqa: PLC0415 - see above
    try:
        return main()
    except KeyboardInterrupt:  # a second one, while the first was being answered
        return INTERRUPTED


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT end the process as the kernel does, not by a traceback; one that is ignored, as by nohup, stays so."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
