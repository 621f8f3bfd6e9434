"""What children of this process have in common."""

from __future__ import annotations

import ctypes
import signal
import sys


def die_with_parent() -> None:
    """In a new child, before its program: it ends too when the thread that has started it ends, however that may be
    (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
