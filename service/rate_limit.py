"""Token buckets by name: so many a second for each, and so many at once. Pure, the clock is given.

A name's bucket is full until it is first heard of. Memory is one pair of numbers a name; whose
names they are, and that they are few, is the caller's to see to.
"""

import time
from collections.abc import Callable, Collection

_ROUNDING = 1e-9  # tokens; who waits as long as was said is let in


class TokenBuckets:
    """In any t seconds a name gets at most `burst + rate * t` tokens."""

    def __init__(
        self, *, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`rate` in tokens a second, above 0; `burst`, at least 1, is what a full bucket holds."""
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens that were left, and when

    def take(self, name: str, tokens: int) -> float:
        """0, and the tokens are gone; or the seconds until they are there, and nothing is gone."""
        now = self._clock()
        left, then = self._buckets.get(name, (self._burst, now))
        level = min(self._burst, left + (now - then) * self._rate)
        missing = tokens - level
        if missing > _ROUNDING:
            return missing / self._rate
        self._buckets[name] = (max(0.0, -missing), now)
        return 0.0

    def keep(self, names: Collection[str]) -> None:
        """Forget every other name."""
        self._buckets = {name: self._buckets[name] for name in names if name in self._buckets}
