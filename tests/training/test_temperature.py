"""Temperatures that are known beforehand, and a valley that is found."""

import math

import numpy as np
import pytest

from service.scores import Logits, softmax
from training import temperature


def drawn(true: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `true` times too sure of labels drawn from what they should say."""
    draw = np.random.default_rng(0)
    honest = draw.normal(0, 2, (count, 4))
    p = softmax(honest)
    label = (p.cumsum(axis=1) < draw.random((count, 1))).sum(axis=1)
    return honest * true, label


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_finds_the_temperature_that_was_put_in(true: float) -> None:
    logits, label = drawn(true)
    assert temperature.of_way(logits, label) == pytest.approx(true, rel=0.06)


def test_is_no_worse_than_its_neighbours() -> None:
    logits, label = drawn(2.0)
    found = temperature.of_way(logits, label)
    least = temperature.nll(logits, label, found)
    for other in (1.0, found * 0.99, found * 1.01):
        assert least <= temperature.nll(logits, label, other)


def test_nll_by_hand() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    expected = -(math.log(0.25) + math.log(0.8)) / 2
    assert temperature.nll(logits, np.array([1, 1])) == pytest.approx(expected)
    assert temperature.nll(np.array([[1e4, 0.0]]), np.array([1])) == pytest.approx(1e4)


def test_a_way_that_is_never_wrong_cannot_be_sure_enough() -> None:
    found = temperature.of_way(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0, 1]))
    assert temperature.LOWEST <= found < 1.01 * temperature.LOWEST


def test_a_way_that_knows_nothing_is_flattened() -> None:
    found = temperature.of_way(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([1, 0]))
    assert 0.99 * temperature.HIGHEST < found <= temperature.HIGHEST


def test_each_way_has_its_own() -> None:
    logits, label = drawn(1.0)
    found = temperature.fitted(Logits(logits, 2 * logits, 3 * logits), label)
    assert found.robust == pytest.approx(2 * found.standard, rel=1e-3)
    assert found.nonrobust == pytest.approx(3 * found.standard, rel=1e-3)


def test_golden_section() -> None:
    found = temperature.golden_section(lambda x: (x - 0.3) ** 2, -2.0, 5.0)
    assert found == pytest.approx(0.3, abs=1e-4)
    assert temperature.golden_section(lambda x: x, 1.0, 2.0) == pytest.approx(1.0, abs=1e-4)
