"""The labels beside each other on answers by hand, and the sides they are measured on."""

import numpy as np
import pytest

from service.mixture import Mixture
from service.scores import Temperature, softmax
from tests.training.observations import observed
from training import calibrated
from training.calibrated import Sides

PLAIN, TURNED = [2.0, 0.0], [0.0, 2.0]
NATURAL = observed([0, 0, 0], [PLAIN, PLAIN, TURNED])  # one is wrong
ATTACKED = observed([0, 0], [TURNED] * 2, [PLAIN, PLAIN], [TURNED, PLAIN])  # one is flagged
SIDES = Sides(
    natural=NATURAL, paired=NATURAL.take(np.array([True, True, False])), attacked=ATTACKED
)
ROBUST = Mixture(1.0, 1.0, 1.0)  # the robust way alone


def test_the_switch_follows_eq_12() -> None:
    found = calibrated.labels(ATTACKED, Temperature(), ROBUST)
    assert {name: right.tolist() for name, (_, right) in found.items()} == {
        "standard way": [False, False],
        "label switch": [True, False],
        "tempered switch": [True, False],
        "mixture": [True, True],
    }


def test_temperatures_reach_the_second_switch_alone() -> None:
    temperature = Temperature(standard=4.0, robust=2.0)
    found = calibrated.labels(ATTACKED, temperature, ROBUST)
    sure = softmax(np.array([PLAIN]))[0, 0]
    assert found["standard way"][0] == pytest.approx([sure, sure])
    assert found["label switch"][0] == pytest.approx([sure, sure])
    half, quarter = (softmax(np.array([PLAIN]), t)[0, 0] for t in (2.0, 4.0))
    assert found["tempered switch"][0] == pytest.approx([half, quarter])


def test_half_attacked_is_the_attacked_images_and_the_same_before() -> None:
    assert {name: len(one) for name, one in SIDES.by_name().items()} == {
        "natural": 3,
        "attacked": 2,
        "half attacked": 4,
    }
    figures = calibrated.label_figures(SIDES, Temperature(), ROBUST)
    assert figures["natural"]["standard way"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert figures["half attacked"]["label switch"]["accuracy"]["value"] == 0.75
    assert figures["half attacked"]["mixture"]["accuracy"]["value"] == 1.0
    under = calibrated.accuracies(ATTACKED, Temperature(), ROBUST)
    assert under["label switch"]["value"] == 0.5


def test_errors_of_each_way_before_and_after() -> None:
    found = calibrated.way_errors(SIDES, Temperature(standard=0.5, robust=1.0, nonrobust=1.0))
    p, surer = (softmax(np.array([PLAIN]), t)[0, 0] for t in (1.0, 0.5))
    standard = found["natural"]["standard"]
    assert standard["before"] == pytest.approx(abs(p - 2 / 3))
    assert standard["after"] == pytest.approx(abs(surer - 2 / 3))
    assert found["attacked"]["robust"]["before"] == found["attacked"]["robust"]["after"]


def test_panels() -> None:
    found = calibrated.panels(SIDES, Temperature(), ROBUST)
    assert list(found["labels"]) == ["natural", "attacked", "half attacked"]
    assert list(found["ways"]) == [
        f"{way} way, {which}"
        for which in ("natural", "attacked")
        for way in ("standard", "robust", "nonrobust")
    ]
