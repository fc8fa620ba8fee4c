"""Figure 2b: what each term of Eq. 11 adds. Knows figures by stage and name, not what they mean."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from training.plots.style import COLOURS, panels


def ablation(stages: Mapping[str, Mapping[str, float]]) -> Figure:
    """Bars in percent: a group for each figure's name, a bar in it for each stage."""
    figure, (axes,) = panels()
    figure.set_size_inches(7.0, 3.2)
    names = list(next(iter(stages.values())))
    width = 0.8 / len(stages)
    for index, (stage, values) in enumerate(stages.items()):
        place = np.arange(len(names)) + (index - (len(stages) - 1) / 2) * width
        heights = [100 * values[name] for name in names]
        axes.bar(place, heights, width, label=stage, color=COLOURS[index])
    axes.set_xticks(np.arange(len(names)), names)
    axes.set_ylabel("%")
    axes.set_ylim(min(0.0, *(100 * min(part.values()) for part in stages.values())), 105)
    figure.legend(ncols=2, fontsize=8, loc="outside upper center")
    return figure
