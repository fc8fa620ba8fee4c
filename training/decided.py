"""What a calibration decided, how it scores and flags, and whether its promise was kept.

Pure: answers in, flags or JSON types out. How a threshold is fitted is `service.conformal`'s;
which images are whose is the caller's business.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.conformal import Fitted
from service.mixture import Mixture
from service.scores import Head, Labels, ScoreName, Scores, Temperature
from training import metrics
from training.metrics import Flags
from training.observed import Observed
from training.score_choice import share

BINS = 20
EQ12 = "eq12"


@dataclass(frozen=True, kw_only=True)
class Decided:
    """All that goes into a manifest, as the functions of `service` take it."""

    temperature: Temperature
    score: ScoreName
    head: Head | None
    thresholds: Mapping[str, Fitted]
    mixture: Mixture

    def scores(self, observed: Observed) -> Scores:
        """Of each image, (N,) in [0, 1]."""
        return observed.score(self.score, self.temperature, self.head)

    def alarms(self, observed: Observed) -> dict[str, Any]:
        """The share that is flagged, by target rate, and by Eq. 12."""
        scores, logits = self.scores(observed), observed.logits
        by_rate = {
            rate: share(flagged(scores, observed.named, fitted))
            for rate, fitted in self.thresholds.items()
        }
        eq12 = metrics.flagged(logits.robust.argmax(axis=1), logits.nonrobust.argmax(axis=1))
        return {EQ12: share(eq12), **by_rate}

    def kept(self, natural: Observed) -> dict[str, Any]:
        """By rate, the `realised` share of alarms beside the `promised` interval.

        `inside` says whether it lies there. Of finitely many images the share has an interval of
        its own, which matters where it lies just outside.
        """
        realised = self.alarms(natural)
        return {
            rate: {
                "promised": list(fitted.interval),
                "realised": realised[rate],
                "inside": fitted.interval[0] <= realised[rate]["value"] <= fitted.interval[1],
            }
            for rate, fitted in self.thresholds.items()
        }

    def manifest(self, policy: str, fpr: str) -> dict[str, Any]:
        """The manifest's `decision` with these defaults, but for the images it belongs to."""
        return {
            "policy": policy,
            "score": self.score,
            "fpr": fpr,
            "threshold": self.thresholds[fpr].value,
            "thresholds": {rate: dataclasses.asdict(one) for rate, one in self.thresholds.items()},
            "temperatures": dataclasses.asdict(self.temperature),
            "mixture": dataclasses.asdict(self.mixture),
        }


def flagged(scores: Scores, named: Labels, fitted: Fitted) -> Flags:
    """Which images are flagged: strictly above the threshold, that of their class where it has one.

    `named` (N,) is what the standard way says.
    """
    if fitted.per_class is None:
        return np.asarray(scores > fitted.value)
    return np.asarray(scores > np.array(fitted.per_class)[named])


def histogram(scores: Scores, bins: int = BINS) -> dict[str, Any]:
    """`edges` from 0 to 1 and `counts` between them: about as many scores in each bin.

    Most scores of natural images are near 0, where bins of equal width would see nothing move.
    Quantiles that coincide make one edge, so there may be fewer bins. Each is open on the right but
    the last.
    """
    inner = np.quantile(scores, np.linspace(0, 1, bins + 1)[1:-1])
    inner = np.unique(inner[(inner > 0) & (inner < 1)])
    edges = np.concatenate(([0.0], inner, [1.0]))
    counts, _ = np.histogram(scores, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}
