"""Three logit vectors to a finding: Eq. 12, the score, the corrected label. Pure numpy.

Knows no images, models or clients. Shapes: N images, K classes. A score is higher where the image
is more likely adversarial, everywhere.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.scores import Floats, Logits, Temperature, disbelief, softmax

Labels = NDArray[np.intp]
Flags = NDArray[np.bool_]
Verdict = Literal["accept", "corrected"]


@dataclass(frozen=True, slots=True)
class Guess:
    """A class index and its probability."""

    label: int
    probability: float


@dataclass(frozen=True, slots=True)
class Finding:
    """All that is known about one image."""

    standard: Guess
    robust: Guess
    nonrobust: Guess
    adversarial: bool  # Eq. 12
    score: float  # [0, 1]
    corrected: Guess  # the robust way's where flagged, else the standard way's
    verdict: Verdict
    probabilities: Floats  # (K,) of the standard way


def disagreement(robust_label: Labels, nonrobust_label: Labels) -> Flags:
    """Eq. 12, (N,): adversarial where the robust and the non-robust way name different classes."""
    return np.asarray(robust_label != nonrobust_label)


def decide(logits: Logits, temperature: Temperature) -> list[Finding]:
    """One finding an image, in order. Labels do not depend on the temperature."""
    p_standard = softmax(logits.standard, temperature.standard)
    p_robust = softmax(logits.robust, temperature.robust)
    p_nonrobust = softmax(logits.nonrobust, temperature.nonrobust)

    standard = _guesses(logits.standard, p_standard)
    robust = _guesses(logits.robust, p_robust)
    nonrobust = _guesses(logits.nonrobust, p_nonrobust)

    nonrobust_label = logits.nonrobust.argmax(axis=1)
    flags = disagreement(logits.robust.argmax(axis=1), nonrobust_label).tolist()
    scores = disbelief(p_robust, nonrobust_label).tolist()

    return [
        Finding(
            standard=standard[i],
            robust=robust[i],
            nonrobust=nonrobust[i],
            adversarial=flags[i],
            score=scores[i],
            corrected=robust[i] if flags[i] else standard[i],
            verdict="corrected" if flags[i] else "accept",
            probabilities=p_standard[i],
        )
        for i in range(len(flags))
    ]


def top_k(probabilities: Floats, k: int) -> list[Guess]:
    """The k likeliest classes of (K,), likeliest first; fewer where there are fewer classes."""
    order = np.argsort(-probabilities, kind="stable")[:k]
    return [Guess(int(label), float(probabilities[label])) for label in order]


def _guesses(logits: Floats, probabilities: Floats) -> list[Guess]:
    """Argmax over logits, not probabilities: softmax may round two near logits to a tie."""
    labels = logits.argmax(axis=1)
    chosen = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    return [Guess(*pair) for pair in zip(labels.tolist(), chosen.tolist(), strict=True)]
