"""The figures of a stress test: from what the ways said of attacked images to shares of them. Pure.

Every share lies in [0, 1] and comes with its two-sided 95 % interval. Knows which attacks there
were only by their names.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training import metrics
from training.metrics import Flags, Labels, Values
from training.outcomes import Outcomes, Policy, Said, outcomes, worst

Figures = dict[str, Any]  # JSON types


def share(hits: Flags) -> Figures:
    """Of no images None, as JSON has no NaN."""
    if not len(hits):
        return {"value": None, "interval": [None, None]}
    return {
        "value": metrics.share(hits),
        "interval": list(metrics.wilson_interval(int(hits.sum()), len(hits))),
    }


def described(policies: Sequence[Policy]) -> list[Figures]:
    """Name, words and threshold of each policy."""
    return [
        {"name": policy.name, "words": policy.words, "threshold": policy.threshold}
        for policy in policies
    ]


def alone(policies: Sequence[Policy], said: Said, label: Labels) -> Figures:
    """By policy what one attack gets: correct, fooled, rejected."""
    return {policy.name: _shares(outcomes(policy, said, label)) for policy in policies}


def natural(policies: Sequence[Policy], said: Said, label: Labels) -> Figures:
    """By policy what becomes of natural images, and how many of them are flagged."""
    return {
        policy.name: _shares(outcomes(policy, said, label))
        | {"false_alarms": share(policy.flags(said))}
        for policy in policies
    }


def result(
    policies: Sequence[Policy],
    label: Labels,
    *,
    natural: Said,
    attacks: Mapping[str, Said],
    noise: Said,
) -> Figures:
    """What an attacker with the choice gets, who may also leave an image as it is.

    `unfooled` is robust accuracy with detection, 1 - fooled: an image that is held back counts for
    the defence, a natural one too. `sound` counts it only where the natural image is accepted, as
    Tramer (2022) does. `bound` is the share of images on which any attack turned the robust way.
    """
    every = [natural, *attacks.values()]
    turned = np.logical_or.reduce([one.robust != label for one in every])
    found = {
        policy.name: worst([outcomes(policy, one, label) for one in every]) for policy in policies
    }
    figures: Figures = {"worst": {}, "noise": {}}
    for policy in policies:
        fooled = found[policy.name].fooled
        held_back = outcomes(policy, natural, label).rejected
        figures["worst"][policy.name] = _shares(found[policy.name]) | {
            "unfooled": share(np.asarray(~fooled)),
            "sound": share(np.asarray(~(fooled | held_back))),
        }
        by_noise = outcomes(policy, noise, label).fooled
        figures["noise"][policy.name] = {
            "fooled": share(by_noise),
            "alone": metrics.share(np.asarray(by_noise & ~fooled)),
        }
    return figures | {
        "robust_accuracy": share(np.asarray(~turned)),
        "bound": metrics.share(np.asarray(turned)),
    }


def oblivious(policies: Sequence[Policy], natural: Said, attacked: Said, label: Labels) -> Figures:
    """Detection of an attack that does not know of it: what is flagged, and the score's AUROC.

    Of the attacks that succeeded, which made the standard way name a wrong class, and of all.
    """
    hit = np.asarray(attacked.standard != label)
    return {
        "succeeded": share(hit),
        "flagged": {
            policy.name: {
                "successful": share(policy.flags(attacked)[hit]),
                "all": share(policy.flags(attacked)),
            }
            for policy in policies
        },
        "auroc": {
            "successful": _auroc(natural.score, attacked.score[hit]),
            "all": _auroc(natural.score, attacked.score),
        },
    }


def _auroc(natural: Values, attacked: Values) -> float | None:
    value = metrics.auroc(natural, attacked)
    return None if math.isnan(value) else value


def _shares(found: Outcomes) -> Figures:
    return {name: share(getattr(found, name)) for name in ("correct", "fooled", "rejected")}
