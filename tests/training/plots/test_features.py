"""Rows of small pictures: every pixel where it belongs."""

import numpy as np
import pytest

from training.plots.features import pictures


@pytest.mark.parametrize("channels", [1, 3])
def test_sheet(channels: int) -> None:
    generator = np.random.default_rng(0)
    rows = {title: generator.random((3, channels, 4, 5)) for title in ("image", "robust")}
    (axes,) = pictures(rows).axes
    sheet = np.asarray(axes.images[0].get_array()).reshape(10, 19, channels)
    assert np.array_equal(sheet[6:, 7:12], rows["robust"][1].transpose(1, 2, 0))
    assert (sheet[4:6] == 1).all()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["image", "robust"]
