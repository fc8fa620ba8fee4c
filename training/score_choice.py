"""Which graded score to use: all of them on the same images, the best one by a rule said before.

Pure: answers in, figures as JSON types out. Nothing here may be shown a test image before the
choice is made; which images come in is the caller's business.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.scores import SCORE_NAMES, Head, ScoreName, Scores, Temperature
from training import metrics
from training.figures import FPR_TARGETS
from training.metrics import Flags
from training.observed import Observed

CLEAN, MIXED = "clean", "clean and mildly corrupted"

Share = dict[str, Any]  # `value` and its two-sided 95 % `interval`, None for a share of nothing
Table = dict[ScoreName, dict[str, dict[str, Any]]]  # by score, natural images and attack


def compare(
    naturals: Mapping[str, Sequence[Observed]],
    attacks: Mapping[str, Observed],
    temperature: Temperature,
    head: Head | None,
) -> Table:
    """Every score against every attack's successful images, on every set of natural ones.

    Of each: `tpr_1` and `tpr_5`, the share that is flagged where 1 % or 5 % of these very natural
    images are; `auroc`; `n_images`, how many attacks succeeded; and `passed_1`, of all that were
    attacked the share that the standard way gets wrong and nobody notices, at 1 %. An attacker who
    gives up images to pass with the others leaves a low `tpr_1` and a low `passed_1`.
    """
    table: Table = {}
    for name in SCORE_NAMES:
        if name == "head" and head is None:
            continue

        def of(observed: Observed, name: ScoreName = name) -> Scores:
            return observed.score(name, temperature, head)

        table[name] = {}
        for which, parts in naturals.items():
            below = np.concatenate([of(part) for part in parts])
            table[name][which] = {
                attack: _figures(below, of(observed), observed.fooled)
                for attack, observed in attacks.items()
            }
    return table


def choose(table: Table, attack: str) -> ScoreName:
    """The best by `tpr_1` against `attack` with MIXED natural images, the head only for cause.

    The head has to win by more than the intervals of both: it is the largest, and the one that its
    own training could have fooled. Ties go to the first of SCORE_NAMES. Without one successful
    attack nothing can be told, and disbelief stays.
    """

    def found(name: ScoreName) -> Share:
        share: Share = table[name][MIXED][attack]["tpr_1"]
        return share

    simple = [name for name in table if name != "head"]
    if any(found(name)["value"] is None for name in table):
        return "disbelief"
    best = max(simple, key=lambda name: found(name)["value"])
    if "head" in table and found("head")["interval"][0] > found(best)["interval"][1]:
        return "head"
    return best


def share(hits: Flags) -> Share:
    """Of independent images."""
    if not len(hits):
        return {"value": None, "interval": None}
    low, high = metrics.wilson_interval(int(hits.sum()), len(hits))
    return {"value": metrics.share(hits), "interval": [low, high]}


def _figures(natural: Scores, attacked: Scores, fooled: Flags) -> dict[str, Any]:
    auroc = metrics.auroc(natural, attacked[fooled])
    noticed = {
        percent: attacked > metrics.threshold_at_fpr(natural, target)
        for percent, target in FPR_TARGETS.items()
    }
    return {
        **{f"tpr_{percent}": share(flags[fooled]) for percent, flags in noticed.items()},
        "passed_1": share(fooled & ~noticed["1"]),
        "auroc": None if np.isnan(auroc) else auroc,
        "n_images": int(fooled.sum()),
    }
