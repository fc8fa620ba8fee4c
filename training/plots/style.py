"""How every plot of the reports looks, and how it becomes a file. Knows nothing of what is drawn.

Figures are made without pyplot, so that there is no global state and no window; the same figure
gives the same bytes.
"""

import io
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.files import write_text

# Okabe and Ito's colours, which the colour-blind can tell apart.
NATURAL, ATTACKED, OTHER = "#0072B2", "#D55E00", "#009E73"
COLOURS = (NATURAL, ATTACKED, OTHER, "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_WIDTH, _HEIGHT = 4.2, 3.2  # inches of one panel


def panels(columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of `rows` times `columns` panels, read as text is."""
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows), layout="constrained")
    axes = [figure.add_subplot(rows, columns, index + 1) for index in range(rows * columns)]
    for part in axes:
        part.grid(alpha=0.3)
        part.spines[["top", "right"]].set_visible(False)
    return figure, axes


def grid(count: int, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """`count` panels in rows of at most `columns`, without empty ones at the end."""
    columns = min(count, columns)
    figure, axes = panels(columns, -(-count // columns))
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def save(figure: Figure, path: Path) -> Path:
    """Write `path`, an SVG file on a white ground, replacing an older one in one move.

    Raises:
        OutputError: the place cannot be written to.
    """
    drawn = io.StringIO()
    with matplotlib.rc_context(
        {
            "svg.hashsalt": "parallax",  # else element names are drawn at random
            "svg.fonttype": "none",  # text stays text
            "font.size": 9.0,
        }
    ):
        figure.savefig(drawn, format="svg", metadata={"Date": None}, facecolor="white")
    write_text(path, drawn.getvalue())
    return path
