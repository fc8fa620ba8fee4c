"""The calibrated probability: the standard and the robust way mixed, not switched. Pure numpy.

After MixedNUTS (Bai et al. 2024): a robust network is surer where it is right than where it is
wrong, so that a power of its logits lets it outvote the standard way just where it should. Three
parameters, no training. Knows neither flags nor scores.
"""

from dataclasses import dataclass

import numpy as np

from service.scores import Floats, Scores, softmax

_TINY = 1e-12  # a way that says the same of all classes has no spread


@dataclass(frozen=True, slots=True)
class Mixture:
    """`weight` in [0, 1] is the robust way's share; `scale` and `power` sharpen its logits."""

    weight: float
    scale: float
    power: float


def sharpened(robust_logits: Floats, mixture: Mixture) -> Scores:
    """Logits (N, K) made comparable over images (mean 0, deviation 1), then scale * |z|^power."""
    logits = robust_logits.astype(np.float64)
    classes = logits.shape[1]
    centred = logits - logits.sum(axis=1, keepdims=True) / classes
    deviation = np.sqrt(np.square(centred).sum(axis=1, keepdims=True) / classes)
    even = centred / np.maximum(deviation, _TINY)
    return np.asarray(mixture.scale * np.sign(even) * np.abs(even) ** mixture.power)


def mixed(p_standard: Floats, robust_logits: Floats, mixture: Mixture) -> Scores:
    """Probabilities (N, K) of the mixture; the calibrated label is their argmax."""
    p_robust = softmax(sharpened(robust_logits, mixture))
    return np.asarray(mixture.weight * p_robust + (1.0 - mixture.weight) * p_standard)
