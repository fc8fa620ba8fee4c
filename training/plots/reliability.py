"""Reliability diagrams: how often a label is right at each confidence. Knows no model or attack."""

from collections.abc import Mapping

from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from training import metrics
from training.metrics import Flags, Values
from training.plots import style

_MARKERS = "os^D"
_ENOUGH = 10  # images in a bin for its accuracy to say something
_SMALLEST, _LARGEST = 6.0, 120.0  # square points, of a bin with one image and of one with all


def draw(panels: Mapping[str, Mapping[str, tuple[Values, Flags]]]) -> Figure:
    """One panel a title, one line a name: confidences and whether the named class was right.

    A point is a bin of confidence that holds images, its area their share; bins of fewer than ten
    are faint and off the line. The diagonal is where probabilities mean what they say. The legend
    has the expected calibration error.
    """
    figure, axes = style.grid(len(panels))
    for part, (title, lines) in zip(axes, panels.items(), strict=True):
        part.plot([0, 100], [0, 100], color="grey", linestyle=":", linewidth=1)
        for index, (name, (confidence, right)) in enumerate(lines.items()):
            bins = metrics.reliability(confidence, right)
            colour, marker = style.COLOURS[index], _MARKERS[index]
            x, y = 100 * bins.confidence, 100 * bins.accuracy
            area = _SMALLEST + _LARGEST * bins.images / len(right)
            label = f"{name}: {100 * metrics.ece(confidence, right):.2f}"
            many = bins.images >= _ENOUGH
            few = (bins.images > 0) & ~many
            part.plot(x[many], y[many], color=colour, linewidth=1, alpha=0.5)
            for which, alpha, text in ((many, 0.7, label), (few, 0.25, None)):
                part.scatter(
                    x[which],
                    y[which],
                    s=area[which],
                    color=colour,
                    marker=marker,
                    alpha=alpha,
                    label=text,
                )
        part.set_title(title)
        part.set_xlim(0, 104)
        part.set_ylim(-5, 105)
        part.set_xlabel("confidence, %")
        part.set_ylabel("accuracy, %")
        legend = part.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, title="ECE, %", frameon=False
        )
        for handle in legend.legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_sizes([20.0])
    return figure
