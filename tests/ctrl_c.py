"""Processes that tests start in order to stop them by Ctrl-C."""

from __future__ import annotations

import signal


def hears_ctrl_c() -> None:
    """In a child process: where tests run in the background Ctrl-C is ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
