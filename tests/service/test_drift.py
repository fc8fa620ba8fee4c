"""Distances by hand, on scores of known distributions, and over a window."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from service.drift import (
    WINDOW_LEAST,
    Counts,
    DriftMonitor,
    binned,
    histogram,
    ks_distance,
    of_parts,
    stability_index,
)
from service.manifest import Histogram

SCORES = arrays(np.float64, (150,), elements=st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1))


def counts(*values: int) -> NDArray[np.int64]:
    return np.array(values)


def test_ks_by_hand() -> None:
    assert ks_distance(counts(5, 3, 2), counts(10, 6, 4)) == 0.0
    assert ks_distance(counts(1, 0), counts(0, 1)) == 1.0
    assert ks_distance(counts(5, 3, 2), counts(2, 3, 5)) == pytest.approx(0.3)


def test_stability_index_by_hand() -> None:
    share, other = (5.5, 5.5), (8.5, 2.5)  # half an image in each bin beforehand
    expected = sum((b - a) / 11 * math.log(b / a) for a, b in zip(share, other, strict=True))
    assert stability_index(counts(5, 5), counts(8, 2)) == pytest.approx(expected)
    assert stability_index(counts(5, 5), counts(5, 5)) == 0.0
    assert math.isfinite(stability_index(counts(9, 0), counts(0, 9)))


@pytest.mark.parametrize(
    ("score", "place"), [(0.0, 0), (0.19, 0), (0.2, 1), (0.5, 2), (0.99, 2), (1.0, 2)]
)
def test_a_bin_holds_its_lower_edge(score: float, place: int) -> None:
    assert binned(np.array([score]), (0.0, 0.2, 0.5, 1.0)).argmax() == place


@given(SCORES)
def test_any_scores_make_a_histogram(scores: NDArray[Any]) -> None:
    edges, found = histogram(scores)
    spec = Histogram(edges=edges, counts=found)  # the contract's own checks
    assert (spec.edges[0], spec.edges[-1], sum(spec.counts)) == (0.0, 1.0, 150)


@given(SCORES, SCORES)
def test_the_distance_at_the_edges_is_at_most_the_true_one(
    scores: NDArray[Any], others: NDArray[Any]
) -> None:
    edges, expected = histogram(scores)
    distance = ks_distance(np.array(expected), binned(others, edges))
    points = np.concatenate((scores, others))
    cumulated = ((values[None] < points[:, None]).mean(axis=1) for values in (scores, others))
    first, second = cumulated
    upto = [(values <= points[:, None]).mean(axis=1) for values in (scores, others)]
    true = max(np.abs(first - second).max(), np.abs(upto[0] - upto[1]).max())
    assert distance <= true + 1e-9
    assert ks_distance(np.array(expected), binned(scores, edges)) == 0.0


def monitor_of(scores: NDArray[Any], window: int = 1000) -> DriftMonitor:
    return DriftMonitor(*histogram(scores), window)


def told(monitor: DriftMonitor, distance: Callable[[Counts, Counts], float]) -> float:
    return of_parts(distance, 1, monitor.parts())


def test_windows_of_several_monitors_are_one() -> None:
    random = np.random.default_rng(0)
    reference, scores = random.beta(0.3, 3, 500), random.beta(1, 3, 400)
    monitors = [monitor_of(reference) for _ in range(3)]
    for place, score in enumerate(scores):
        monitors[place % 2].add(score)
    sums = np.sum([monitor.parts() for monitor in monitors], axis=0).tolist()
    edges, expected = histogram(reference)
    together = np.array(expected), binned(scores, edges)
    for distance in (stability_index, ks_distance):
        assert of_parts(distance, 3, sums) == distance(*together)


def test_the_same_images_are_near_and_others_are_far() -> None:
    random = np.random.default_rng(0)
    monitor = monitor_of(random.beta(0.3, 3, 5000))
    for score in random.beta(0.3, 3, 1000):
        monitor.add(score)
    assert told(monitor, stability_index) < 0.05
    assert told(monitor, ks_distance) < 0.06
    for score in random.beta(1, 3, 1000):
        monitor.add(score)
    assert told(monitor, stability_index) > 0.25
    assert told(monitor, ks_distance) > 0.25


def test_attacked_images_among_natural_ones_show_as_their_share() -> None:
    random = np.random.default_rng(0)
    monitor = monitor_of(random.beta(0.3, 3, 5000))
    for score in np.concatenate((random.beta(0.3, 3, 800), np.full(200, 0.999))):
        monitor.add(score)
    assert told(monitor, ks_distance) == pytest.approx(0.2, abs=0.04)


def test_few_scores_say_nothing() -> None:
    monitor = monitor_of(np.linspace(0, 1, 200))
    for _ in range(WINDOW_LEAST - 1):
        monitor.add(0.5)
    assert math.isnan(told(monitor, stability_index))
    assert math.isnan(told(monitor, ks_distance))
    monitor.add(0.5)
    assert told(monitor, ks_distance) > 0.4


@given(SCORES, st.integers(100, 200))
def test_the_window_holds_the_latest(scores: NDArray[Any], window: int) -> None:
    reference = np.linspace(0, 1, 300)
    monitor = monitor_of(reference, window)
    for score in scores.tolist() + scores.tolist():
        monitor.add(score)
    edges, expected = histogram(reference)
    latest = np.concatenate((scores, scores))[-window:]
    assert told(monitor, ks_distance) == ks_distance(np.array(expected), binned(latest, edges))
