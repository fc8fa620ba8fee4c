"""Graded scores of one image's three ways, higher = more likely adversarial. Pure numpy.

The one place where a score is defined: the service answers with these functions and the trainer
measures and calibrates with the same ones. Knows no images, thresholds or policies. Shapes: N
images, K classes, H features an encoder; every score is (N,) in [0, 1].
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Scores = NDArray[np.float64]
Labels = NDArray[np.intp]
ScoreName = Literal["disbelief", "divergence", "doubt", "head"]

SCORE_NAMES: tuple[ScoreName, ...] = get_args(ScoreName)


@dataclass(frozen=True, slots=True)
class Logits:
    """What one run of the model says, (N, K) each."""

    standard: Floats
    robust: Floats
    nonrobust: Floats


@dataclass(frozen=True, slots=True)
class Features:
    """Both representations, (N, H) each; only the detector head looks at them."""

    robust: Floats
    nonrobust: Floats


@dataclass(frozen=True, slots=True)
class Temperature:
    """Each way's logits are divided by this before softmax."""

    standard: float = 1.0
    robust: float = 1.0
    nonrobust: float = 1.0


@dataclass(frozen=True, slots=True)
class Head:
    """A small network over z_r, z_n and the three ways' logits: standardise, ReLU layer, sigmoid.

    D = 2 H + 3 K inputs, in that order; M hidden units.
    """

    mean: Floats  # (D,)
    scale: Floats  # (D,), above 0
    hidden_weight: Floats  # (M, D)
    hidden_bias: Floats  # (M,)
    output_weight: Floats  # (M,)
    output_bias: float


def softmax(logits: Floats, temperature: float | Floats = 1.0) -> Scores:
    """Probabilities (..., K) of logits (..., K) / temperature; any finite logits are safe."""
    scaled = logits.astype(np.float64) / temperature
    shifted = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def disbelief(p_robust: Floats, nonrobust_label: Labels) -> Scores:
    """How little the robust way believes the non-robust way's label: the graded form of Eq. 12."""
    believed = p_robust[np.arange(len(p_robust)), nonrobust_label]
    return np.asarray(np.clip(1.0 - believed, 0.0, 1.0), dtype=np.float64)


def divergence(p_robust: Floats, p_nonrobust: Floats) -> Scores:
    """Jensen-Shannon divergence of the two ways in bits: 0 where they agree, 1 where disjoint."""
    middle = (p_robust + p_nonrobust) / 2
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 log 0 counts as 0
        terms = [
            np.where(p > 0, p * np.log2(p / middle), 0.0).sum(axis=1)
            for p in (p_robust, p_nonrobust)
        ]
    return np.asarray(np.clip((terms[0] + terms[1]) / 2, 0.0, 1.0), dtype=np.float64)


def doubt(robust_logits: Floats, temperature: float = 1.0) -> Scores:
    """How near the robust way is to another label: 2 / (1 + exp(margin)), 1 at no margin.

    The margin is that of its two largest logits; in robust networks it ranks images as the distance
    to the decision boundary does (Kim et al. 2024, margin consistency).
    """
    largest = np.partition(robust_logits.astype(np.float64), -2, axis=1)[:, -2:]
    margin = (largest[:, 1] - largest[:, 0]) / temperature
    return np.asarray(2.0 / (1.0 + np.exp(np.minimum(margin, 700.0))))  # beyond it exp overflows


def detected(features: Features, logits: Logits, head: Head) -> Scores:
    """What the detector head says, the paper's future work (section 2.4)."""
    inputs = np.concatenate(
        (
            *(features.robust, features.nonrobust),
            *(logits.standard, logits.robust, logits.nonrobust),
        ),
        axis=1,
    ).astype(np.float64)
    hidden = np.maximum(
        ((inputs - head.mean) / head.scale) @ head.hidden_weight.T + head.hidden_bias, 0.0
    )
    logit = hidden @ head.output_weight + head.output_bias
    return np.asarray(0.5 * (1.0 + np.tanh(logit / 2)))  # a sigmoid that cannot overflow


def score(
    name: ScoreName,
    logits: Logits,
    temperature: Temperature,
    features: Features | None = None,
    head: Head | None = None,
) -> Scores:
    """A score by its name.

    Raises:
        ValueError: `head` without its features and weights.
    """
    if name == "head":
        if features is None or head is None:
            raise ValueError("the head needs features and weights")
        return detected(features, logits, head)
    if name == "doubt":
        return doubt(logits.robust, temperature.robust)
    p_robust = softmax(logits.robust, temperature.robust)
    if name == "divergence":
        return divergence(p_robust, softmax(logits.nonrobust, temperature.nonrobust))
    return disbelief(p_robust, logits.nonrobust.argmax(axis=1))
