"""What was freed is handed back, and where it cannot be, nothing happens."""

import ctypes
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from service.memory import hand_back


@pytest.mark.skipif(sys.platform != "linux", reason="memory is told by Linux only")
def test_freed_pieces_are_handed_back() -> None:
    """Every other piece, below what glibc maps by itself, and the last one keeps the heap long."""
    probe = (
        "import ctypes\n"
        "from service.memory import hand_back\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4 // 1024\n"
        "c = ctypes.CDLL(None)\n"
        "c.malloc.restype, c.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]\n"
        "c.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]\n"
        "pieces = [c.malloc(100_000) for _ in range(1_000)]\n"
        "for piece in pieces: c.memset(piece, 1, 100_000)\n"
        "for piece in pieces[:-1]: c.free(piece)\n"
        "before = resident()\n"
        "hand_back()\n"
        "print(before - resident())\n"
    )
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("another C library")
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\n", done.stdout)
    assert int(done.stdout) > 80  # of 95 MiB


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(malloc_trim=called.append))
    hand_back()
    assert called == [0]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    hand_back()
    assert called == [0]
