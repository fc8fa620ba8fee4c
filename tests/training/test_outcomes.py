import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.outcomes import POLICIES, Outcomes, Policy, Said, graded, outcomes, worst

LABELS = st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=1, max_size=30)


BY_NAME = {policy.name: policy for policy in POLICIES}
GRADED = {policy.name: policy for policy in graded({0.01: 0.9, 0.05: 0.4})}


def said(*rows: tuple[int, int, int], score: float = 0.0) -> Said:
    standard, robust, nonrobust = (np.array(column) for column in zip(*rows, strict=True))
    return Said(
        standard=standard, robust=robust, nonrobust=nonrobust, score=np.full(len(rows), score)
    )


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


def assert_outcome(policy: Policy, seen: Said, expected: str) -> None:
    found = outcomes(policy, seen, np.array([0]))
    for outcome in ("fooled", "rejected", "correct"):
        assert getattr(found, outcome).tolist() == [outcome == expected]


@pytest.mark.parametrize("policy", BY_NAME)
@pytest.mark.parametrize("labels", TABLE)
def test_outcome(policy: str, labels: tuple[int, int, int]) -> None:
    """The score means nothing to these."""
    for score in (0.0, 1.0):
        assert_outcome(BY_NAME[policy], said(labels, score=score), TABLE[labels][policy])


def test_graded_policies() -> None:
    """One a rate, and strict agreement with the threshold of the highest rate."""
    assert list(GRADED) == ["score 1%", "score 5%", "strict and score 5%"]
    assert [policy.threshold for policy in GRADED.values()] == [0.9, 0.4, 0.4]


@pytest.mark.parametrize(
    ("labels", "score", "expected"),
    [
        ((0, 0, 0), 0.0, ("correct", "correct", "correct")),
        ((0, 0, 0), 0.5, ("correct", "rejected", "rejected")),
        ((0, 0, 0), 0.4, ("correct", "correct", "correct")),  # at the threshold is not above it
        ((1, 1, 1), 0.4, ("fooled", "fooled", "fooled")),
        ((1, 1, 1), 0.95, ("rejected", "rejected", "rejected")),
        ((1, 0, 1), 0.3, ("fooled", "fooled", "rejected")),
        ((0, 1, 0), 0.3, ("correct", "correct", "rejected")),
    ],
)
def test_graded_outcome(
    labels: tuple[int, int, int], score: float, expected: tuple[str, ...]
) -> None:
    for policy, outcome in zip(GRADED.values(), expected, strict=True):
        assert_outcome(policy, said(labels, score=score), outcome)


def test_said_of_logits() -> None:
    rows = [[0.0, 1.0], [2.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], [[0.0, 9.0], [0.0, 3.0]]
    found = Said.of(*map(np.array, rows))
    assert found.standard.tolist() == [1, 0]
    assert found.robust.tolist() == [0, 0]
    assert found.nonrobust.tolist() == [1, 1]
    assert found.score.tolist() == pytest.approx([1 - 1 / (1 + np.e), 0.5])


def test_replaced() -> None:
    base, other = said((0, 0, 0), (1, 1, 1), (2, 2, 2)), said((2, 1, 0), score=0.7)
    found = base.replaced(np.array([1]), other)
    assert found.standard.tolist() == [0, 2, 2]
    assert found.nonrobust.tolist() == [0, 0, 2]
    assert found.score.tolist() == [0.0, 0.7, 0.0]
    assert base.standard.tolist() == [0, 1, 2]


@given(LABELS, st.floats(0, 1))
def test_each_image_has_one_outcome_and_strict_is_the_strictest(
    rows: list[tuple[int, int, int, int]], score: float
) -> None:
    label = np.array([row[3] for row in rows])
    seen = said(*[row[:3] for row in rows], score=score)
    policies = BY_NAME | GRADED
    found = {name: outcomes(policy, seen, label) for name, policy in policies.items()}
    for one in found.values():
        assert (one.fooled.astype(int) + one.rejected + one.correct == 1).all()
    assert (found["strict"].fooled <= found["reject"].fooled).all()
    assert (found["strict"].rejected >= found["reject"].rejected).all()
    assert (found["strict"].fooled <= (seen.robust != label)).all()  # what strictness promises
    for name in ("strict", "score 5%"):
        assert (found["strict and score 5%"].fooled <= found[name].fooled).all()


def flags(*values: int) -> np.ndarray:
    return np.array(values, dtype=bool)


def test_the_worst_of_several_attacks() -> None:
    one = Outcomes(fooled=flags(1, 0, 0, 0), rejected=flags(0, 1, 1, 0))
    other = Outcomes(fooled=flags(0, 1, 0, 0), rejected=flags(1, 0, 0, 0))
    found = worst([one, other])
    assert found.fooled.tolist() == [True, True, False, False]
    assert found.rejected.tolist() == [False, False, True, False]
    assert found.correct.tolist() == [False, False, False, True]
