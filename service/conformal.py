"""Split-conformal thresholds: the score above which a natural image is flagged, for a wanted rate.

Of n scores of natural images, the threshold for the rate a is the k-th smallest, k = ceil((n + 1)
(1 - a)), and an image is flagged where its score is strictly above (Vovk et al. 2005; Angelopoulos
and Bates 2021). A further image of the same kind is then flagged with probability at most a over
the draw of both. For the one set that was drawn, the realised rate follows Beta(n + 1 - k, k),
whose 95 % interval goes beside the threshold. What is counted on a few further images scatters
about that rate once more (`observed_interval`).

Ties: scores that equal the threshold are not flagged, so the realised rate can only be lower than
without ties. The upper end of the interval stays; the lower end is that of the next larger score.

Pure numpy. Knows scores and labels; neither models nor images, nor where a threshold is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np

from service.scores import Labels, Scores

RATES = ("0.001", "0.005", "0.01", "0.02", "0.05", "0.1")  # of false alarms, as people write them
MIN_IMAGES = 100
HIGHEST = 1 - 1e-6  # a threshold from here on flags nothing, whatever the score
CONFIDENCE = 0.95

Interval = tuple[float, float]


class Unfit(ValueError):
    """These images cannot calibrate; the message says why."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A threshold; `per_class` by the standard way's label, where it was asked for.

    `interval` holds the realised rate with 95 % confidence: of all images, and with `per_class` of
    those of every class at once.
    """

    value: float
    interval: Interval
    per_class: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """By rate; a rate without a threshold that could flag is left out, with the reason."""

    fitted: dict[str, Fitted]
    left_out: dict[str, str]


def fit(
    scores: Scores,
    labels: Labels,
    rates: Sequence[str] = RATES,
    *,
    classes: int | None = None,
) -> Thresholds:
    """Thresholds of scores (n,), where the standard way gave the labels (n,).

    With `classes` each class 0 ... classes - 1 gets a threshold of its own; then every rate needs
    enough images of every class. A rate whose threshold would be HIGHEST or more is left out: it
    would switch the score off.

    Raises:
        Unfit: fewer than MIN_IMAGES or than any rate needs, a score that is no number in [0, 1],
            one class only, a class with too few images for the largest rate, or no rate whose
            threshold could flag anything.
    """
    _check(scores, labels)
    ordered = np.sort(scores)
    by_class = None if classes is None else [np.sort(scores[labels == c]) for c in range(classes)]
    fitted: dict[str, Fitted] = {}
    left_out: dict[str, str] = {}
    for rate in sorted(rates, key=Fraction):
        why = _too_few(ordered, by_class, rate)
        if why is None:
            one = _fit_one(ordered, by_class, rate)
            why = _flags_nothing(one, rate)
        if why is None:
            fitted[rate] = one
        else:
            left_out[rate] = why
    if not fitted:
        raise Unfit(left_out[max(left_out, key=Fraction)])
    return Thresholds(fitted, left_out)


def rank(n: int, rate: str) -> int:
    """k = ceil((n + 1) (1 - rate)), exactly; n + 1 where n is too small for the rate."""
    return ceil((n + 1) * (1 - Fraction(rate)))


def needed(rate: str) -> int:
    """The least n for which a threshold at this rate exists: 99 for 0.01."""
    return ceil(1 / Fraction(rate)) - 1


def threshold(ordered: Scores, rate: str) -> float:
    """The conformal threshold of scores that rise.

    Raises:
        Unfit: too few of them.
    """
    if len(ordered) < needed(rate):
        raise Unfit(f"a rate of {rate} needs {needed(rate)} images; there are {len(ordered)}")
    return float(ordered[rank(len(ordered), rate) - 1])


def interval(ordered: Scores, rate: str, confidence: float = CONFIDENCE) -> Interval:
    """Where the realised false-alarm rate of `threshold` lies, equal tails."""
    n = len(ordered)
    tail = (1 - confidence) / 2
    k = rank(n, rate)
    last_tied = int(np.searchsorted(ordered, ordered[k - 1], side="right"))
    above = n - last_tied + (last_tied == k)  # with a tie, at least what the next score leaves
    low = beta_quantile(tail, above, n + 1 - above) if above else 0.0
    return low, beta_quantile(1 - tail, n + 1 - k, k)


def observed_interval(n: int, rate: str, m: int, confidence: float = CONFIDENCE) -> Interval:
    """Where the share flagged of m further images lies, by a threshold of n; equal tails at most.

    Wider than `interval`, by what m images scatter about the realised rate: their count follows the
    beta-binomial distribution (m, n + 1 - k, k). For holding a promise against a test set. With
    ties the share may be lower.
    """
    k = rank(n, rate)
    a, b = n + 1 - k, k
    x = np.arange(m)
    steps = np.log((m - x) / (x + 1)) + np.log((x + a) / (m - x - 1 + b))
    weights = np.concatenate(([0.0], np.cumsum(steps)))  # log of each count's, up to a constant
    weights = np.exp(weights - weights.max())
    below = np.cumsum(weights) / weights.sum()
    tail = (1 - confidence) / 2
    low, high = (int(np.searchsorted(below, p)) for p in (tail, 1 - tail))
    return low / m, high / m


def beta_quantile(probability: float, a: int, b: int) -> float:
    """Quantile of Beta(a, b) for whole a, b >= 1, to 1e-12.

    By bisection on P(Beta <= x) = P(Binomial(a + b - 1, x) >= a).
    """
    n = a + b - 1
    j = np.arange(1, a)
    log_choose = np.concatenate(([0.0], np.cumsum(np.log((n - j + 1) / j))))  # of 0 ... a - 1
    successes = np.arange(a)
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        x = (low + high) / 2
        below = np.exp(log_choose + successes * np.log(x) + (n - successes) * np.log1p(-x)).sum()
        if 1.0 - below < probability:
            low = x
        else:
            high = x
    return (low + high) / 2


def _check(scores: Scores, labels: Labels) -> None:
    if len(scores) < MIN_IMAGES:
        raise Unfit(f"{len(scores)} images are too few; {MIN_IMAGES} is the least")
    if not ((scores >= 0) & (scores <= 1)).all():  # NaN is neither
        raise Unfit("a score is no number in [0, 1]")
    if (labels == labels[0]).all():
        raise Unfit("the model sees one and the same class in all images")


def _too_few(ordered: Scores, by_class: list[Scores] | None, rate: str) -> str | None:
    """Why there is no threshold at this rate."""
    if len(ordered) < needed(rate):
        return f"a rate of {rate} needs {needed(rate)} images; there are {len(ordered)}"
    sizes = [len(scores) for scores in by_class or ()]
    if sizes and min(sizes) < needed(rate):
        return (
            f"a rate of {rate} needs {needed(rate)} images of every class; "
            f"of class {sizes.index(min(sizes))} there are {min(sizes)}"
        )
    return None


def _flags_nothing(one: Fitted, rate: str) -> str | None:
    """Why this threshold, or that of a class, is none."""
    highest = max((one.value, *(one.per_class or ())))
    if highest < HIGHEST:
        return None
    return f"a rate of {rate} would have the threshold {highest:g}, above which no score can be"


def _fit_one(ordered: Scores, by_class: list[Scores] | None, rate: str) -> Fitted:
    value = threshold(ordered, rate)
    if by_class is None:
        return Fitted(value, interval(ordered, rate))
    # Each class errs with its share of the probability, so that none does with CONFIDENCE (Boole).
    confidence = 1 - (1 - CONFIDENCE) / len(by_class)
    lows, highs = zip(*(interval(scores, rate, confidence) for scores in by_class), strict=True)
    per_class = tuple(threshold(scores, rate) for scores in by_class)
    return Fitted(value, (min(lows), max(highs)), per_class)
