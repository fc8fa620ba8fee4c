"""The rate over a sliding window, with a clock that the test holds."""

import pytest

from service.alerts import RateMonitor


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_empty_window_has_rate_zero() -> None:
    assert RateMonitor(60.0).rate() == 0.0


def test_rate_counts_the_window_only() -> None:
    clock = Clock()
    monitor = RateMonitor(60.0, clock)
    for flagged in (True, False, False, False):
        monitor.add(flagged=flagged)
    assert monitor.rate() == pytest.approx(0.25)
    clock.now += 30
    monitor.add(flagged=True)
    assert monitor.rate() == pytest.approx(0.4)
    clock.now += 31
    assert monitor.rate() == pytest.approx(1.0)
    clock.now += 30
    assert monitor.rate() == 0.0


def test_memory_does_not_grow_with_traffic() -> None:
    clock = Clock()
    monitor = RateMonitor(60.0, clock)
    for second in range(1000):
        clock.now = second
        for _ in range(3):
            monitor.add(flagged=second % 2 == 0)
    assert len(monitor._slots) <= 60
    assert monitor.rate() == pytest.approx(0.5)
