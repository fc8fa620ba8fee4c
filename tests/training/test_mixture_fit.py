"""The grid's choice on answers where the right one is known."""

from dataclasses import replace

import numpy as np
import pytest

from service.mixture import Mixture
from service.scores import Temperature
from tests.training.observations import observed
from training import metrics
from training.mixture_fit import Search, probabilities
from training.observed import Observed

SURE, UNSURE = [9.0, 0.0, 0.0], [1.2, 1.0, 0.0]
NATURAL = observed([0, 0, 0, 0], [SURE] * 4, [SURE, SURE, SURE, [1.0, 1.2, 0.0]])
ATTACKED = observed([0, 0, 0, 0], [[0.0, 9.0, 0.0]] * 4, [SURE] * 4)


def right(observed: Observed, mixture: Mixture) -> float:
    p = probabilities(observed, Temperature(), mixture)
    assert p.sum(axis=1) == pytest.approx(np.ones(len(observed)))
    return metrics.accuracy(p.argmax(axis=1), observed.label)


def test_keeps_what_either_way_knows() -> None:
    """The robust way alone would lose a natural image, the standard way all attacked ones."""
    found = Search()(NATURAL, ATTACKED, Temperature())
    assert right(NATURAL, found) == right(ATTACKED, found) == 1.0
    assert 0.5 < found.weight < 1.0


def test_natural_accuracy_comes_first() -> None:
    """Where the robust way is surely wrong on a natural image, attacked ones cannot be had."""
    natural = observed([0, 0], [SURE] * 2, [SURE, [0.0, 9.0, 0.0]])
    found = Search(loses=0.0)(natural, ATTACKED, Temperature())
    assert right(natural, found) == 1.0
    paid = Search(loses=0.5)(natural, ATTACKED, Temperature())
    assert (right(natural, paid), right(ATTACKED, paid)) == (0.5, 1.0)


def test_where_no_mixture_keeps_it_the_nearest_is_taken() -> None:
    natural = observed([0, 0], [SURE] * 2, [SURE, [0.0, 9.0, 0.0]])
    search = Search(loses=0.0, weights=(1.0,), scales=(1.0,), powers=(1.0,))
    assert search(natural, ATTACKED, Temperature()).weight == 1.0


def test_of_equal_accuracies_the_less_loss() -> None:
    """Always right: the surest is the least wrong. One in four wrong: it is not."""
    search = Search(weights=(1.0,), scales=(0.1, 1.0, 10.0), powers=(1.0,))
    always = observed([0] * 4, [SURE] * 4, [SURE] * 4)
    assert search(always, always, Temperature()).scale > 10.0  # the surest of the finer scales
    sometimes = observed([0, 0, 0, 1], [SURE] * 4, [SURE] * 4)
    found = search(sometimes, sometimes, Temperature())
    p = probabilities(sometimes, Temperature(), found)
    assert p.max(axis=1) == pytest.approx(np.full(4, 0.75), abs=0.02)


def test_accuracies_within_reach_are_equal() -> None:
    """An unsure robust way alone is always right; half of each misses an image and loses less."""
    natural = observed([0] * 8, [SURE] * 8, [UNSURE] * 8)
    attacked = observed([0] * 8, [*[SURE] * 7, [0.0, 9.0, 0.0]], [UNSURE] * 8)
    search = Search(equal=0.0, weights=(0.5, 1.0), scales=(0.3,), powers=(1.0,))
    assert search(natural, attacked, Temperature()).weight == 1.0
    assert replace(search, equal=0.1)(natural, attacked, Temperature()).weight == 0.5
