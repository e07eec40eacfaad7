"""The signals that end the daemon. Imports nothing of ours: they are held before a library has started a thread."""

from __future__ import annotations

import signal

END = (signal.SIGTERM, signal.SIGINT)


def hold() -> None:
    """Keep them for :func:`wait`, in this thread and in each that it starts from now on.

    The kernel hands a signal to any thread that takes it; a main thread that waits would never hear of it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, END)


def wait() -> None:
    """Until one of them has come."""
    signal.sigwait(END)
