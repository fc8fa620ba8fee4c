"""The calibrated probability beside the ones it should beat, and each way's before and after.

Pure: answers in, figures as JSON types or confidences out. Knows neither scores nor thresholds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.mixture import Mixture
from service.scores import Floats, Temperature, softmax
from training import metrics
from training.metrics import Flags, Values
from training.mixture_fit import probabilities
from training.observed import Observed, joined
from training.predict import WAYS
from training.score_choice import share

Confidences = tuple[
    Values, Flags
]  # probability of the label that is given, and whether it is right


@dataclass(frozen=True, kw_only=True)
class Sides:
    """All `natural` images of a split, and some of them as they are (`paired`) and `attacked`."""

    natural: Observed
    paired: Observed
    attacked: Observed

    def by_name(self) -> dict[str, Observed]:
        return {
            "natural": self.natural,
            "attacked": self.attacked,
            "half attacked": joined([self.paired, self.attacked]),
        }


def ways(observed: Observed, temperature: Temperature) -> dict[str, dict[str, Confidences]]:
    """By way, `before` and `after` its temperature."""
    found: dict[str, dict[str, Confidences]] = {}
    for way in WAYS:
        logits = getattr(observed.logits, way)
        found[way] = {
            when: _confidences(softmax(logits, divisor), observed)
            for when, divisor in (("before", 1.0), ("after", getattr(temperature, way)))
        }
    return found


def labels(
    observed: Observed, temperature: Temperature, mixture: Mixture
) -> dict[str, Confidences]:
    """Of the standard way, of the paper's label switch (each as it is) and of what is calibrated.

    The switch takes label and probability from the robust way where Eq. 12 flags, else from the
    standard way (section 3.3).
    """
    logits = observed.logits
    flags = metrics.flagged(logits.robust.argmax(axis=1), logits.nonrobust.argmax(axis=1))

    def switched(temperature: Temperature) -> Floats:
        p_robust = softmax(logits.robust, temperature.robust)
        return np.where(flags[:, None], p_robust, softmax(logits.standard, temperature.standard))

    said = {
        "standard way": softmax(logits.standard),
        "label switch": switched(Temperature()),
        "tempered switch": switched(temperature),
        "mixture": probabilities(observed, temperature, mixture),
    }
    return {name: _confidences(p, observed) for name, p in said.items()}


def way_errors(sides: Sides, temperature: Temperature) -> dict[str, Any]:
    """ECE by images, way, and before or after."""
    return {
        which: {
            way: {when: metrics.ece(*one) for when, one in both.items()}
            for way, both in ways(observed, temperature).items()
        }
        for which, observed in sides.by_name().items()
    }


def accuracies(observed: Observed, temperature: Temperature, mixture: Mixture) -> dict[str, Any]:
    """By kind of label, how often it is right."""
    return {
        name: share(right) for name, (_, right) in labels(observed, temperature, mixture).items()
    }


def label_figures(sides: Sides, temperature: Temperature, mixture: Mixture) -> dict[str, Any]:
    """By images and kind of label: how often it is right, and its ECE."""
    return {
        which: {
            name: {"accuracy": share(right), "ece": metrics.ece(confidence, right)}
            for name, (confidence, right) in labels(observed, temperature, mixture).items()
        }
        for which, observed in sides.by_name().items()
    }


def panels(
    sides: Sides, temperature: Temperature, mixture: Mixture
) -> Mapping[str, dict[str, Mapping[str, Confidences]]]:
    """What two reliability diagrams show, by diagram and panel."""
    by_name = sides.by_name()
    return {
        "ways": {
            f"{way} way, {which}": both
            for which in ("natural", "attacked")
            for way, both in ways(by_name[which], temperature).items()
        },
        "labels": {
            which: labels(observed, temperature, mixture) for which, observed in by_name.items()
        },
    }


def _confidences(p: Floats, observed: Observed) -> Confidences:
    return np.asarray(p.max(axis=1)), np.asarray(p.argmax(axis=1) == observed.label)
