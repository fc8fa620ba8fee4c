"""What is left of a model as an attacker's room grows: shares by eps, with their intervals.

Draws from the whole of `stress.json`; measures nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.config import parse_eps
from training.plots import style

_KINDS = {"fooled": "wrong label let through", "rejected": "held back", "correct": "right label"}
# Curves often lie on each other: a later one is narrower and has gaps.
_LINES = ("-", (0, (4, 1.5)), (0, (1.5, 1.5)))
_WIDEST, _NARROWER = 3.6, 0.45


def stress(document: Mapping[str, Any]) -> Figure:
    """Three panels: fooled, rejected and correct by eps for each policy, natural images at 0.

    In the first also the robust way's error, which strict agreement can't pass; in the last its
    accuracy.
    """
    figure, axes = style.panels(columns=3)
    results, natural = document["results"], document["natural"]
    written = ["0", *(result["eps"] for result in results)]
    places = [parse_eps(eps) for eps in written]
    shown, whole = _shortened(written)
    for panel, (kind, words) in zip(axes, _KINDS.items(), strict=True):
        for index, policy in enumerate(natural):
            shares = [natural[policy][kind], *(found["worst"][policy][kind] for found in results)]
            _draw(panel, places, shares, policy, index)
        panel.set_title(words)
        panel.set_xlabel(f"eps ({document['norm']}{whole and ', of ' + whole})")
        panel.set_xticks(places, shown)
        panel.set_ylim(-2, 102)
    robust = [result["robust_accuracy"]["value"] for result in results]
    bound: dict[str, Any] = {"color": "black", "marker": ".", "markersize": 5, "linewidth": 1}
    axes[0].plot(places[1:], [100 * (1 - share) for share in robust], **bound)
    axes[2].plot(places[1:], [100 * share for share in robust], label="robust way alone", **bound)
    axes[0].set_ylabel("% of images")
    handles, labels = axes[2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _shortened(written: Sequence[str]) -> tuple[Sequence[str], str]:
    """Numerators and their `/255` where all but the leading 0 share one, else as they are."""
    parts = [eps.partition("/") for eps in written]
    if len({(slash, whole) for _, slash, whole in parts[1:]}) == 1:
        return [head for head, _, _ in parts], parts[-1][2]
    return written, ""


def _draw(
    panel: Axes, places: Sequence[float], shares: Sequence[Any], policy: str, index: int
) -> None:
    colour = style.COLOURS[index]
    panel.plot(
        places,
        [100 * share["value"] for share in shares],
        color=colour,
        linestyle=_LINES[index % len(_LINES)],
        linewidth=_WIDEST - index * _NARROWER,
        label=policy,
    )
    low, high = zip(*(share["interval"] for share in shares), strict=True)
    panel.fill_between(
        places,
        [100 * value for value in low],
        [100 * value for value in high],
        color=colour,
        alpha=0.1,
        linewidth=0,
    )
