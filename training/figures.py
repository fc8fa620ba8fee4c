"""The named figures of an evaluation, from what the ways answered to natural and attacked images.

Pure: answers and labels in, figures out. Knows no model, attack or file. One way of counting holds
throughout: an attack on the standard way is *successful* where that way is wrong on the attacked
image, whatever it said of the natural one. That is Algorithm 1's condition for keeping an image; an
image that was wrong from the start counts as a success too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training import metrics
from training.config import Way
from training.metrics import Flags, Labels, Values
from training.predict import WAYS, Answers

FPR_TARGETS = {"1": 0.01, "5": 0.05}  # in percent, as in `tpr_at_fpr_1_all`

NAMES = (
    # Natural images: accuracy of each way and of the corrected label, Eq. 12's false alarms.
    *(f"accuracy_{way}_natural" for way in (*WAYS, "corrected")),
    "false_alarm_rate",
    # Attacked images: who answers, under the attack on which way.
    *(f"accuracy_{answering}_under_{way}_attack" for way in WAYS for answering in WAYS),
    *(f"accuracy_corrected_under_{way}_attack" for way in WAYS),
    "dia_own_attacks",  # R under the attack on R less N under the attack on N: Tables 1-3
    "dia_standard_attack",  # R less N, both under the attack on S: Tables 6-8
    # Eq. 12 on the attack on the standard way.
    "rad_successful",
    "rad_all",
    "rad_mixture",  # share of right verdicts, half natural and half attacked
    "flagged_robust_attack",
    "flagged_nonrobust_attack",
    "accuracy_robust_successful",  # the robust way where the standard way was fooled
    "accuracy_standard_mixture",
    "accuracy_corrected_mixture",
    # The score, natural against the attack on the standard way.
    "auroc_successful",
    "auroc_all",
    *(
        f"tpr_at_fpr_{percent}_{which}"
        for percent in FPR_TARGETS
        for which in ("successful", "all")
    ),
    *(f"threshold_at_fpr_{percent}" for percent in FPR_TARGETS),
    # Expected calibration error: natural images, then each way under the attack on itself and the
    # corrected label under the attack on the standard way.
    *(f"ece_{way}_natural" for way in (*WAYS, "corrected")),
    *(f"ece_{way}_under_{way}_attack" for way in WAYS),
    "ece_corrected_under_standard_attack",
)

_NO_SUCCESS = "no attack on the standard way succeeded"
_UNTRAINED = "needs a way that the method {method} does not train"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """`value` is None where there is nothing to measure, and `absent` says why.

    A share of independent images has its two-sided 95 % `interval` and the `count` of images.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    count: int | None = None
    absent: str | None = None


Figures = dict[str, Figure]


def measure(
    label: Labels, natural: Answers, attacked: Mapping[Way, Answers], *, method: str
) -> Figures:
    """All of NAMES, in that order.

    `natural` and each of `attacked` (by the way that was attacked) hold logits by answering way;
    ways that `method` does not train are missing from both, and what needs them is absent.
    """
    found = _accuracies(label, natural, attacked) | _calibration(label, natural, attacked)
    if len(natural) == len(WAYS):
        found |= _disentanglement(found)
        found |= _detection(label, natural, attacked)
        found |= _scores(label, natural, attacked["standard"])
    untrained = Figure(value=None, absent=_UNTRAINED.format(method=method))
    return {name: found.get(name, untrained) for name in NAMES}


def confidences(label: Labels, answers: Answers) -> dict[str, tuple[Values, Flags]]:
    """By way, and of the corrected label where all ways answer: probability, and whether right.

    The corrected label has the probability that the way it is taken from gives it.
    """
    named = {way: (metrics.confidence(logits), logits.argmax(1)) for way, logits in answers.items()}
    found: dict[str, tuple[Values, Flags]] = {
        way: (confidence, predicted == label) for way, (confidence, predicted) in named.items()
    }
    if len(answers) == len(WAYS):
        flags, predicted = verdicts(answers)
        confidence = np.where(flags, named["robust"][0], named["standard"][0])
        found["corrected"] = confidence, predicted == label
    return found


def verdicts(answers: Answers) -> tuple[Flags, Labels]:
    """Eq. 12's flags and the corrected labels."""
    named = _labels(answers)
    flags = metrics.flagged(named["robust"], named["nonrobust"])
    return flags, metrics.corrected(named["standard"], named["robust"], flags)


def score(answers: Answers) -> Values:
    """Of each image, (N,) in [0, 1]: higher is likelier adversarial."""
    return metrics.score(answers["robust"], answers["nonrobust"])


def fooled(label: Labels, answers: Answers) -> Flags:
    """Where an attack on the standard way was successful."""
    return np.asarray(answers["standard"].argmax(axis=1) != label)


def _share(hits: Flags) -> Figure:
    if not len(hits):
        return Figure(value=None, count=0, absent=_NO_SUCCESS)
    count = len(hits)
    interval = metrics.wilson_interval(int(hits.sum()), count)
    return Figure(value=metrics.share(hits), interval=interval, count=count)


def _plain(value: float) -> Figure:
    if math.isnan(value):
        return Figure(value=None, absent=_NO_SUCCESS)
    return Figure(value=value)


def _labels(answers: Answers) -> dict[Way, Labels]:
    return {way: logits.argmax(axis=1) for way, logits in answers.items()}


def _accuracies(label: Labels, natural: Answers, attacked: Mapping[Way, Answers]) -> Figures:
    found = {
        f"accuracy_{way}_natural": _share(predicted == label)
        for way, predicted in _labels(natural).items()
    }
    for way, answers in attacked.items():
        for answering, predicted in _labels(answers).items():
            found[f"accuracy_{answering}_under_{way}_attack"] = _share(predicted == label)
    return found


def _disentanglement(found: Figures) -> Figures:
    def value(name: str) -> float:
        figure = found[name].value
        return math.nan if figure is None else figure

    nonrobust_alone = value("accuracy_nonrobust_under_nonrobust_attack")
    nonrobust_along = value("accuracy_nonrobust_under_standard_attack")
    return {
        "dia_own_attacks": _plain(
            metrics.dia(value("accuracy_robust_under_robust_attack"), nonrobust_alone)
        ),
        "dia_standard_attack": _plain(
            metrics.dia(value("accuracy_robust_under_standard_attack"), nonrobust_along)
        ),
    }


def _calibration(label: Labels, natural: Answers, attacked: Mapping[Way, Answers]) -> Figures:
    found = {
        f"ece_{name}_natural": _plain(metrics.ece(*pair))
        for name, pair in confidences(label, natural).items()
    }
    for way, answers in attacked.items():
        for name, pair in confidences(label, answers).items():
            if name == way or (name, way) == ("corrected", "standard"):
                found[f"ece_{name}_under_{way}_attack"] = _plain(metrics.ece(*pair))
    return found


def _detection(label: Labels, natural: Answers, attacked: Mapping[Way, Answers]) -> Figures:
    alarms, natural_corrected = verdicts(natural)
    flags = {way: verdicts(answers)[0] for way, answers in attacked.items()}
    corrected = {way: verdicts(answers)[1] for way, answers in attacked.items()}
    successful = fooled(label, attacked["standard"])
    robust_right = attacked["standard"]["robust"].argmax(axis=1) == label
    natural_right = metrics.accuracy(natural["standard"].argmax(axis=1), label)
    return {
        "accuracy_corrected_natural": _share(natural_corrected == label),
        "false_alarm_rate": _share(alarms),
        **{
            f"accuracy_corrected_under_{way}_attack": _share(corrected[way] == label)
            for way in WAYS
        },
        "rad_successful": _share(flags["standard"][successful]),
        "rad_all": _share(flags["standard"]),
        "rad_mixture": _plain(
            metrics.equal_mixture(
                1 - metrics.false_alarm_rate(alarms), metrics.rad(flags["standard"])
            )
        ),
        "flagged_robust_attack": _share(flags["robust"]),
        "flagged_nonrobust_attack": _share(flags["nonrobust"]),
        "accuracy_robust_successful": _share(robust_right[successful]),
        "accuracy_standard_mixture": _plain(
            metrics.equal_mixture(natural_right, metrics.share(~successful))
        ),
        "accuracy_corrected_mixture": _plain(
            metrics.equal_mixture(
                metrics.accuracy(natural_corrected, label),
                metrics.accuracy(corrected["standard"], label),
            )
        ),
    }


def _scores(label: Labels, natural: Answers, attacked: Answers) -> Figures:
    below, above = score(natural), score(attacked)
    found: Figures = {}
    for which, scores in (("successful", above[fooled(label, attacked)]), ("all", above)):
        found[f"auroc_{which}"] = _plain(metrics.auroc(below, scores))
        for percent, target in FPR_TARGETS.items():
            threshold = metrics.threshold_at_fpr(below, target)
            found[f"threshold_at_fpr_{percent}"] = _plain(threshold)
            # Without an interval: a share's own does not know that the threshold was drawn as well.
            caught = metrics.share(scores > threshold)
            found[f"tpr_at_fpr_{percent}_{which}"] = _plain(caught)
    return found
