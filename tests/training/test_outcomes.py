import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.outcomes import POLICIES, Named, Outcomes, Policy, outcomes, worst

LABELS = st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=1, max_size=30)


def named(*rows: tuple[int, int, int]) -> Named:
    standard, robust, nonrobust = (np.array(column) for column in zip(*rows, strict=True))
    return Named(standard=standard, robust=robust, nonrobust=nonrobust)


# Labels of the standard, robust and non-robust way of an image of class 0, and the outcome.
TABLE = {
    (0, 0, 0): {"reject": "correct", "correct": "correct", "strict": "correct"},
    (1, 1, 1): {"reject": "fooled", "correct": "fooled", "strict": "fooled"},
    (1, 0, 1): {"reject": "rejected", "correct": "correct", "strict": "rejected"},
    (0, 1, 0): {"reject": "rejected", "correct": "fooled", "strict": "rejected"},
    (1, 0, 0): {"reject": "fooled", "correct": "fooled", "strict": "rejected"},
    (0, 1, 1): {"reject": "correct", "correct": "correct", "strict": "rejected"},
    (2, 1, 1): {"reject": "fooled", "correct": "fooled", "strict": "rejected"},
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("labels", TABLE)
def test_outcome(policy: Policy, labels: tuple[int, int, int]) -> None:
    found = outcomes(policy, named(labels), np.array([0]))
    for outcome in ("fooled", "rejected", "correct"):
        assert getattr(found, outcome).tolist() == [outcome == TABLE[labels][policy]]


@given(LABELS)
def test_each_image_has_one_outcome_and_strict_is_the_strictest(
    rows: list[tuple[int, int, int, int]],
) -> None:
    label = np.array([row[3] for row in rows])
    seen = named(*[row[:3] for row in rows])
    found = {policy: outcomes(policy, seen, label) for policy in POLICIES}
    for one in found.values():
        assert (one.fooled.astype(int) + one.rejected + one.correct == 1).all()
    assert (found["strict"].fooled <= found["reject"].fooled).all()
    assert (found["strict"].rejected >= found["reject"].rejected).all()
    assert (found["strict"].fooled <= (seen.robust != label)).all()  # what strictness promises


def flags(*values: int) -> np.ndarray:
    return np.array(values, dtype=bool)


def test_the_worst_of_several_attacks() -> None:
    one = Outcomes(fooled=flags(1, 0, 0, 0), rejected=flags(0, 1, 1, 0))
    other = Outcomes(fooled=flags(0, 1, 0, 0), rejected=flags(1, 0, 0, 0))
    found = worst([one, other])
    assert found.fooled.tolist() == [True, True, False, False]
    assert found.rejected.tolist() == [False, False, True, False]
    assert found.correct.tolist() == [False, False, False, True]
