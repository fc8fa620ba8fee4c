import io

import numpy as np
import pytest
from rich.console import Console

from tests.training import examinee
from tests.training.plots.drawn import legend, titles
from training import evaluation_plots
from training.answers import Answered
from training.attacks import setting
from training.config import Method
from training.evaluate import Evaluation

ATTACKS = ("linf:0.1:0.05:10", "linf:0.4/255:0.4/255:1")  # the other is gone after rounding


def answered(method: Method = "aat++") -> Answered:
    evaluation = Evaluation(attacks=tuple(setting.parse(attack) for attack in ATTACKS))
    console = Console(file=io.StringIO())
    return examinee.evaluated(evaluation, examinee.subject(method), console)[1]


@pytest.fixture(scope="module")
def three_ways() -> Answered:
    return answered()


HEADINGS = ["linf 0.1, 10 steps of 0.05", "linf 0.4/255, 1 steps of 0.4/255"]


def test_roc_is_that_of_the_figures(three_ways: Answered) -> None:
    figure = evaluation_plots.draw(three_ways, ATTACKS)["roc"]
    assert titles(figure) == HEADINGS
    area = f"{100 * 121 / 144:.2f}"
    assert legend(figure.axes[0]) == [
        f"all attacks: {area}",
        f"successful attacks: {area}",
        "Eq. 12",
    ]
    point = figure.axes[0].get_lines()[1]
    assert np.asarray(point.get_xdata()) == pytest.approx([100 / 12])  # false alarms
    assert np.asarray(point.get_ydata()) == pytest.approx([100 * 11 / 12])  # RAD


def test_scores(three_ways: Answered) -> None:
    figure = evaluation_plots.draw(three_ways, ATTACKS)["scores"]
    assert titles(figure) == HEADINGS
    assert legend(figure.axes[1]) == ["natural", "attacked"]


def test_reliability_is_natural_first(three_ways: Answered) -> None:
    figure = evaluation_plots.draw(three_ways, ATTACKS)["reliability"]
    assert titles(figure) == ["natural", *HEADINGS]
    for part in figure.axes:
        assert [text.split(":")[0] for text in legend(part)] == [
            "standard way",
            "robust way",
            "non-robust way",
            "corrected label",
        ]


def test_no_successful_attack_no_curve_of_it(three_ways: Answered) -> None:
    label = three_ways.natural["standard"].argmax(axis=1)  # as if all were right
    arrays = {**three_ways.arrays, "label": label}
    figure = evaluation_plots.draw(Answered(arrays=arrays), ATTACKS)["roc"]
    assert [text.split(":")[0] for text in legend(figure.axes[1])] == ["all attacks", "Eq. 12"]


def test_one_way_model_has_no_score() -> None:
    plots = evaluation_plots.draw(answered("st"), ATTACKS)
    assert list(plots) == ["reliability"]
    assert len(legend(plots["reliability"].axes[0])) == 1


def test_every_plot_has_a_caption(three_ways: Answered) -> None:
    assert evaluation_plots.draw(three_ways, ATTACKS).keys() == evaluation_plots.CAPTIONS.keys()
