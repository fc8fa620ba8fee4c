"""False alarms that came true beside those that were promised. Knows rates, not where from."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from training.plots import style

_LOWEST = 2e-4  # a share of nought has no place on a log axis


def draw(kept: Mapping[str, Mapping[str, Any]]) -> Figure:
    """By target rate: the `promised` interval as a bar, the `realised` share as a point.

    The point's own interval is a thin line. Both axes are in percent and logarithmic.
    """
    figure, (part,) = style.panels()
    for rate, found in kept.items():
        x = 100 * float(rate)
        low, high = (100 * max(end, _LOWEST) for end in found["promised"])
        part.plot([x, x], [low, high], color=style.NATURAL, alpha=0.3, linewidth=9)
        low, high = (100 * max(end, _LOWEST) for end in found["realised"]["interval"])
        part.plot([x, x], [low, high], color=style.ATTACKED, linewidth=1)
        value = 100 * max(found["realised"]["value"], _LOWEST)
        part.plot([x], [value], "o", color=style.ATTACKED, markersize=4)
    ends = [100 * float(rate) for rate in (min(kept, key=float), max(kept, key=float))]
    part.plot(ends, ends, color="grey", linestyle=":", linewidth=1)
    part.plot([], [], color=style.NATURAL, alpha=0.3, linewidth=9, label="promised")
    part.plot([], [], "o-", color=style.ATTACKED, linewidth=1, markersize=4, label="realised")
    part.set_xscale("log")
    part.set_yscale("log")
    ticks = [100 * float(rate) for rate in kept]
    part.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    part.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    part.minorticks_off()
    part.set_xlabel("target rate of false alarms, %")
    part.set_ylabel("natural images flagged, %")
    part.legend(loc="upper left")
    return figure
