"""Flags by hand, promises kept and broken, and what the manifest takes."""

import numpy as np
import pytest

from service import conformal, drift
from service.conformal import Fitted
from service.manifest import DecisionSpec
from service.mixture import Mixture
from service.scores import Temperature
from tests.training.observations import observed
from training.decided import Decided, flagged

AGREE, SPLIT = [4.0, 0.0], [0.0, 4.0]


def found(**thresholds: Fitted) -> Decided:
    return Decided(
        temperature=Temperature(),
        score="disbelief",
        head=None,
        thresholds={name.replace("_", "."): one for name, one in thresholds.items()},
        mixture=Mixture(0.6, 1.0, 1.0),
    )


def test_flagged_is_strictly_above() -> None:
    scores, named = np.array([0.1, 0.2, 0.3]), np.array([0, 1, 0])
    assert flagged(scores, named, Fitted(0.2, (0, 1))).tolist() == [False, False, True]
    by_class = Fitted(0.2, (0, 1), (0.3, 0.1))
    assert flagged(scores, named, by_class).tolist() == [False, True, False]


def test_alarms_and_promises() -> None:
    """One image of four is odd: Eq. 12 and a threshold in the middle flag it alone."""
    natural = observed([0] * 4, [AGREE] * 4, nonrobust=[AGREE, AGREE, AGREE, SPLIT])
    one = found(**{"0_1": Fitted(0.5, (0.2, 0.3)), "0_01": Fitted(0.999, (0.005, 0.02))})
    alarms = one.alarms(natural)
    assert {name: share["value"] for name, share in alarms.items()} == {
        "eq12": 0.25,
        "0.1": 0.25,
        "0.01": 0.0,
    }
    kept = one.kept(natural, 500)
    assert kept["0.1"]["expected"] == pytest.approx(conformal.observed_interval(500, "0.1", 4))
    assert kept["0.1"]["inside"] is True
    assert kept["0.1"]["promised"] == [0.2, 0.3]
    assert kept["0.01"]["inside"] is False
    assert kept["0.01"]["realised"]["value"] == 0.0


def test_the_manifest_takes_it() -> None:
    one = found(**{"0_01": Fitted(0.75, (0.005, 0.02), (0.5, 0.8))})
    calibration = {
        "dataset": "stripes",
        "n_images": 4,
        "sha256": "0" * 64,
        "created": "2026-01-01T00:00:00+00:00",
        "histogram": one.histogram(observed([0, 0], [AGREE, SPLIT])),
    }
    decision = DecisionSpec.model_validate(
        one.manifest("strict", "0.01") | {"calibration": calibration}
    )
    assert decision.threshold == decision.thresholds["0.01"].value == 0.75
    assert decision.thresholds["0.01"].per_class == (0.5, 0.8)
    assert decision.policy == "strict"
    assert decision.mixture is not None
    assert decision.mixture.weight == 0.6


def test_the_histogram_is_the_services() -> None:
    scores = np.linspace(0, 1, 200)[:, None]
    natural = observed([0] * 200, np.hstack([np.log1p(scores), scores * 0]).tolist())
    one = found(**{"0_01": Fitted(0.5, (0, 1))})
    edges, counts = drift.histogram(one.scores(natural))
    assert one.histogram(natural) == {"edges": list(edges), "counts": list(counts)}
    assert sum(counts) == 200
