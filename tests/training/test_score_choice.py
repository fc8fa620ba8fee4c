"""Scores compared on answers by hand, and the rule by which one is chosen."""

from typing import Any

import numpy as np
import pytest

from service.scores import SCORE_NAMES, Temperature
from tests.training.observations import observed
from tests.training.test_detector import QUICK, clouds
from training.score_choice import CLEAN, MIXED, Table, choose, compare, share

AGREE, SPLIT = [4.0, 0.0], [0.0, 4.0]


def table(**values: tuple[float | None, float, float]) -> Table:
    """By score, the share and its interval where it counts."""
    return {
        name: {MIXED: {"attack": {"tpr_1": {"value": value, "interval": [low, high]}}}}  # type: ignore[misc]
        for name, (value, low, high) in values.items()
    }


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        ({"disbelief": (0.5, 0.4, 0.6), "divergence": (0.6, 0.5, 0.7)}, "divergence"),
        ({"disbelief": (0.5, 0.4, 0.6), "divergence": (0.5, 0.4, 0.6)}, "disbelief"),
        ({"disbelief": (0.5, 0.4, 0.6), "head": (0.65, 0.55, 0.75)}, "disbelief"),
        ({"disbelief": (0.5, 0.4, 0.6), "head": (0.75, 0.65, 0.85)}, "head"),
        ({"disbelief": (None, 0.0, 0.0), "divergence": (None, 0.0, 0.0)}, "disbelief"),
    ],
)
def test_choice(values: dict[str, Any], chosen: str) -> None:
    assert choose(table(**values), "attack") == chosen


def test_comparison_by_hand() -> None:
    """Attacked: two fooled, on which the ways part; the third is right and does not count."""
    natural = observed([0] * 4, [AGREE] * 4)
    odd = observed([0] * 4, [AGREE] * 4, nonrobust=[AGREE, AGREE, AGREE, SPLIT])
    attacked = observed([0, 0, 0], [SPLIT, SPLIT, AGREE], [AGREE] * 3, [SPLIT, SPLIT, AGREE])
    found = compare(
        {CLEAN: [natural], MIXED: [natural, odd]}, {"attack": attacked}, Temperature(), None
    )
    assert list(found) == [name for name in SCORE_NAMES if name != "head"]
    clean, mixed = (found["disbelief"][which]["attack"] for which in (CLEAN, MIXED))
    assert clean["n_images"] == 2
    assert (clean["tpr_1"]["value"], clean["auroc"]) == (1.0, 1.0)
    assert clean["passed_1"]["value"] == 0.0
    assert mixed["passed_1"]["value"] == pytest.approx(2 / 3)  # of all three
    assert mixed["tpr_1"]["value"] == 0.0  # one natural image is as odd, and 1 % of 8 is none
    assert mixed["auroc"] == pytest.approx((7 + 0.5) / 8)
    assert found["doubt"][CLEAN]["attack"]["auroc"] == 0.5  # the robust way is as sure as ever


def test_the_head_takes_part_where_there_is_one() -> None:
    head = QUICK([clouds(-1)], [clouds(1)]).head()
    found = compare({MIXED: [clouds(-1)]}, {"attack": clouds(1)}, Temperature(), head)
    assert list(found) == list(SCORE_NAMES)
    assert found["head"][MIXED]["attack"]["auroc"] > 0.9


def test_no_success_is_no_figure() -> None:
    natural = observed([0] * 4, [AGREE] * 4)
    found = compare({MIXED: [natural]}, {"attack": natural}, Temperature(), None)
    one = found["doubt"][MIXED]["attack"]
    assert (one["n_images"], one["auroc"], one["tpr_5"]["value"]) == (0, None, None)
    assert choose(found, "attack") == "disbelief"


def test_share() -> None:
    assert share(np.zeros(0, dtype=bool)) == {"value": None, "interval": None}
    found = share(np.array([True, False]))
    assert found["value"] == 0.5
    assert found["interval"][0] < 0.5 < found["interval"][1]
