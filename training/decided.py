"""What a calibration decided, how it scores and flags, and whether its promise was kept.

Pure: answers in, flags or JSON types out. How a threshold is fitted is `service.conformal`'s;
which images are whose is the caller's business.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from service import drift
from service.conformal import Fitted, observed_interval
from service.mixture import Mixture
from service.scores import Head, Labels, ScoreName, Scores, Temperature
from training import metrics
from training.metrics import Flags
from training.observed import Observed
from training.score_choice import share

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

    def kept(self, natural: Observed, calibrated_on: int) -> dict[str, Any]:
        """By rate, the `realised` share of alarms beside the `promised` interval of the rate.

        `inside` says whether it lies there. So many images scatter about the rate themselves:
        `expected` is where their share lies then, None for thresholds by class.
        """
        realised = self.alarms(natural)
        return {
            rate: {
                "promised": list(fitted.interval),
                "expected": None
                if fitted.per_class
                else list(observed_interval(calibrated_on, rate, len(natural))),
                "realised": realised[rate],
                "inside": fitted.interval[0] <= realised[rate]["value"] <= fitted.interval[1],
            }
            for rate, fitted in self.thresholds.items()
        }

    def histogram(self, natural: Observed) -> dict[str, Any]:
        """Of the score, as the service watches it drift."""
        edges, counts = drift.histogram(self.scores(natural))
        return {"edges": list(edges), "counts": list(counts)}

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
