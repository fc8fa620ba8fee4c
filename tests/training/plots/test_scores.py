import numpy as np
import pytest
from matplotlib.patches import StepPatch

from tests.training.plots.drawn import legend, titles
from training.plots import scores

GROUPS = {"natural": np.array([0.0, 0.0, 0.01, 0.4]), "attacked": np.array([0.99, 1.0])}


def test_heights_are_shares_of_the_group() -> None:
    figure = scores.draw({"attack": GROUPS})
    assert titles(figure) == ["attack"]
    part = figure.axes[0]
    assert legend(part) == ["natural", "attacked"]
    lines = [patch for patch in part.patches if isinstance(patch, StepPatch)][::2]
    natural, attacked = (np.asarray(line.get_data()[0]) for line in lines)
    assert natural[0] == 75
    assert natural.sum() == attacked.sum() == 100
    assert attacked[-1] == 100  # a score of 1 is in the last bin
    assert part.get_yscale() == "log"
    assert part.get_ylim()[0] < 25


def test_corrupted_images_are_a_group_of_their_own() -> None:
    figure = scores.draw({"one": GROUPS, "two": {**GROUPS, "corrupted": np.array([0.5])}})
    assert [legend(part)[2:] for part in figure.axes] == [[], ["corrupted"]]
    with pytest.raises(KeyError):
        scores.draw({"one": {"unheard of": np.array([0.5])}})
