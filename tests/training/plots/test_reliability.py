import numpy as np
import pytest

from tests.training.plots.drawn import legend, titles
from training.plots import reliability

# Of the bins of 15: ten images in (7/15, 8/15], twenty in the highest, one in (8/15, 9/15].
SURE = np.array([0.5] * 10 + [0.95, 0.97] * 10 + [0.55])
RIGHT = np.array([True] * 10 + [True, False] * 10 + [True])


def test_points_are_the_bins_that_hold_images() -> None:
    lines = {"robust way": (SURE, RIGHT)}
    figure = reliability.draw({"natural": lines, "attacked": lines})
    assert titles(figure) == ["natural", "attacked"]
    part = figure.axes[0]
    error = (10 * 0.5 + 20 * 0.46 + 0.45) / 31
    assert legend(part) == [f"robust way: {100 * error:.2f}"]
    many, few = part.collections
    assert np.asarray(many.get_offsets()) == pytest.approx(np.array([[50.0, 100.0], [96.0, 50.0]]))
    assert np.asarray(few.get_offsets()) == pytest.approx(np.array([[55.0, 100.0]]))
    line = part.get_lines()[1]
    assert np.asarray(line.get_xdata()) == pytest.approx([50.0, 96.0])  # not through the one image


def test_a_bin_weighs_what_it_holds() -> None:
    part = reliability.draw({"": {"way": (SURE, RIGHT)}}).axes[0]
    ten, twenty = part.collections[0].get_sizes()  # type: ignore[attr-defined]
    assert twenty - 6 == pytest.approx(2 * (ten - 6))
