"""Memory that was freed, handed back to the system.

A loaded network leaves several times its size behind, in pieces that glibc keeps for later; a
service that runs for months has no later. Knows the C library, where it is glibc.
"""

import ctypes
import sys


def hand_back() -> None:
    """Cheap where there is nothing to hand back; nothing where the C library has no such call."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
