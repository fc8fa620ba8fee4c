"""How many of the latest images were flagged: the number an operator's alert looks at.

A sliding window of coarse slots, so memory does not grow with traffic. Knows neither thresholds nor
who is told; the rate is exposed as a gauge, and rules on it belong to the monitoring system.
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
    """Share of flagged images over the last `window_s` seconds, exact to a sixtieth of it."""

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

    def rate(self) -> float:
        """Flagged / all in the window, [0, 1]; 0 where it is empty."""
        oldest = int(self._clock() / self._slot_s) - _SLOTS
        recent = [slot for slot in tuple(self._slots) if slot.number > oldest]
        images = sum(slot.images for slot in recent)
        return sum(slot.flagged for slot in recent) / images if images else 0.0
