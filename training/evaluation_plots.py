"""The plots of an evaluation, from what the ways answered; they show images rounded to 8 bits.

Which answers go into which plot; how one looks is `plots`' business. Writes nothing.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from training import figures, metrics
from training.answers import Answered
from training.evaluation_table import ANSWERING, heading
from training.metrics import Flags, Values
from training.plots import reliability, roc, scores
from training.predict import WAYS

# What each plot shows, by the last part of its file's name.
CAPTIONS = {
    "roc": "ROC of the score, natural images against the attack on the standard way",
    "scores": "Scores of natural images and of those attacked on the standard way",
    "reliability": "Accuracy by confidence, natural and each way under the attack on itself",
}


def draw(answered: Answered, attacks: Sequence[str]) -> dict[str, Figure]:
    """By the names of CAPTIONS; a model without all three ways has no score to draw."""
    plots = {"reliability": _reliability(answered, attacks)}
    if len(answered.ways) == len(WAYS):
        plots = {
            "roc": _roc(answered, attacks),
            "scores": _scores(answered, attacks),
            **plots,
        }
    return plots


def _roc(answered: Answered, attacks: Sequence[str]) -> Figure:
    alarms = metrics.false_alarm_rate(figures.verdicts(answered.natural)[0])
    panels, verdicts = {}, {}
    for attack in attacks:
        answers = answered.attacked(attack, "rounded")["standard"]
        above, flags = figures.score(answers), figures.verdicts(answers)[0]
        successful = figures.fooled(answered.label, answers)
        chosen = {"all attacks": np.ones_like(successful), "successful attacks": successful}
        groups = {name: which for name, which in chosen.items() if which.any()}
        panels[heading(attack)] = {name: above[which] for name, which in groups.items()}
        verdicts[heading(attack)] = {
            name: (alarms, metrics.rad(flags[which])) for name, which in groups.items()
        }
    return roc.draw(figures.score(answered.natural), panels, verdicts)


def _scores(answered: Answered, attacks: Sequence[str]) -> Figure:
    below = figures.score(answered.natural)
    return scores.draw(
        {
            heading(attack): {
                "natural": below,
                "attacked": figures.score(answered.attacked(attack, "rounded")["standard"]),
            }
            for attack in attacks
        }
    )


def _reliability(answered: Answered, attacks: Sequence[str]) -> Figure:
    natural = figures.confidences(answered.label, answered.natural)
    panels = {"natural": {ANSWERING[name]: pair for name, pair in natural.items()}}
    for attack in attacks:
        by_way: dict[str, dict[str, tuple[Values, Flags]]] = {
            way: figures.confidences(answered.label, answers)
            for way, answers in answered.attacked(attack, "rounded").items()
        }
        panels[heading(attack)] = {
            ANSWERING[name]: by_way["standard" if name == "corrected" else name][name]
            for name in natural
        }
    return reliability.draw(panels)
