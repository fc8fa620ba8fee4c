"""What becomes of an attacked image under a policy: right, wrong, or held back. Pure.

Labels of the three ways in, one of three outcomes out, and the worst over several attacks. Knows no
model and no attack.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training import metrics
from training.metrics import Flags, Labels

Policy = Literal["reject", "correct", "strict"]

POLICIES: dict[Policy, str] = {
    "reject": "Eq. 12: hold back what is flagged, else the standard way's label",
    "correct": "Eq. 12: the robust way's label where flagged, else the standard way's",
    "strict": "hold back where the three ways do not name one class",
}


@dataclass(frozen=True, kw_only=True)
class Named:
    """The labels of the three ways, (N,) each."""

    standard: Labels
    robust: Labels
    nonrobust: Labels


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Of N images: `fooled` got a wrong label, `rejected` got none; the others the right one."""

    fooled: Flags
    rejected: Flags

    @property
    def correct(self) -> Flags:
        return np.asarray(~(self.fooled | self.rejected))


def outcomes(policy: Policy, named: Named, label: Labels) -> Outcomes:
    """What a policy makes of images whose true class is `label`."""
    flagged = metrics.flagged(named.robust, named.nonrobust)
    if policy == "correct":
        given = metrics.corrected(named.standard, named.robust, flagged)
        return Outcomes(fooled=np.asarray(given != label), rejected=np.zeros_like(flagged))
    if policy == "strict":
        flagged = np.asarray(flagged | (named.standard != named.robust))
    return Outcomes(
        fooled=np.asarray(~flagged & (named.standard != label)), rejected=np.asarray(flagged)
    )


def worst(attacks: Sequence[Outcomes]) -> Outcomes:
    """Image by image the worst that an attacker with the choice gets: fooled before rejected."""
    fooled: NDArray[np.bool_] = np.logical_or.reduce([one.fooled for one in attacks])
    rejected: NDArray[np.bool_] = np.logical_or.reduce([one.rejected for one in attacks])
    return Outcomes(fooled=fooled, rejected=np.asarray(rejected & ~fooled))
