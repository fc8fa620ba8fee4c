"""One temperature a way, by the likelihood of natural images' true classes (Guo et al. 2017).

Pure: logits and labels in, numbers out. Knows neither where the images come from nor what their
probabilities are used for.
"""

import math
from collections.abc import Callable

import numpy as np

from service.scores import Floats, Logits, Temperature
from training.metrics import Labels

LOWEST, HIGHEST = 0.05, 20.0  # beyond them a way is not miscalibrated but broken

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_PRECISION = 1e-4  # of the temperature, relative


def fitted(logits: Logits, label: Labels) -> Temperature:
    """Each way's own temperature, in [LOWEST, HIGHEST]."""
    return Temperature(
        standard=of_way(logits.standard, label),
        robust=of_way(logits.robust, label),
        nonrobust=of_way(logits.nonrobust, label),
    )


def of_way(logits: Floats, label: Labels) -> float:
    """The temperature with the least `nll` of logits (N, K).

    The loss is convex in 1 / temperature, so that it has one valley on a logarithmic axis too and
    golden section finds it. Logits that are never wrong have theirs at the lower end.
    """
    found = golden_section(
        lambda log_t: nll(logits, label, math.exp(log_t)), math.log(LOWEST), math.log(HIGHEST)
    )
    return float(np.clip(math.exp(found), LOWEST, HIGHEST))


def nll(logits: Floats, label: Labels, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the true class, in nats."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    true = np.take_along_axis(scaled, np.asarray(label)[:, None], axis=1)[:, 0]
    return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - true))


def golden_section(value: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley in [low, high] is least, to `_PRECISION` (Kiefer 1953)."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = value(left), value(right)
    while high - low > _PRECISION:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = value(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = value(right)
    return (low + high) / 2
