"""Scores by hand, then what must hold of any logits."""

import math
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from service import scores
from service.scores import Features, Head, Logits, ScoreName, Temperature

CLASSES = 4


def rows(*values: tuple[float, ...]) -> NDArray[np.float64]:
    return np.array(values)


def way() -> st.SearchStrategy[NDArray[Any]]:
    return arrays(np.float32, (5, CLASSES), elements=st.floats(-60, 60, width=32))


ANY = st.builds(Logits, standard=way(), robust=way(), nonrobust=way())
GRADED: tuple[ScoreName, ...] = ("disbelief", "divergence", "doubt")


def test_the_names() -> None:
    assert get_args(ScoreName) == scores.SCORE_NAMES == (*GRADED, "head")


def test_disbelief() -> None:
    p = rows((0.7, 0.2, 0.1), (0.7, 0.2, 0.1))
    assert scores.disbelief(p, np.array([0, 2])) == pytest.approx([0.3, 0.9])


def test_divergence() -> None:
    certain, other, half = (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)
    found = scores.divergence(rows(certain, certain, half), rows(certain, other, certain))
    # Of (1/2, 1/2) and (1, 0): entropy of (3/4, 1/4) less half a bit.
    mixed = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)) - 0.5
    assert found == pytest.approx([0.0, 1.0, mixed])


def test_doubt() -> None:
    logits = rows((3.0, 3.0, 0.0), (math.log(3), 0.0, -5.0), (1e4, 0.0, 0.0))
    assert scores.doubt(logits) == pytest.approx([1.0, 0.5, 0.0])
    assert scores.doubt(logits, temperature=2.0)[1] == pytest.approx(2 / (1 + math.sqrt(3)))


def test_head_by_hand() -> None:
    """One feature an encoder and two classes: eight inputs, of which two units see two."""
    weight = np.zeros((2, 8))
    weight[0, 0], weight[1, 7] = 2.0, -1.0  # z_r, and the last non-robust logit
    head = Head(
        mean=np.full(8, 1.0),
        scale=np.full(8, 2.0),
        hidden_weight=weight,
        hidden_bias=np.array([0.5, 0.0]),
        output_weight=np.array([1.0, 3.0]),
        output_bias=-1.0,
    )
    flat = rows((0.0, 0.0))
    features = Features(rows((3.0,)), rows((9.0,)))
    found = scores.score("head", Logits(flat, flat, flat - 4), Temperature(), features, head)
    first, second = 2 * (3 - 1) / 2 + 0.5, -1 * (-4 - 1) / 2
    logit = first + 3 * second - 1
    assert found == pytest.approx([1 / (1 + math.exp(-logit))])


def test_the_head_needs_its_weights() -> None:
    flat = rows((0.0, 1.0))
    with pytest.raises(ValueError, match="features and weights"):
        scores.score("head", Logits(flat, flat, flat), Temperature())


def test_softmax_survives_large_logits() -> None:
    assert scores.softmax(rows((1e30, -1e30))).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("name", GRADED)
@given(logits=ANY)
def test_in_range_and_blind_to_the_order(name: ScoreName, logits: Logits) -> None:
    """Scores lie in [0, 1]; renaming classes or shuffling images changes no image's score."""
    found = scores.score(name, logits, Temperature(2.0, 0.5, 1.5))
    assert ((found >= 0) & (found <= 1)).all()
    order = np.array([3, 0, 4, 1, 2])
    shuffled = Logits(logits.standard[order], logits.robust[order], logits.nonrobust[order])
    again = scores.score(name, shuffled, Temperature(2.0, 0.5, 1.5))
    assert again == pytest.approx(found[order], abs=1e-9)
    distinct = all(len(set(row)) == CLASSES for row in logits.nonrobust.tolist())
    if name != "disbelief" or distinct:  # a tie is broken by the order of the classes
        turned = Logits(logits.standard[:, ::-1], logits.robust[:, ::-1], logits.nonrobust[:, ::-1])
        again = scores.score(name, turned, Temperature(2.0, 0.5, 1.5))
        assert again == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("name", ["disbelief", "divergence"])
@given(logits=ANY)
def test_ways_that_say_the_same(name: ScoreName, logits: Logits) -> None:
    """Divergence is then 0, and disbelief is what the robust way leaves to other classes."""
    same = Logits(logits.standard, logits.robust, logits.robust)
    found = scores.score(name, same, Temperature())
    left = 1 - scores.softmax(logits.robust).max(axis=1)
    assert found == pytest.approx(0.0 * left if name == "divergence" else left, abs=1e-9)
