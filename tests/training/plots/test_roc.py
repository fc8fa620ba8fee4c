import numpy as np
import pytest

from tests.training.plots.drawn import legend, titles
from training.plots import roc

NATURAL = np.array([0.1, 0.2, 0.3, 0.4])


def test_a_curve_a_group_with_its_auroc() -> None:
    groups = {"all": np.array([0.15, 0.9]), "successful": np.array([0.9])}
    figure = roc.draw(NATURAL, {"weak": groups, "strong": groups})
    assert titles(figure) == ["weak", "strong"]
    part = figure.axes[0]
    assert legend(part) == ["all: 62.50", "successful: 100.00"]
    assert part.get_xscale() == "log"
    assert part.get_xlim() == pytest.approx((0.1, 100))
    line = part.get_lines()[0]
    assert np.asarray(line.get_xdata()).tolist() == [0, 25, 50, 75, 100]
    assert np.asarray(line.get_ydata()).tolist() == [50, 50, 50, 100, 100]
    assert line.get_drawstyle() == "steps-post"


def test_points_of_a_rule_without_a_threshold() -> None:
    groups = {"all": np.array([0.15, 0.9]), "successful": np.array([0.9])}
    points = {"all": (0.25, 0.5), "successful": (0.0, 0.75)}
    part = roc.draw(NATURAL, {"attack": groups}, {"attack": points}).axes[0]
    drawn = {
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))  # type: ignore[index, arg-type]
        for line in part.get_lines()
        if len(np.asarray(line.get_xdata())) == 1
    }
    assert drawn == {(25.0, 50.0), (0.1, 75.0)}  # no alarm at all lies on the left edge
    assert legend(part)[-1] == "Eq. 12"
