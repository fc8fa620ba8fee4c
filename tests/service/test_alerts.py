"""The rate over a sliding window, with a clock that the test holds."""

from service.alerts import RateMonitor


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_empty_window_counts_nothing() -> None:
    assert RateMonitor(60.0).counts() == (0, 0)


def test_only_the_window_counts() -> None:
    clock = Clock()
    monitor = RateMonitor(60.0, clock)
    for flagged in (True, False, False, False):
        monitor.add(flagged=flagged)
    assert monitor.counts() == (1, 4)
    clock.now += 30
    monitor.add(flagged=True)
    assert monitor.counts() == (2, 5)
    clock.now += 31
    assert monitor.counts() == (1, 1)
    clock.now += 30
    assert monitor.counts() == (0, 0)


def test_memory_does_not_grow_with_traffic() -> None:
    clock = Clock()
    monitor = RateMonitor(60.0, clock)
    for second in range(1000):
        clock.now = second
        for _ in range(3):
            monitor.add(flagged=second % 2 == 0)
    assert len(monitor._slots) <= 60
    assert monitor.counts() == (90, 180)
