"""ROC of a score: what is detected at each rate of false alarms. Knows scores, not where from."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training import metrics
from training.metrics import Values
from training.plots import style

_LOWEST = 1e-3  # false alarms below one in a thousand are of no use, and few images resolve them

Point = tuple[float, float]  # rate of false alarms, rate of detection


def draw(
    natural: Values,
    panels: Mapping[str, Mapping[str, Values]],
    verdicts: Mapping[str, Mapping[str, Point]] | None = None,
) -> Figure:
    """One panel a title, one curve a name of attacked scores against the `natural` ones.

    `verdicts`, by the same names, are points of a rule without a threshold (Eq. 12), drawn beside
    the curve, at the left edge where they raise fewer alarms. Shares are in percent, false alarms
    on a log axis.
    """
    figure, axes = style.grid(len(panels))
    for part, (title, groups) in zip(axes, panels.items(), strict=True):
        points = (verdicts or {}).get(title, {})
        for colour, (name, attacked) in zip(style.COLOURS, groups.items(), strict=False):
            _curve(part, natural, attacked, name, colour)
            if name in points:
                alarms, detected = points[name]
                part.plot(100 * max(alarms, _LOWEST), 100 * detected, "o", color=colour, zorder=3)
        if points:
            part.plot([], [], "o", color="grey", label="Eq. 12")
        part.set_title(title)
        part.set_xscale("log")
        part.set_xlim(100 * _LOWEST, 100)
        part.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
        part.set_ylim(-2, 102)
        part.set_xlabel("natural images flagged, %")
        part.set_ylabel("attacked images flagged, %")
        part.legend(loc="lower right", title="AUROC, %")
    return figure


def _curve(part: Axes, natural: Values, attacked: Values, name: str, colour: str) -> None:
    auroc = metrics.auroc(natural, attacked)
    alarms, detected = metrics.roc(natural, attacked)
    label = f"{name}: {100 * auroc:.2f}"
    part.step(100 * alarms, 100 * detected, where="post", color=colour, label=label)
