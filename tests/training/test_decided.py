"""Flags by hand, promises kept and broken, and what must hold of any histogram."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from service.conformal import Fitted
from service.manifest import DecisionSpec, Histogram
from service.mixture import Mixture
from service.scores import Temperature
from tests.training.observations import observed
from training.decided import Decided, flagged, histogram

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
    kept = one.kept(natural)
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
        "histogram": histogram(np.array([0.1, 0.2, 0.3, 0.4])),
    }
    decision = DecisionSpec.model_validate(
        one.manifest("strict", "0.01") | {"calibration": calibration}
    )
    assert decision.threshold == decision.thresholds["0.01"].value == 0.75
    assert decision.thresholds["0.01"].per_class == (0.5, 0.8)
    assert decision.policy == "strict"
    assert decision.mixture is not None
    assert decision.mixture.weight == 0.6


@given(
    arrays(
        np.float64,
        st.integers(1, 300),
        elements=st.sampled_from([0.0, 1e-9, 0.5, 1.0]) | st.floats(0, 1),
    )
)
def test_histogram_holds_every_score(scores: NDArray[np.float64]) -> None:
    made = Histogram.model_validate(histogram(scores))
    assert (made.edges[0], made.edges[-1]) == (0.0, 1.0)
    assert sum(made.counts) == len(scores)
    assert len(made.counts) <= 20


def test_bins_of_scores_that_crowd_near_nought() -> None:
    scores = np.random.default_rng(0).random(2000) ** 8
    made = histogram(scores)
    assert made["counts"] == [100] * 20
    assert made["edges"][1] < 1e-6
