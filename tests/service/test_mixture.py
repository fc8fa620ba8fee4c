"""The mixture by hand, at its ends, and for any logits."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from service.mixture import Mixture, mixed, sharpened
from service.scores import softmax

LOGITS = arrays(np.float32, (4, 3), elements=st.floats(-60, 60, width=32))


def test_by_hand() -> None:
    """Two classes, logits (4, 0): even (1, -1), then +-2 for scale 2 whatever the power."""
    robust = np.array([[4.0, 0.0]])
    mixture = Mixture(weight=0.25, scale=2.0, power=3.0)
    assert sharpened(robust, mixture).tolist() == [[2.0, -2.0]]
    p = 1 / (1 + math.exp(-4))
    expected = [0.25 * p + 0.75 * 0.1, 0.25 * (1 - p) + 0.75 * 0.9]
    assert mixed(np.array([[0.1, 0.9]]), robust, mixture)[0] == pytest.approx(expected)


def test_power_spreads_what_stands_out() -> None:
    robust = np.array([[9.0, 1.0, 0.0, 2.0]])
    low, high = (softmax(sharpened(robust, Mixture(0.5, 1.0, power))) for power in (1.0, 3.0))
    assert high[0, 0] > low[0, 0]


def test_a_way_without_opinion_is_even() -> None:
    robust = np.zeros((1, 4))
    assert mixed(np.eye(4)[:1], robust, Mixture(1.0, 5.0, 2.0)) == pytest.approx(
        np.full((1, 4), 0.25)
    )


@given(standard=LOGITS, robust=LOGITS, weight=st.floats(0, 1))
def test_probabilities(standard: NDArray[Any], robust: NDArray[Any], weight: float) -> None:
    p = softmax(standard)
    robust = robust.astype(np.float64).round(3)  # a finer spread is lost when 5 is added below
    found = mixed(p, robust, Mixture(weight, 3.0, 2.0))
    assert found.sum(axis=1) == pytest.approx(1.0)
    assert (found >= 0).all()
    assert mixed(p, robust, Mixture(0.0, 3.0, 2.0)) == pytest.approx(p)
    alone = mixed(p, robust, Mixture(1.0, 3.0, 2.0))
    shifted = mixed(p, robust * 2 + 5, Mixture(1.0, 3.0, 2.0))  # mean and spread do not count
    assert shifted == pytest.approx(alone, abs=1e-3)
