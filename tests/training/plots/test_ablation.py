"""Bars of the ablation: one for each stage and figure, as high as it is."""

import pytest

from training.plots.ablation import ablation


def test_bars() -> None:
    stages = {"L_ST": {"S": 0.9, "DIA": -0.1}, "AAT": {"S": 0.8, "DIA": 0.5}}
    figure = ablation(stages)
    (axes,) = figure.axes
    heights = [bar.get_height() for group in axes.containers for bar in group]
    assert heights == pytest.approx([90, -10, 80, 50])
    assert axes.get_ylim()[0] <= -10
    assert [label.get_text() for label in axes.get_xticklabels()] == ["S", "DIA"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(stages)
