"""How near is counted by hand, and each bound is where it is said to be."""

import copy
from typing import Any

import numpy as np
import pytest

from service.conformal import Fitted
from service.mixture import Mixture
from service.scores import Temperature
from tests.training.observations import observed
from training import figures, int8_figures
from training.decided import Decided

ONE, TWO = [3.0, 0.0], [0.0, 3.0]
# The third image raises an alarm.
NATURAL = observed([0, 0, 1, 1], [ONE, ONE, TWO, TWO], nonrobust=[ONE, ONE, ONE, TWO])
# All but the last succeed, and of these the first two are flagged.
ATTACKED = observed([0, 0, 0, 0], [TWO, TWO, TWO, ONE], [ONE, ONE, TWO, ONE], [TWO, TWO, TWO, ONE])


def test_agreement_is_by_way_and_of_the_flag() -> None:
    other = observed([0, 0, 1, 1], [ONE, TWO, TWO, TWO], [ONE] * 4, [ONE, ONE, ONE, TWO])
    found = int8_figures.agreement(NATURAL, other)
    assert {name: one["value"] for name, one in found.items()} == {
        "standard": 0.75,
        "robust": 0.5,
        "nonrobust": 1.0,
        "flag": 0.5,
    }


def test_figures_have_the_names_of_an_evaluation() -> None:
    found = int8_figures.figures(NATURAL, ATTACKED)
    assert set(found) <= set(figures.NAMES)
    values = {name: one["value"] for name, one in found.items()}
    assert values["accuracy_standard_natural"] == 1.0
    assert values["accuracy_nonrobust_natural"] == 0.75
    assert values["false_alarm_rate"] == 0.25
    assert values["accuracy_standard_under_standard_attack"] == 0.25
    assert values["accuracy_corrected_under_standard_attack"] == 0.75
    assert values["rad_successful"] == pytest.approx(2 / 3)
    assert values["rad_all"] == 0.5
    assert values["auroc_successful"] == pytest.approx((2 * 3.5 + 1 * 1.5) / 12)


def test_a_score_is_counted_by_rate() -> None:
    decided = Decided(
        temperature=Temperature(),
        score="disbelief",
        head=None,
        thresholds={"0.1": Fitted(0.5, (0.0, 0.2))},
        mixture=Mixture(1.0, 1.0, 1.0),
    )
    found = int8_figures.scored(NATURAL, ATTACKED, decided)
    assert found["natural"]["0.1"]["value"] == 0.25
    assert found["successful"]["0.1"]["value"] == pytest.approx(2 / 3)
    assert found["auroc"]["value"] == pytest.approx((2 * 3.5 + 1 * 1.5) / 12)


def share(value: float | None) -> dict[str, Any]:
    return {"value": value, "interval": None if value is None else [0.0, 1.0]}


def document() -> dict[str, Any]:
    """Of an int8 network that is exactly as good as its float32 one, and faster."""
    plain = {"false_alarm_rate": share(0.004), "rad_successful": share(0.98)}
    plain["auroc_successful"] = share(0.999)
    scored = {"successful": {"0.01": share(0.99)}, "auroc": share(0.9995)}
    return {
        "agreement": {"natural": {way: share(1.0) for way in ("standard", "robust", "nonrobust")}},
        "figures": {"float32": copy.deepcopy(plain), "int8": plain},
        "score": {
            "name": "head",
            "fpr": "0.01",
            "float32": copy.deepcopy(scored),
            "int8": scored,
        },
        "speed": [{"batch": 1, "float32": 100.0, "int8": 190.0}],
    }


def test_as_good_and_faster_has_no_fault() -> None:
    assert int8_figures.faults(document()) == []
    assert int8_figures.faults(document() | {"score": None}) == []


@pytest.mark.parametrize(
    ("place", "kept", "lost", "said"),
    [
        (
            ("agreement", "natural", "robust", "value"),
            0.995,
            0.9949,
            "labels of the robust way agree on 99.49 % of the natural images, and 99.5 % is",
        ),
        (
            ("figures", "int8", "false_alarm_rate", "value"),
            0.005,
            0.0051,
            "natural images flagged by Eq. 12: 0.51 % instead of 0.40",
        ),
        (
            ("figures", "int8", "rad_successful", "value"),
            0.975,
            0.9749,
            "successful attacks flagged by Eq. 12: 97.49 % instead of 98.00",
        ),
        (
            ("figures", "int8", "auroc_successful", "value"),
            0.994,
            0.9939,
            "AUROC of disbelief: 99.39 % instead of 99.90",
        ),
        (
            ("score", "int8", "successful", "0.01", "value"),
            0.985,
            0.9849,
            "successful attacks above the threshold of rate 0.01: 98.49 % instead of 99.00",
        ),
        (("score", "int8", "auroc", "value"), 0.9945, 0.99, "AUROC of head: 99.00 % instead of"),
        (("figures", "int8", "rad_successful", "value"), 1.0, None, "there are none to tell by"),
        (("figures", "float32", "rad_successful", "value"), 0.9, None, "none to tell by"),
        (("speed", 0, "int8"), 100.1, 100.0, "at batch 1 it is no faster: 100 images/s against"),
        (("agreement", "natural", "standard", "value"), 1.0, float("nan"), "agree on nan %"),
    ],
)
def test_each_bound(place: tuple[Any, ...], kept: Any, lost: Any, said: str) -> None:
    for value, count in ((kept, 0), (lost, 1)):
        changed = document()
        part: Any = changed
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
        found = int8_figures.faults(changed)
        assert len(found) == count
        assert all(said in one for one in found)


def test_shares_of_nothing() -> None:
    none = ATTACKED.take(np.zeros(4, bool))
    found = int8_figures.figures(NATURAL, none)
    assert found["rad_successful"]["value"] is None
    assert found["auroc_all"]["value"] is None
