"""Three logit vectors to a finding: Eq. 12, the score, the labels to use. Pure numpy.

Knows no images, models or clients, and no policy: what is found is the same for every one of them
(`service.policies`). Shapes: N images, K classes. A score is higher where the image is more likely
adversarial, everywhere.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.mixture import Mixture, mixed
from service.scores import (
    Features,
    Floats,
    Head,
    Labels,
    Logits,
    ScoreName,
    Temperature,
    score,
    softmax,
)

Flags = NDArray[np.bool_]


class Guess(NamedTuple):
    """A class index and its probability."""

    label: int
    probability: float


class Finding(NamedTuple):
    """All that is known about one image. A tuple, as many are made: half a data class's cost."""

    standard: Guess
    robust: Guess
    nonrobust: Guess
    adversarial: bool  # Eq. 12
    score: float  # [0, 1]
    corrected: Guess  # the robust way's where adversarial, else the standard way's
    mixed: Guess | None  # by the mixture, where the model has one
    probabilities: Floats  # (3, K) of the standard, the robust and the non-robust way


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How a model's answers become numbers."""

    temperature: Temperature = field(default_factory=Temperature)
    score: ScoreName = "disbelief"
    head: Head | None = None  # where the score is `head`
    mixture: Mixture | None = None


def disagreement(robust_label: Labels, nonrobust_label: Labels) -> Flags:
    """Eq. 12, (N,): adversarial where the robust and the non-robust way name different classes."""
    return np.asarray(robust_label != nonrobust_label)


def decide(logits: Logits, measure: Measure, features: Features | None = None) -> list[Finding]:
    """One finding an image, in order. The ways' labels do not depend on the temperature.

    Raises:
        ValueError: the score is `head`, and its weights or the features are missing.
    """
    temperature = measure.temperature
    ways = np.stack((logits.standard, logits.robust, logits.nonrobust))
    divisors = np.array((temperature.standard, temperature.robust, temperature.nonrobust))
    probabilities = softmax(ways, divisors[:, None, None])
    labels = ways.argmax(axis=2)  # of logits: softmax may round two near ones to a tie
    standard, robust, nonrobust = map(_guesses, labels, probabilities)
    mixture: list[Guess] | list[None] = [None] * len(standard)
    if measure.mixture is not None:
        p_mixed = mixed(probabilities[0], logits.robust, measure.mixture)
        mixture = _guesses(p_mixed.argmax(axis=1), p_mixed)
    flags = disagreement(labels[1], labels[2]).tolist()
    scores = score(measure.score, logits, temperature, features, measure.head).tolist()

    corrected = [r if flag else s for s, r, flag in zip(standard, robust, flags, strict=True)]
    by_image = probabilities.swapaxes(0, 1)
    columns = (standard, robust, nonrobust, flags, scores, corrected, mixture, by_image)
    return [Finding(*row) for row in zip(*columns, strict=True)]


def top_k(probabilities: Floats, k: int) -> list[Guess]:
    """The k likeliest classes of (K,), likeliest first; fewer where there are fewer classes."""
    order = np.argsort(-probabilities, kind="stable")[:k]
    return [Guess(int(label), float(probabilities[label])) for label in order]


def _guesses(labels: Labels, probabilities: Floats) -> list[Guess]:
    """Labels (N,), and what (N, K) gives each of them."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return list(map(Guess, labels.tolist(), chosen.tolist()))
