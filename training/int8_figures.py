"""How near an int8 network is to its float32 one, and whether that is near enough to ship it.

Pure: answers in, figures as JSON types out. An attack is successful where the network that is asked
gets the standard way wrong, so each of the two has its own count of them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from service.scores import Scores
from training import metrics
from training.decided import Decided
from training.metrics import Flags, Labels
from training.observed import Observed
from training.predict import WAYS
from training.score_choice import Share, share

FLOAT32, INT8 = "float32", "int8"

AGREEMENT = 0.995  # of labels on natural images, of each way, at least
MORE_ALARMS = 0.001  # of natural images that Eq. 12 flags more than before, at most
LOST = 0.005  # of successful attacks that are flagged, and of AUROC, less than before, at most
_ROUNDING = 1e-9

_WORDS = {"standard": "standard way", "robust": "robust way", "nonrobust": "non-robust way"}


def agreement(one: Observed, other: Observed) -> dict[str, Share]:
    """By way, the share of images that both name alike; `flag`: that Eq. 12 judges alike."""
    before, after = _named(one), _named(other)
    labels = {name: share(before[name] == after[name]) for name in before}
    return {**labels, "flag": share(_flags(one) == _flags(other))}


def figures(natural: Observed, attacked: Observed) -> dict[str, Share]:
    """Under the names of `training.figures`; attacks are on the standard way.

    The areas under the curve are those of the score `disbelief`, as in every evaluation.
    """
    flags, fooled = _flags(attacked), attacked.fooled
    below, above = _disbelief(natural), _disbelief(attacked)
    return {
        **_accuracies(natural, "natural"),
        "false_alarm_rate": share(_flags(natural)),
        **_accuracies(attacked, "under_standard_attack"),
        "rad_successful": share(flags[fooled]),
        "rad_all": share(flags),
        "auroc_successful": _area(below, above[fooled]),
        "auroc_all": _area(below, above),
    }


def scored(natural: Observed, attacked: Observed, decided: Decided) -> dict[str, Any]:
    """Of a calibration's score: alarms on natural images, and on successful attacks, by rate."""
    successful = attacked.take(attacked.fooled)
    return {
        "natural": decided.alarms(natural),
        "successful": decided.alarms(successful),
        "auroc": _area(decided.scores(natural), decided.scores(successful)),
    }


def faults(document: Mapping[str, Any]) -> list[str]:
    """Why the network of this `int8.json` is not to be shipped, with the figures; empty if it is.

    Raises:
        KeyError, TypeError: the document is of another kind.
    """
    return [
        *_disagreements(document["agreement"]["natural"]),
        *_worse(document["figures"], document["score"]),
        *(
            f"at batch {one['batch']} it is no faster: {one[INT8]:.0f} images/s against "
            f"{one[FLOAT32]:.0f}"
            for one in document["speed"]
            if not one[INT8] > one[FLOAT32]
        ),
    ]


def _disagreements(natural: Mapping[str, Share]) -> list[str]:
    return [
        f"labels of the {words} agree on {100 * natural[way]['value']:.2f} % of the natural "
        f"images, and {100 * AGREEMENT:g} % is the least"
        for way, words in _WORDS.items()
        if not natural[way]["value"] >= AGREEMENT
    ]


def _worse(found: Mapping[str, Any], score: Mapping[str, Any] | None) -> list[str]:
    def pair(name: str) -> tuple[float | None, float | None]:
        return found[FLOAT32][name]["value"], found[INT8][name]["value"]

    said = []
    before, after = pair("false_alarm_rate")
    if before is None or after is None or after > before + MORE_ALARMS + _ROUNDING:
        said.append(_change("natural images flagged by Eq. 12", before, after))
    losses = {
        "successful attacks flagged by Eq. 12": pair("rad_successful"),
        "AUROC of disbelief": pair("auroc_successful"),
    }
    if score is not None:
        rate = score["fpr"]
        caught = [score[side]["successful"][rate]["value"] for side in (FLOAT32, INT8)]
        areas = [score[side]["auroc"]["value"] for side in (FLOAT32, INT8)]
        losses[f"successful attacks above the threshold of rate {rate}"] = (caught[0], caught[1])
        losses[f"AUROC of {score['name']}"] = (areas[0], areas[1])
    return said + [
        _change(what, before, after)
        for what, (before, after) in losses.items()
        if before is None or after is None or after < before - LOST - _ROUNDING
    ]


def _change(what: str, before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return f"{what}: there are none to tell by"
    return f"{what}: {100 * after:.2f} % instead of {100 * before:.2f}"


def _named(observed: Observed) -> dict[str, Labels]:
    return {way: getattr(observed.logits, way).argmax(axis=1) for way in WAYS}


def _flags(observed: Observed) -> Flags:
    named = _named(observed)
    return metrics.flagged(named["robust"], named["nonrobust"])


def _accuracies(observed: Observed, where: str) -> dict[str, Share]:
    named = _named(observed)
    corrected = metrics.corrected(named["standard"], named["robust"], _flags(observed))
    return {
        f"accuracy_{name}_{where}": share(labels == observed.label)
        for name, labels in (*named.items(), ("corrected", corrected))
    }


def _disbelief(observed: Observed) -> Scores:
    return metrics.score(observed.logits.robust, observed.logits.nonrobust)


def _area(natural: Scores, attacked: Scores) -> Share:
    value = metrics.auroc(natural, attacked)
    return {"value": None if np.isnan(value) else value, "interval": None}
