"""Proposition 1 of the paper (appendix A.2), by exact sum and by simulation.

Seven features vote for a label in {-1, +1}, each right with probability 0.8: four faint ones, which
an l_inf attack of 0.02 turns over, and three strong ones, which it does not. Pure functions; knows
nothing of images or networks.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

P = 0.8  # that a feature points to the label
EPS = 0.02
ETA: Floats = np.array([0.01] * 4 + [1.0] * 3)  # strength of each feature
ROBUST = ETA > EPS

STATED = {"standard": 0.944, "robust": 0.880}  # what Eq. 19 and 23 come to


def majority_accuracy(voters: int, p: float) -> float:
    """Chance that most of an odd number of independent voters, each right with `p`, are right.

    The sum of all outcomes with fewer wrong than right voters. The paper's Eq. 19 and 23 subtract a
    single outcome's weight instead, and that without the factor for those who are right.
    """
    return math.fsum(
        math.comb(voters, wrong) * (1 - p) ** wrong * p ** (voters - wrong)
        for wrong in range((voters + 1) // 2)
    )


def sample(count: int, seed: int) -> tuple[Floats, Floats]:
    """Eq. 16: features (count, 7) and labels (count,) of -1 and +1."""
    generator = np.random.default_rng(seed)
    label = generator.choice([-1.0, 1.0], size=count)
    right = generator.random((count, len(ETA))) < P
    return np.where(right, 1.0, -1.0) * ETA * label[:, None], label


def vote(features: Floats, weights: Floats) -> Floats:
    """Eq. 17 and 18: sign of the weighted sum, (count,) of -1 and +1."""
    return np.asarray(np.sign(features @ weights))


def attack(features: Floats, label: Floats, weights: Floats) -> Floats:
    """The worst l_inf attack of EPS on a linear classifier: each feature against its weight."""
    return np.asarray(features - EPS * label[:, None] * np.sign(weights))


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One classifier: accuracy by exact sum, simulated, and simulated under attack, in [0, 1]."""

    name: str
    stated: float  # the paper's, natural
    exact: float
    simulated: float
    attacked: float


def check(*, count: int = 1_000_000, seed: int = 0) -> tuple[Finding, Finding]:
    """h_0, which takes all seven features, and h_1, which takes the three robust ones."""
    features, label = sample(count, seed)

    def found(name: str, stated: float, used: NDArray[np.bool_]) -> Finding:
        weights = np.where(used, 1.0 / ETA, 0.0)
        turned = attack(features, label, weights)
        return Finding(
            name=name,
            stated=stated,
            exact=majority_accuracy(int(used.sum()), P),
            simulated=float(np.mean(vote(features, weights) == label)),
            attacked=float(np.mean(vote(turned, weights) == label)),
        )

    return (
        found("h_0, all features", STATED["standard"], np.ones_like(ROBUST)),
        found("h_1, the robust features", STATED["robust"], ROBUST),
    )
