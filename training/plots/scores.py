"""Histograms of the score by the kind of image. Knows scores, not where from."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from training.metrics import Values
from training.plots import style

_BINS = 40
_COLOURS = {"natural": style.NATURAL, "attacked": style.ATTACKED, "corrupted": style.OTHER}


def draw(panels: Mapping[str, Mapping[str, Values]]) -> Figure:
    """One panel a title, one histogram a group: `natural`, `attacked` and, if any, `corrupted`.

    Scores are in [0, 1]; heights are the share of a group's images in percent, on a log axis, as
    nearly all scores lie at the two ends.
    """
    figure, axes = style.grid(len(panels))
    edges = np.linspace(0, 1, _BINS + 1)
    for part, (title, groups) in zip(axes, panels.items(), strict=True):
        for name, scores in groups.items():
            share = 100 * np.histogram(scores, edges)[0] / len(scores)
            part.stairs(share, edges, color=_COLOURS[name], label=name, linewidth=1.3)
            part.stairs(share, edges, color=_COLOURS[name], fill=True, alpha=0.25)
        part.set_title(title)
        part.set_yscale("log")
        part.set_ylim(50 / max(map(len, groups.values())), 400)  # half an image, and the legend
        part.yaxis.set_major_formatter("{x:g}")
        part.set_xlim(0, 1)
        part.set_xlabel("score: higher is likelier adversarial")
        part.set_ylabel("images, %")
        part.legend(loc="upper center", ncols=len(groups))
    return figure
