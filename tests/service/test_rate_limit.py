"""Buckets under a clock of ours: never more than was promised, and never less for long."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.rate_limit import TokenBuckets


class Clock:
    """Time that passes when the test says so."""

    def __init__(self, now: float = 1e6) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


RATES = st.floats(0.01, 1e5)
BURSTS = st.integers(1, 500)
# seconds before a request, and its tokens
REQUESTS = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 500)), min_size=1, max_size=60)


@given(RATES, BURSTS, REQUESTS)
def test_no_window_holds_more_than_promised(
    rate: float, burst: int, requests: list[tuple[float, int]]
) -> None:
    clock = Clock()
    buckets = TokenBuckets(rate=rate, burst=burst, clock=clock)
    taken: list[tuple[float, int]] = []
    for pause, tokens in requests:
        clock.now += pause
        if buckets.take("a", tokens) == 0:
            taken.append((clock.now, tokens))
    sums = [0, *accumulate(tokens for _, tokens in taken)]
    for first, (began, _) in enumerate(taken):
        for last in range(first, len(taken)):
            span = taken[last][0] - began
            assert sums[last + 1] - sums[first] <= (burst + rate * span) * (1 + 1e-6)


@given(RATES, BURSTS, REQUESTS)
def test_who_waits_as_long_as_was_said_is_let_in(
    rate: float, burst: int, requests: list[tuple[float, int]]
) -> None:
    clock = Clock()
    buckets = TokenBuckets(rate=rate, burst=burst, clock=clock)
    for pause, tokens in requests:
        clock.now += pause
        tokens = min(tokens, burst)
        wait = buckets.take("a", tokens)
        if wait > 0:
            assert wait <= burst / rate * (1 + 1e-6)
            clock.now += wait * (1 + 1e-6) + 1e-6
            assert buckets.take("a", tokens) == 0


def test_a_bucket_is_full_at_first_and_fills_again() -> None:
    clock = Clock()
    buckets = TokenBuckets(rate=2, burst=4, clock=clock)
    assert [buckets.take("a", 1) for _ in range(4)] == [0, 0, 0, 0]
    assert buckets.take("a", 1) == 0.5
    clock.now += 0.5
    assert buckets.take("a", 1) == 0
    clock.now += 1000
    assert buckets.take("a", 4) == 0  # and holds no more than its burst
    assert buckets.take("a", 1) > 0


def test_a_refusal_takes_nothing() -> None:
    buckets = TokenBuckets(rate=1, burst=4, clock=Clock())
    assert buckets.take("a", 5) == 1
    assert buckets.take("a", 4) == 0


def test_names_do_not_share() -> None:
    buckets = TokenBuckets(rate=1, burst=1, clock=Clock())
    assert [buckets.take(name, 1) for name in "abab"] == [0, 0, 1, 1]


def test_forgotten_names_take_no_memory() -> None:
    buckets = TokenBuckets(rate=1, burst=1, clock=Clock())
    for number in range(100):
        buckets.take(f"name {number}", 1)
    buckets.keep({"name 7", "never seen"})
    assert list(buckets._buckets) == ["name 7"]
    assert buckets.take("name 7", 1) > 0


@pytest.mark.parametrize("tokens", [1, 64])
def test_a_clock_that_stands_still_gives_a_burst(tokens: int) -> None:
    buckets = TokenBuckets(rate=0.1, burst=64, clock=Clock())
    let_in = sum(buckets.take("a", tokens) == 0 for _ in range(200))
    assert let_in == 64 // tokens
