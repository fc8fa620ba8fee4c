import math

import numpy as np
import pytest

from training.config import Way
from training.figures import NAMES, Figures, confidences, measure
from training.predict import Answers

LABEL = np.array([0, 0, 1, 1])


def answers(**labels: list[int]) -> Answers:
    """Confident logits for these labels by way: the named class has log-odds of 2."""
    logits: dict[Way, np.ndarray] = {}
    ways: tuple[Way, ...] = ("standard", "robust", "nonrobust")
    for way in ways:
        if way in labels:
            logits[way] = np.eye(2, dtype=np.float32)[labels[way]] * 2
    return logits


NATURAL = answers(standard=[0, 0, 1, 1], robust=[0, 0, 1, 0], nonrobust=[0, 0, 1, 1])
ON_STANDARD = answers(standard=[1, 1, 0, 1], robust=[0, 1, 1, 1], nonrobust=[1, 1, 0, 1])
ON_ROBUST = answers(standard=[0, 0, 1, 0], robust=[0, 1, 1, 0], nonrobust=[0, 0, 0, 1])
ON_NONROBUST = answers(standard=[0, 0, 1, 1], robust=[0, 0, 1, 0], nonrobust=[1, 1, 0, 0])


def values(figures: Figures) -> dict[str, float | None]:
    return {name: figure.value for name, figure in figures.items()}


@pytest.fixture(scope="module")
def figures() -> Figures:
    attacked: dict[Way, Answers] = {
        "standard": ON_STANDARD,
        "robust": ON_ROBUST,
        "nonrobust": ON_NONROBUST,
    }
    return measure(LABEL, NATURAL, attacked, method="aat++")


def test_every_figure_by_hand(figures: Figures) -> None:
    believed, doubted = 1 - 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-2))
    sure = doubted  # what a way gives the class it names
    # Scores: natural low, low, low, high; attacked high, low, high, low.
    assert values(figures) == pytest.approx(
        {
            "accuracy_standard_natural": 1.0,
            "accuracy_robust_natural": 0.75,
            "accuracy_nonrobust_natural": 1.0,
            "accuracy_corrected_natural": 0.75,  # the last image is flagged, and R is wrong
            "false_alarm_rate": 0.25,
            "accuracy_standard_under_standard_attack": 0.25,
            "accuracy_robust_under_standard_attack": 0.75,
            "accuracy_nonrobust_under_standard_attack": 0.25,
            "accuracy_standard_under_robust_attack": 0.75,
            "accuracy_robust_under_robust_attack": 0.5,
            "accuracy_nonrobust_under_robust_attack": 0.75,
            "accuracy_standard_under_nonrobust_attack": 1.0,
            "accuracy_robust_under_nonrobust_attack": 0.75,
            "accuracy_nonrobust_under_nonrobust_attack": 0.0,
            "accuracy_corrected_under_standard_attack": 0.75,
            "accuracy_corrected_under_robust_attack": 0.5,
            "accuracy_corrected_under_nonrobust_attack": 1.0,
            "dia_own_attacks": 0.5,
            "dia_standard_attack": 0.5,
            "rad_successful": 2 / 3,
            "rad_all": 0.5,
            "rad_mixture": (0.75 + 0.5) / 2,
            "flagged_robust_attack": 0.75,
            "flagged_nonrobust_attack": 0.75,
            "accuracy_robust_successful": 2 / 3,
            "accuracy_standard_mixture": 0.625,
            "accuracy_corrected_mixture": 0.75,
            "auroc_successful": (2 * (3 + 0.5) + 1.5) / 12,
            "auroc_all": (2 * (3 + 0.5) + 2 * 1.5) / 16,
            "tpr_at_fpr_1_successful": 0.0,
            "tpr_at_fpr_1_all": 0.0,
            "tpr_at_fpr_5_successful": 0.0,
            "tpr_at_fpr_5_all": 0.0,
            "threshold_at_fpr_1": doubted,
            "threshold_at_fpr_5": doubted,
            # One bin: every answer is as confident as the next.
            "ece_standard_natural": 1 - sure,
            "ece_robust_natural": sure - 0.75,
            "ece_nonrobust_natural": 1 - sure,
            "ece_corrected_natural": sure - 0.75,
            "ece_standard_under_standard_attack": sure - 0.25,
            "ece_robust_under_robust_attack": sure - 0.5,
            "ece_nonrobust_under_nonrobust_attack": sure,
            "ece_corrected_under_standard_attack": sure - 0.75,
        }
    )
    assert believed < doubted


def test_names_and_their_order(figures: Figures) -> None:
    assert tuple(figures) == NAMES


def test_shares_have_an_interval_and_a_count(figures: Figures) -> None:
    for name, figure in figures.items():
        share = name.startswith(("accuracy", "rad", "flagged", "false"))
        assert (figure.interval is not None) == (share and not name.endswith("_mixture")), name
        assert (figure.count is not None) == (figure.interval is not None)
    assert figures["rad_all"].count == 4
    assert figures["rad_successful"].count == 3
    low, high = figures["rad_all"].interval or (1, 0)
    assert 0 < low < 0.5 < high < 1


def test_corrected_label_has_the_probability_of_the_way_it_is_taken_from() -> None:
    """The first image is not flagged, the second is, and there the robust way is less sure."""
    standard, robust, nonrobust = (
        np.log(np.array(rows, dtype=np.float32))
        for rows in ([[0.9, 0.1], [0.9, 0.1]], [[0.6, 0.4], [0.3, 0.7]], [[0.8, 0.2], [0.8, 0.2]])
    )
    said: Answers = {"standard": standard, "robust": robust, "nonrobust": nonrobust}
    confidence, right = confidences(np.array([0, 0]), said)["corrected"]
    assert confidence == pytest.approx([0.9, 0.7])
    assert right.tolist() == [True, False]
    assert set(confidences(np.array([0, 0]), {"nonrobust": nonrobust})) == {"nonrobust"}


def test_no_successful_attack() -> None:
    attacked: dict[Way, Answers] = dict.fromkeys(("standard", "robust", "nonrobust"), NATURAL)
    figures = measure(LABEL, NATURAL, attacked, method="aat")
    absent = {name: figure.absent for name, figure in figures.items() if figure.value is None}
    reason = "no attack on the standard way succeeded"
    assert absent == dict.fromkeys(
        [
            "rad_successful",
            "accuracy_robust_successful",
            "auroc_successful",
            "tpr_at_fpr_1_successful",
            "tpr_at_fpr_5_successful",
        ],
        reason,
    )
    assert figures["auroc_all"].value == 0.5


def test_one_way_models_leave_the_rest_out() -> None:
    figures = measure(
        LABEL,
        answers(nonrobust=[0, 0, 1, 0]),
        {"nonrobust": answers(nonrobust=[1, 1, 1, 0])},
        method="st",
    )
    present = {name: value for name, value in values(figures).items() if value is not None}
    assert present == {
        "accuracy_nonrobust_natural": 0.75,
        "accuracy_nonrobust_under_nonrobust_attack": 0.25,
        "ece_nonrobust_natural": pytest.approx(1 / (1 + math.exp(-2)) - 0.75),
        "ece_nonrobust_under_nonrobust_attack": pytest.approx(1 / (1 + math.exp(-2)) - 0.25),
    }
    assert tuple(figures) == NAMES
    reasons = {figure.absent for figure in figures.values()}
    assert reasons == {None, "needs a way that the method st does not train"}
