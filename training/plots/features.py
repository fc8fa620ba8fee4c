"""What is in a way and in a representation, image by image: Figures 2a, 3 and 4 of the paper.

Rows of small pictures under each other. Knows arrays and row titles only.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

_SIDE = 0.62  # inches of a picture
_GAP = 2  # pixels between pictures
_WHITE = 1.0


def pictures(rows: Mapping[str, NDArray[np.floating]]) -> Figure:
    """A row a title, (N, C, H, W) in [0, 1] each with the same shape; one channel is grey."""
    sheet = np.concatenate([_line(row) for row in rows.values()])[:-_GAP]
    count, _, height, _ = next(iter(rows.values())).shape
    figure = Figure(figsize=(_SIDE * count + 1.2, _SIDE * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    middles = [index * (height + _GAP) + height / 2 for index in range(len(rows))]
    axes.set_yticks(middles, list(rows))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _line(row: NDArray[np.floating]) -> NDArray[np.floating]:
    """Pictures side by side, white between them and under them: (H + gap, width, 1 or 3)."""
    framed = np.pad(row, ((0, 0), (0, 0), (0, _GAP), (0, _GAP)), constant_values=_WHITE)
    return np.concatenate(list(framed.transpose(0, 2, 3, 1)), axis=1)[:, :-_GAP]
