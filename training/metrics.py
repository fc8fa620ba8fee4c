"""Figures of merit of three-way answers: pure functions, numpy in, float out.

Shares lie in [0, 1]; a share of nothing is NaN, and so is every figure that is made of one. Labels
and flags are (N,), logits (N, classes). Scores are the service's. Knows no model, attack, file or
data set.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service import scores

Labels = NDArray[np.integer]
Flags = NDArray[np.bool_]
Values = NDArray[np.floating]

_Z_95 = 1.959963984540054  # standard normal quantile of 97.5 %
_ROUNDING = 1e-9  # of an image: 0.07 * 100 is a little above 7, and 0.29 * 100 a little below 29


def share(hits: Flags) -> float:
    """How many of `hits` are true, in [0, 1]; NaN where there are none to count."""
    return float(np.mean(hits)) if len(hits) else math.nan


def accuracy(predicted: Labels, label: Labels) -> float:
    """Share of images named rightly."""
    return share(predicted == label)


def dia(robust_accuracy: float, nonrobust_accuracy: float) -> float:
    """Difference in accuracy (section 2.5), in [-1, 1]: robust way less non-robust way.

    The paper's Tables 1-3 take each way under the attack on itself, Tables 6-8 take both under the
    attack on the standard way; it is the caller who picks.
    """
    return robust_accuracy - nonrobust_accuracy


def flagged(robust_label: Labels, nonrobust_label: Labels) -> Flags:
    """Eq. 12: adversarial where the robust and the non-robust way name different classes."""
    return np.asarray(robust_label != nonrobust_label)


def rad(attacked_flags: Flags) -> float:
    """Rate of adversarial detection (section 2.5): share of attacked images that Eq. 12 flags."""
    return share(attacked_flags)


def false_alarm_rate(natural_flags: Flags) -> float:
    """Share of natural images that are flagged."""
    return share(natural_flags)


def equal_mixture(natural: float, attacked: float) -> float:
    """A share over a mixture that is half natural and half attacked images."""
    return (natural + attacked) / 2


def corrected(standard: Labels, robust: Labels, flags: Flags) -> Labels:
    """Corrected label: the robust way's where flagged, else the standard way's (section 3.3).

    The paper calls this calibration.
    """
    return np.where(flags, robust, standard)


def score(robust_logits: Values, nonrobust_logits: Values) -> NDArray[np.float64]:
    """The service's `disbelief` at temperature 1, (N,) in [0, 1]: the graded form of Eq. 12."""
    return scores.disbelief(scores.softmax(robust_logits), nonrobust_logits.argmax(axis=1))


def auroc(natural: Values, attacked: Values) -> float:
    """Chance that an attacked image scores above a natural one, a tie counting half.

    The Mann-Whitney statistic, exact with ties; NaN where either side is empty.
    """
    if not len(natural) or not len(attacked):
        return math.nan
    ordered = np.sort(natural)
    below = np.searchsorted(ordered, attacked, side="left")
    below_or_tied = np.searchsorted(ordered, attacked, side="right")
    return float((below + below_or_tied).sum() / (2 * len(natural) * len(attacked)))


def roc(natural: Values, attacked: Values) -> tuple[Values, Values]:
    """Rates of false alarms and of detection, (M,) each and ascending, from (0, .) to (1, 1).

    One point a distinct natural score as threshold, flagged strictly above it as in
    `threshold_at_fpr`: the most that is detected at each rate of false alarms that can be realised.
    """
    thresholds = np.append(np.unique(natural)[::-1], -np.inf)
    above = [
        1 - np.searchsorted(np.sort(scores), thresholds, side="right") / len(scores)
        for scores in (natural, attacked)
    ]
    return above[0], above[1]


def threshold_at_fpr(natural: Values, target: float) -> float:
    """The lowest threshold at which at most `target` of the natural scores lie above it.

    An image is flagged where its score is strictly above, so that natural scores tied at the
    threshold raise no alarm and the realised rate never passes `target`. It may stay well below
    it: with fewer than 1 / target images, or many tied ones, no threshold comes closer. NaN for no
    scores.
    """
    if not len(natural):
        return math.nan
    allowed = math.floor(target * len(natural) + _ROUNDING)
    descending = np.sort(natural)[::-1]
    return float(descending[allowed]) if allowed < len(natural) else -math.inf


def tpr_at_fpr(natural: Values, attacked: Values, target: float) -> float:
    """Share of attacked scores above `threshold_at_fpr`; a tie with the threshold is a miss."""
    if not len(natural):
        return math.nan
    return share(attacked > threshold_at_fpr(natural, target))


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Two-sided 95 % interval of a share of independent images (Wilson 1927).

    Unlike the normal approximation it stays inside [0, 1] and does not collapse at 0 and 1. NaN
    for a share of nothing.
    """
    if count == 0:
        return math.nan, math.nan
    squared = _Z_95**2
    p = hits / count
    center = (p + squared / (2 * count)) / (1 + squared / count)
    reach = math.sqrt(p * (1 - p) / count + squared / (4 * count**2)) / (1 + squared / count)
    reach *= _Z_95
    low = 0.0 if hits == 0 else center - reach  # exactly, where rounding would leave a trace
    high = 1.0 if hits == count else center + reach
    return low, high


def confidence(logits: Values) -> NDArray[np.float64]:
    """Probability of the named class, (N,) in [1 / classes, 1]: the largest of the softmax."""
    shifted = np.asarray(logits, dtype=np.float64)
    return np.asarray(1 / np.exp(shifted - shifted.max(axis=1, keepdims=True)).sum(axis=1))


class Reliability(NamedTuple):
    """Bins of confidence from low to high, (bins,) each; the means of an empty bin are NaN."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    images: NDArray[np.int64]


def reliability(confidence: Values, right: Flags, bins: int = 15) -> Reliability:
    """Mean confidence and accuracy in bins of equal width over [0, 1], closed on the right.

    Those of Guo et al. 2017, section 2. `right` says where the named class is the true one.
    """
    which = np.clip(np.ceil(np.asarray(confidence) * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    filled = np.where(count, count, np.nan)
    return Reliability(
        confidence=np.bincount(which, weights=confidence, minlength=bins) / filled,
        accuracy=np.bincount(which, weights=right, minlength=bins) / filled,
        images=count,
    )


def ece(confidence: Values, right: Flags, bins: int = 15) -> float:
    """Expected calibration error in [0, 1] (Guo et al. 2017, Eq. 3); NaN for no images.

    The mean distance of accuracy from confidence over the bins of `reliability`, each weighted by
    its share of the images. It depends on the number of bins; 15 is that paper's.
    """
    if not len(right):
        return math.nan
    found = reliability(confidence, right, bins)
    gap = np.nan_to_num(np.abs(found.accuracy - found.confidence))  # an empty bin weighs nothing
    return float((gap * found.images).sum() / found.images.sum())
