"""What becomes of an attacked image under a policy: right, wrong, or held back. Pure.

What the three ways say in, one of three outcomes out, and the worst over several attacks. Knows no
model and no attack, and not where the threshold of a score was read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training import metrics
from training.metrics import Flags, Labels, Values


@dataclass(frozen=True, kw_only=True)
class Said:
    """The labels of the three ways and the graded score, (N,) each."""

    standard: Labels
    robust: Labels
    nonrobust: Labels
    score: Values

    @classmethod
    def of(cls, standard: Values, robust: Values, nonrobust: Values) -> "Said":
        """From logits, (N, classes) each."""
        return cls(
            standard=standard.argmax(axis=1),
            robust=robust.argmax(axis=1),
            nonrobust=nonrobust.argmax(axis=1),
            score=metrics.score(robust, nonrobust),
        )

    def replaced(self, at: NDArray[np.intp], other: "Said") -> "Said":
        """The same, but for the images at `at`, of which `other` has what is said."""
        parts = {}
        for name, part in vars(self).items():
            parts[name] = part.copy()
            parts[name][at] = getattr(other, name)
        return Said(**parts)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Which images are flagged, and whether a flagged one is held back or corrected.

    `disagreement` flags by Eq. 12, `discord` wherever the three ways do not name one class, and
    `threshold`, unless it is None, where the graded score lies above it.
    """

    name: str
    words: str
    disagreement: bool = False
    discord: bool = False
    threshold: float | None = None
    corrects: bool = False

    def flags(self, said: Said) -> Flags:
        """(N,): true where the policy does not take the standard way's word."""
        flags = np.zeros(len(said.standard), dtype=bool)
        if self.disagreement or self.discord:
            flags |= metrics.flagged(said.robust, said.nonrobust)
        if self.discord:
            flags |= said.standard != said.robust
        if self.threshold is not None:
            flags |= said.score > self.threshold
        return flags


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Of N images: `fooled` got a wrong label, `rejected` got none; the others the right one."""

    fooled: Flags
    rejected: Flags

    @property
    def correct(self) -> Flags:
        return np.asarray(~(self.fooled | self.rejected))


POLICIES = (
    Policy(
        name="reject",
        words="Eq. 12: hold back what is flagged, else the standard way's label",
        disagreement=True,
    ),
    Policy(
        name="correct",
        words="Eq. 12: the robust way's label where flagged, else the standard way's",
        disagreement=True,
        corrects=True,
    ),
    Policy(
        name="strict", words="hold back where the three ways do not name one class", discord=True
    ),
)


def graded(thresholds: Mapping[float, float]) -> tuple[Policy, ...]:
    """The policies that look at the score, from its threshold at each rate of false alarms.

    One a rate, and strict agreement with the threshold of the highest.
    """
    policies = [
        Policy(
            name=f"score {rate:.0%}",
            words="hold back where the score is above its threshold at "
            f"{rate:.0%} false alarms, else the standard way's label",
            threshold=threshold,
        )
        for rate, threshold in thresholds.items()
    ]
    rate = max(thresholds)
    both = Policy(
        name=f"strict and score {rate:.0%}",
        words=f"hold back what strict or score {rate:.0%} holds back",
        discord=True,
        threshold=thresholds[rate],
    )
    return (*policies, both)


def outcomes(policy: Policy, said: Said, label: Labels) -> Outcomes:
    """What a policy makes of images whose true class is `label`."""
    flags = policy.flags(said)
    if policy.corrects:
        given = metrics.corrected(said.standard, said.robust, flags)
        return Outcomes(fooled=np.asarray(given != label), rejected=np.zeros_like(flags))
    return Outcomes(fooled=np.asarray(~flags & (said.standard != label)), rejected=flags)


def worst(attacks: Sequence[Outcomes]) -> Outcomes:
    """Image by image the worst that an attacker with the choice gets: fooled before rejected."""
    fooled: NDArray[np.bool_] = np.logical_or.reduce([one.fooled for one in attacks])
    rejected: NDArray[np.bool_] = np.logical_or.reduce([one.rejected for one in attacks])
    return Outcomes(fooled=fooled, rejected=np.asarray(rejected & ~fooled))
