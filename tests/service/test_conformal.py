"""Thresholds by hand, intervals against known values, then what must hold of any scores."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from service.conformal import (
    HIGHEST,
    MIN_IMAGES,
    RATES,
    Unfit,
    beta_quantile,
    fit,
    interval,
    needed,
    observed_interval,
    rank,
    threshold,
)


def labels_of(n: int, classes: int = 2) -> NDArray[np.intp]:
    return np.arange(n) % classes


def unit(n: int) -> st.SearchStrategy[NDArray[Any]]:
    """Scores, many of them equal; none so high that it would be no threshold."""
    levels = st.sampled_from([0.0, 0.25, 0.5, 0.99]) | st.floats(0, 0.99)
    return arrays(np.float64, (n,), elements=levels)


@pytest.mark.parametrize(
    ("n", "rate", "k"),
    [
        (99, "0.01", 99),  # (n + 1) (1 - a) = 99 without a rounding error
        (100, "0.01", 100),
        (999, "0.001", 999),
        (998, "0.001", 999),  # n + 1: too few
        (1000, "0.05", 951),
        (9, "0.1", 9),
    ],
)
def test_rank(n: int, rate: str, k: int) -> None:
    assert rank(n, rate) == k
    assert (rank(n, rate) <= n) is (n >= needed(rate))


def test_threshold_by_hand() -> None:
    scores = np.arange(1, 100) / 100
    assert threshold(scores, "0.1") == 0.90  # the 90th of 99
    assert threshold(scores, "0.01") == 0.99  # the largest
    with pytest.raises(Unfit, match="needs 199 images; there are 99"):
        threshold(scores, "0.005")


@pytest.mark.parametrize(
    ("n", "rate", "low", "high"),
    [
        (1000, "0.05", 0.0373, 0.0643),
        (1000, "0.01", 0.0048, 0.0170),
        (5000, "0.01", 0.0074, 0.0129),
    ],
)
def test_interval_against_known_values(n: int, rate: str, low: float, high: float) -> None:
    assert interval(np.arange(n) / n, rate) == pytest.approx((low, high), abs=2e-4)


@pytest.mark.parametrize(
    ("n", "rate", "low", "high"),
    [
        (1000, "0.05", 0.039, 0.062),
        (1000, "0.01", 0.005, 0.016),
        (5000, "0.05", 0.045, 0.055),
        (5000, "0.01", 0.0078, 0.0124),
    ],
)
def test_ninety_per_cent_of_realised_rates(n: int, rate: str, low: float, high: float) -> None:
    assert interval(np.arange(n) / n, rate, 0.9) == pytest.approx((low, high), abs=6e-4)


@pytest.mark.parametrize(
    ("probability", "a", "b", "x"),
    [
        (0.3, 1, 1, 0.3),  # uniform
        (0.95, 1, 20, 1 - 0.05 ** (1 / 20)),
        (0.05, 20, 1, 0.05 ** (1 / 20)),
        (0.5, 7, 7, 0.5),
    ],
)
def test_beta_quantile_in_closed_form(probability: float, a: int, b: int, x: float) -> None:
    assert beta_quantile(probability, a, b) == pytest.approx(x, abs=1e-10)


def test_beta_quantile_of_many_images() -> None:
    """A normal distribution is near where both parameters are large."""
    n, share = 1_000_000, 0.1
    found = beta_quantile(0.975, int(n * share), int(n * (1 - share)))
    assert found == pytest.approx(share + 1.96 * np.sqrt(share * (1 - share) / n), abs=2e-6)


@pytest.mark.parametrize("levels", [None, 10])
def test_the_interval_holds_the_realised_rate(levels: int | None) -> None:
    """Over 2,000 draws of a calibration set, with and without ties; uniform scores."""
    random = np.random.default_rng(0)
    held = below = 0
    for _ in range(2000):
        scores = np.sort(random.random(300))
        if levels:
            scores = np.ceil(scores * levels) / levels
        realised = 1 - threshold(scores, "0.05")
        low, high = interval(scores, "0.05")
        held += low <= realised <= high
        below += realised <= high
    assert below / 2000 > 0.96
    assert held / 2000 == pytest.approx(0.95, abs=0.015) if levels is None else held / 2000 > 0.94


def test_the_observed_interval_holds_what_is_counted() -> None:
    random = np.random.default_rng(0)
    low, high = observed_interval(400, "0.05", 300)
    held = 0
    for _ in range(2000):
        scores = random.random(700)
        held += low <= (scores[400:] > threshold(np.sort(scores[:400]), "0.05")).mean() <= high
    assert 0.94 < held / 2000 < 0.975  # counts are whole, so a little more than 95 %


def test_the_observed_interval_of_many_images_is_that_of_the_rate() -> None:
    few, many = (observed_interval(1000, "0.05", m) for m in (500, 200_000))
    realised = interval(np.arange(1000) / 1000, "0.05")
    assert many == pytest.approx(realised, abs=3e-4)
    assert few[0] < realised[0] < realised[1] < few[1]


def test_equal_scores_flag_nothing() -> None:
    scores = np.full(500, 0.25)
    assert threshold(scores, "0.1") == 0.25
    assert interval(scores, "0.1")[0] == 0.0


@given(unit(200))
def test_thresholds_fall_as_the_rate_rises(scores: NDArray[np.float64]) -> None:
    found = fit(scores, labels_of(200))
    assert list(found.fitted) == ["0.005", "0.01", "0.02", "0.05", "0.1"]
    assert list(found.left_out) == ["0.001"]
    values = [one.value for one in found.fitted.values()]
    assert values == sorted(values, reverse=True)
    for rate, one in found.fitted.items():
        assert one.value in scores
        assert 0 <= one.interval[0] <= one.interval[1] <= 1
        assert (scores > one.value).mean() <= float(rate)


@given(unit(200), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(scores: NDArray[np.float64], random: Any) -> None:
    order = random.sample(range(200), 200)
    assert fit(scores[order], labels_of(200)[order]) == fit(scores, labels_of(200))


@given(unit(300))
def test_each_class_has_its_threshold(scores: NDArray[np.float64]) -> None:
    labels = labels_of(300, 3)
    found = fit(scores, labels, classes=3)
    assert list(found.fitted) == ["0.01", "0.02", "0.05", "0.1"][: len(found.fitted)]
    for rate, one in found.fitted.items():
        assert one.per_class is not None
        for label, value in enumerate(one.per_class):
            own = np.sort(scores[labels == label])
            assert value == threshold(own, rate)
            low, high = interval(own, rate)
            assert one.interval[0] <= low <= high <= one.interval[1]
    by_rate = zip(*(one.per_class or () for one in found.fitted.values()), strict=True)
    for values in by_rate:
        assert list(values) == sorted(values, reverse=True)


def test_a_rate_that_a_class_is_too_small_for_is_left_out() -> None:
    labels = np.array([0] * 150 + [1] * 30)
    found = fit(np.linspace(0, 0.9, 180), labels, classes=2)
    assert list(found.fitted) == ["0.05", "0.1"]
    assert "of class 1 there are 30" in found.left_out["0.02"]


@pytest.mark.parametrize("highest", [1.0, HIGHEST])
def test_a_threshold_that_flags_nothing_is_none(highest: float) -> None:
    scores = np.linspace(0, 0.9, 1000)
    scores[-30:] = highest
    found = fit(scores, labels_of(1000))
    assert list(found.fitted) == ["0.05", "0.1"]
    assert list(found.left_out) == ["0.001", "0.005", "0.01", "0.02"]
    assert f"threshold {highest:g}, above which" in found.left_out["0.02"]


def test_nor_is_that_of_one_class() -> None:
    scores, labels = np.linspace(0, 0.9, 1000), labels_of(1000)
    scores[-30:] = np.where(labels[-30:] == 1, 1.0, 0.9)  # 15 of the 500 of class 1, 3 %
    assert list(fit(scores, labels, classes=2).fitted) == ["0.05", "0.1"]
    assert list(fit(scores, labels).fitted) == ["0.02", "0.05", "0.1"]


@pytest.mark.parametrize(
    ("scores", "labels", "classes", "said"),
    [
        (np.zeros(MIN_IMAGES - 1), labels_of(MIN_IMAGES - 1), None, "99 images are too few"),
        (np.zeros(200), np.ones(200, np.intp), None, "one and the same class"),
        (np.full(200, np.nan), labels_of(200), None, "no number"),
        (np.full(200, 1.5), labels_of(200), None, "no number"),
        (np.ones(200), labels_of(200), None, "a rate of 0.1 would have the threshold 1"),
        (np.zeros(200), labels_of(200), 3, "every class; of class 2 there are 0"),
    ],
)
def test_sets_that_cannot_calibrate(
    scores: NDArray[np.float64], labels: NDArray[np.intp], classes: int | None, said: str
) -> None:
    with pytest.raises(Unfit, match=said):
        fit(scores, labels, classes=classes)


def test_the_rates_rise() -> None:
    assert list(RATES) == sorted(RATES, key=Fraction)
