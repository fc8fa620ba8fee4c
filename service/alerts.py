"""How many of the latest images were flagged: the number an operator's alert looks at.

A sliding window of coarse slots, so memory does not grow with traffic. Knows neither thresholds nor
who is told; the share is exposed as a gauge, and rules on it belong to the monitoring system.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_SLOTS = 60


@dataclass(slots=True)
class _Slot:
    number: int
    images: int = 0
    flagged: int = 0


class RateMonitor:
    """Flagged images among those of the last `window_s` seconds, exact to a sixtieth of it."""

    def __init__(self, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._slot_s = window_s / _SLOTS
        self._clock = clock
        self._slots: deque[_Slot] = deque(maxlen=_SLOTS)

    def add(self, *, flagged: bool) -> None:
        """Count one image now."""
        number = int(self._clock() / self._slot_s)
        if not self._slots or self._slots[-1].number != number:
            self._slots.append(_Slot(number))
        self._slots[-1].images += 1
        self._slots[-1].flagged += flagged

    def counts(self) -> tuple[int, int]:
        """Flagged images in the window, and all; those of several monitors can be added."""
        oldest = int(self._clock() / self._slot_s) - _SLOTS
        recent = [slot for slot in tuple(self._slots) if slot.number > oldest]
        return sum(slot.flagged for slot in recent), sum(slot.images for slot in recent)
