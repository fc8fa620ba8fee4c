"""Are the images of late like those the thresholds were fitted on, by their scores? Pure numpy.

The reference is a histogram of the score on the calibration images; its edges are quantiles of it,
so that each bin says something. Two distances from it: the population stability index, which sums
what every bin gained or lost, and the Kolmogorov-Smirnov distance, the largest gap between the two
distribution functions, here at the edges only and so at most the true one.

Knows scores; neither models nor who looks at the numbers.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

from service.scores import Scores

Counts = NDArray[np.int64]

WINDOW_LEAST = 100  # scores; with fewer a distance says more of the draw than of the images
_QUANTILES = (*np.linspace(0.1, 0.9, 9), 0.95, 0.99)
_HALF = 0.5  # of an image in each bin beforehand, so that an empty one is no infinity


def histogram(scores: Scores) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Edges from 0 to 1 at quantiles of the scores, and how many fell between two of them.

    A bin holds its lower edge, the last one its upper edge too. Equal scores make fewer bins.
    """
    inner = np.quantile(scores, _QUANTILES, method="inverted_cdf")  # scores that occurred
    edges = np.unique(np.concatenate(([0.0], inner, [1.0])))
    return tuple(edges.tolist()), tuple(binned(scores, edges).tolist())


def binned(scores: Scores, edges: Sequence[float] | Scores) -> Counts:
    """How many scores fell into each bin."""
    places = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(places, minlength=len(edges) - 1)


def stability_index(expected: Counts, observed: Counts) -> float:
    """Population stability index of two histograms with the same edges, 0 where they are the same.

    By a rule of thumb below 0.1 nothing has changed and above 0.25 much has.
    """
    share, other = (
        (counts + _HALF) / (counts.sum() + _HALF * len(counts)) for counts in (expected, observed)
    )
    return float(((other - share) * np.log(other / share)).sum())


def ks_distance(expected: Counts, observed: Counts) -> float:
    """Kolmogorov-Smirnov distance at the edges, in [0, 1]; neither histogram is empty."""
    share, other = (np.cumsum(counts) / counts.sum() for counts in (expected, observed))
    return float(np.abs(other - share).max())


class DriftMonitor:
    """The latest `window` scores against a reference; a binary search in a few edges an image."""

    def __init__(self, edges: Sequence[float], counts: Sequence[int], window: int) -> None:
        self._edges = tuple(edges)
        self._expected = np.asarray(counts, np.int64)
        self._observed = [0] * len(counts)
        self._places: deque[int] = deque()
        self._window = window

    def add(self, score: float) -> None:
        """Take one score in, and the oldest out where the window is full."""
        if len(self._places) == self._window:
            self._observed[self._places.popleft()] -= 1
        place = min(bisect_right(self._edges, score), len(self._observed)) - 1
        self._places.append(place)
        self._observed[place] += 1

    def stability_index(self) -> float:
        """NaN where the window holds fewer than WINDOW_LEAST scores."""
        return stability_index(self._expected, self._counts) if self._enough else nan

    def ks_distance(self) -> float:
        """NaN where the window holds fewer than WINDOW_LEAST scores."""
        return ks_distance(self._expected, self._counts) if self._enough else nan

    @property
    def _counts(self) -> Counts:
        return np.array(self._observed, np.int64)

    @property
    def _enough(self) -> bool:
        return len(self._places) >= WINDOW_LEAST
