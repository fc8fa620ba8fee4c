"""The proposition by hand, by enumeration and by its own simulation."""

import itertools
import math

import numpy as np
import pytest

from training import proposition


@pytest.mark.parametrize("voters", [1, 3, 5, 7])
@pytest.mark.parametrize("p", [0.5, 0.8, 1.0])
def test_majority_by_enumeration(voters: int, p: float) -> None:
    total = sum(
        math.prod(p if right else 1 - p for right in outcome)
        for outcome in itertools.product([True, False], repeat=voters)
        if sum(outcome) > voters / 2
    )
    assert proposition.majority_accuracy(voters, p) == pytest.approx(total)


def test_what_the_paper_should_have_printed() -> None:
    assert proposition.majority_accuracy(7, 0.8) == pytest.approx(0.966656)
    assert proposition.majority_accuracy(3, 0.8) == pytest.approx(0.896)


def test_the_papers_own_sums() -> None:
    """Eq. 19 and 23 as printed give the stated figures, so it is the sums that are wrong."""
    assert 1 - math.comb(7, 4) * 0.2**4 == pytest.approx(proposition.STATED["standard"])
    assert 1 - math.comb(3, 2) * 0.2**2 == pytest.approx(proposition.STATED["robust"])


def test_check() -> None:
    everything, robust = proposition.check(count=200_000, seed=1)
    for finding in (everything, robust):
        assert finding.simulated == pytest.approx(finding.exact, abs=0.003)
    assert everything.attacked == 0.0
    assert robust.attacked == robust.simulated


def test_an_attack_moves_by_eps_and_no_further() -> None:
    features, label = proposition.sample(100, 0)
    moved = proposition.attack(features, label, np.ones(7))
    assert np.abs(moved - features).max() == pytest.approx(proposition.EPS)
    assert (label * (moved - features).sum(axis=1) < 0).all()
