"""False alarms and accuracy on corrupted natural images, from the plain values of `shift.json`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.plots import style

_HEIGHT = 5.0  # inches; a row of the map then has room for its numbers
_PALE = 0.6  # of the colour scale; numbers on darker ground are white
_COVERING = {"accuracy_corrected"}  # dashed: it often lies on the robust way's line
_WAYS = {
    "accuracy_standard": ("standard way", style.COLOURS[6]),
    "accuracy_robust": ("robust way", style.NATURAL),
    "accuracy_nonrobust": ("non-robust way", style.ATTACKED),
    "accuracy_corrected": ("corrected label", style.OTHER),
}


def draw(document: Mapping[str, Any]) -> Figure:
    """Three panels: a map of Eq. 12's false alarms, false alarms and accuracy by severity."""
    figure, (heat, alarms, accuracy) = style.panels(columns=3)
    figure.set_figheight(_HEIGHT)
    _map(heat, document)
    lines = {"false_alarm_rate": ("Eq. 12", style.ATTACKED)} | {
        f"alarm_rate_{percent}": (f"score, {percent} % threshold", colour)
        for percent, colour in zip(document["thresholds"], style.COLOURS[2:], strict=False)
    }
    _by_severity(alarms, document, lines)
    alarms.set_title("false alarms, mean over corruptions, %")
    alarms.set_ylim(bottom=0)
    _by_severity(accuracy, document, _WAYS)
    accuracy.set_title("right label, mean over corruptions, %")
    return figure


def _map(axes: Axes, document: Mapping[str, Any]) -> None:
    names = document["settings"]["corruptions"]
    severities = [mean["severity"] for mean in document["means"]]
    share = {
        (result["corruption"], result["severity"]): result["figures"]["false_alarm_rate"]["value"]
        for result in document["results"]
    }
    percent = 100 * np.array([[share[name, level] for level in severities] for name in names])
    most = max(float(percent.max()), 1.0)
    axes.pcolormesh(percent, cmap="Oranges", vmin=0, vmax=most, edgecolors="white", linewidth=1)
    for (row, column), value in np.ndenumerate(percent):
        ink = "white" if value > _PALE * most else "black"
        axes.text(column + 0.5, row + 0.5, f"{value:.1f}", ha="center", va="center", color=ink)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(severities)) + 0.5, [str(level) for level in severities])
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.invert_yaxis()
    axes.set_xlabel("severity")
    clean = 100 * document["natural"]["false_alarm_rate"]["value"]
    axes.set_title(f"flagged by Eq. 12, % (clean: {clean:.1f})")


def _by_severity(
    axes: Axes, document: Mapping[str, Any], lines: Mapping[str, tuple[str, str]]
) -> None:
    """A line with its 95 % interval for each figure; severity 0 is the clean images."""
    rows = [document["natural"], *(mean["figures"] for mean in document["means"])]
    severities = [0, *(mean["severity"] for mean in document["means"])]
    for figure, (words, colour) in lines.items():
        value = [100 * row[figure]["value"] for row in rows]
        low, high = ([100 * row[figure]["interval"][end] for row in rows] for end in (0, 1))
        dashes = "--" if figure in _COVERING else "-"
        axes.plot(severities, value, dashes, marker="o", markersize=3.5, color=colour, label=words)
        axes.fill_between(severities, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_xlabel("severity, 0 is clean")
    axes.set_xticks(severities)
    axes.legend(frameon=False)
