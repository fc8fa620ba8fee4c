"""Eq. 12, score and labels to use: hand-computed rows, then properties of any logits."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from service.decision import Measure, decide, top_k
from service.mixture import Mixture, mixed
from service.scores import Features, Head, Logits, ScoreName, Temperature, disbelief, score, softmax


def one(*values: float) -> NDArray[np.float64]:
    return np.array([values])


def logits_of(n: int, classes: int) -> st.SearchStrategy[NDArray[Any]]:
    return arrays(np.float32, (n, classes), elements=st.floats(-50, 50, width=32))


def three_ways(shape: tuple[int, ...]) -> st.SearchStrategy[Logits]:
    way = logits_of(shape[0], shape[1])
    return st.builds(Logits, standard=way, robust=way, nonrobust=way)


ANY_LOGITS = array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6).flatmap(three_ways)


@pytest.mark.parametrize(
    ("standard", "robust", "nonrobust", "adversarial", "corrected"),
    [
        (1, 1, 1, False, 1),
        (2, 1, 2, True, 1),  # a standard-way attack: the robust way is right
        (2, 1, 1, False, 2),  # Eq. 12 does not ask the standard way
        (1, 1, 2, True, 1),
        (1, 2, 1, True, 2),
        (0, 1, 2, True, 1),
    ],
)
def test_labels_decide(
    standard: int,
    robust: int,
    nonrobust: int,
    adversarial: bool,
    corrected: int,
) -> None:
    hot = np.eye(3) * np.array([[4.0], [5.0], [6.0]])
    logits = Logits(hot[[standard]], hot[[robust]], hot[[nonrobust]])
    (finding,) = decide(logits, Measure())
    assert finding.adversarial is adversarial
    assert finding.corrected.label == corrected
    source = finding.robust if adversarial else finding.standard
    assert finding.corrected is source


def test_values_by_hand() -> None:
    """Two classes, logits (0, ln 3): probabilities (1/4, 3/4)."""
    logits = Logits(one(0, np.log(3)), one(0, np.log(3)), one(1, 0))
    (finding,) = decide(logits, Measure())
    assert finding.standard.label == 1
    assert finding.standard.probability == pytest.approx(0.75)
    assert finding.nonrobust.label == 0
    assert finding.score == pytest.approx(1 - 0.25)


def test_temperature_divides_logits_and_keeps_labels() -> None:
    logits = Logits(one(0, np.log(9)), one(0, np.log(9)), one(0, 1))
    (finding,) = decide(logits, Measure(temperature=Temperature(standard=2.0, robust=0.5)))
    assert finding.standard.label == finding.robust.label == 1
    assert finding.standard.probability == pytest.approx(0.75)  # 3 / (1 + 3)
    assert finding.robust.probability == pytest.approx(81 / 82)
    assert finding.score == pytest.approx(1 / 82)


HEAD = Head(
    mean=np.zeros(13),
    scale=np.ones(13),
    hidden_weight=np.eye(1, 13),  # sees the first robust feature
    hidden_bias=np.zeros(1),
    output_weight=np.ones(1),
    output_bias=0.0,
)


@pytest.mark.parametrize("name", ["disbelief", "divergence", "doubt", "head"])
def test_the_score_is_the_one_that_is_named(name: ScoreName) -> None:
    logits = Logits(one(0, 1, 2), one(1, 0, 3), one(3, 1, 0))
    features, temperature = Features(one(5, 0), one(0, 0)), Temperature(1.0, 2.0, 3.0)
    measure = Measure(temperature=temperature, score=name, head=HEAD)
    (finding,) = decide(logits, measure, features)
    assert finding.score == score(name, logits, temperature, features, HEAD)[0]
    of_the_head = 1 / (1 + np.exp(-5))
    assert (abs(finding.score - of_the_head) < 1e-6) == (name == "head")


def test_the_mixture_gives_a_label_with_its_probability() -> None:
    mixture = Mixture(weight=0.5, scale=3.0, power=2.0)
    logits = Logits(one(0, 1, 2), one(1, 6, 3), one(3, 1, 0))
    (plain,) = decide(logits, Measure())
    (finding,) = decide(logits, Measure(mixture=mixture))
    assert plain.mixed is None
    assert finding.mixed is not None
    expected = mixed(softmax(logits.standard), logits.robust, mixture)[0]
    assert finding.mixed.label == expected.argmax() == 1
    assert finding.mixed.probability == expected.max()
    assert finding.corrected == plain.corrected


def test_softmax_survives_large_logits() -> None:
    assert softmax(one(1e30, -1e30)).tolist() == [[1.0, 0.0]]


def test_disbelief_reads_the_nonrobust_label() -> None:
    p_robust = np.array([[0.2, 0.8], [0.6, 0.4]])
    assert disbelief(p_robust, np.array([0, 0])).tolist() == pytest.approx([0.8, 0.4])


def test_top_k_is_likeliest_first_and_stable() -> None:
    probabilities = np.array([0.2, 0.3, 0.2, 0.3])
    assert [guess.label for guess in top_k(probabilities, 3)] == [1, 3, 0]
    assert len(top_k(probabilities, 9)) == 4


@given(ANY_LOGITS)
def test_probabilities_and_scores_stay_in_range(logits: Logits) -> None:
    for finding in decide(logits, Measure()):
        assert 0.0 <= finding.score <= 1.0
        assert finding.probabilities.sum(axis=1) == pytest.approx(1.0)
        for guess in (finding.standard, finding.robust, finding.nonrobust, finding.corrected):
            assert 0.0 < guess.probability <= 1.0


@given(ANY_LOGITS)
def test_agreement_and_flag_exclude_each_other(logits: Logits) -> None:
    for finding in decide(logits, Measure()):
        assert finding.adversarial is (finding.robust.label != finding.nonrobust.label)
        if not finding.adversarial:
            assert finding.score == pytest.approx(1 - finding.robust.probability)


@given(ANY_LOGITS, st.randoms(use_true_random=False))
def test_order_of_images_and_classes_does_not_matter(logits: Logits, random: Any) -> None:
    images, classes = logits.robust.shape
    order = random.sample(range(images), images)
    shuffled = Logits(logits.standard[order], logits.robust[order], logits.nonrobust[order])
    straight = decide(logits, Measure())
    for new, old in enumerate(order):
        assert decide(shuffled, Measure())[new].score == straight[old].score

    names = random.sample(range(classes), classes)
    unique = all(
        len(set(row.tolist())) == classes
        for way in (logits.robust, logits.nonrobust)
        for row in way
    )
    if unique:  # a tie goes to the lower index, which renaming changes
        renamed = Logits(
            logits.standard[:, names], logits.robust[:, names], logits.nonrobust[:, names]
        )
        for before, after in zip(straight, decide(renamed, Measure()), strict=True):
            assert after.adversarial is before.adversarial
            assert after.score == pytest.approx(before.score)


@given(ANY_LOGITS)
def test_a_batch_is_its_images(logits: Logits) -> None:
    whole = decide(logits, Measure())
    for i, finding in enumerate(whole):
        alone = Logits(
            logits.standard[i : i + 1], logits.robust[i : i + 1], logits.nonrobust[i : i + 1]
        )
        assert decide(alone, Measure())[0].score == finding.score
