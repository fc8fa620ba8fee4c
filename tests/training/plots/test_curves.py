"""The curves of a stress test show the report's figures."""

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from training.plots import curves, style


def share(value: float) -> dict[str, Any]:
    return {"value": value, "interval": [value - 0.01, value + 0.01]}


def shares(fooled: float, rejected: float) -> dict[str, Any]:
    return {
        "fooled": share(fooled),
        "rejected": share(rejected),
        "correct": share(1 - fooled - rejected),
    }


DOCUMENT: dict[str, Any] = {
    "norm": "linf",
    "natural": {"reject": shares(0.01, 0.05), "correct": shares(0.02, 0.0)},
    "results": [
        {
            "eps": eps,
            "worst": {"reject": shares(fooled, 0.3), "correct": shares(fooled / 2, 0.0)},
            "robust_accuracy": share(1 - fooled),
        }
        for eps, fooled in (("4/255", 0.2), ("8/255", 0.4))
    ],
}


def test_eps_of_no_common_denominator_are_written_out() -> None:
    near, far = DOCUMENT["results"]
    results = [near, far | {"eps": "0.1"}]
    panel = curves.stress(DOCUMENT | {"results": results}).axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0", "4/255", "0.1"]
    assert panel.get_xlabel() == "eps (linf)"


def test_curves() -> None:
    figure = curves.stress(DOCUMENT)
    assert [panel.get_title() for panel in figure.axes] == [
        *("wrong label let through", "held back", "right label")
    ]
    for panel, kind in zip(figure.axes, ("fooled", "rejected", "correct"), strict=True):
        lines = {line.get_label(): line for line in panel.get_lines()}
        assert to_hex(lines["reject"].get_color()) == style.COLOURS[0].lower()
        for policy in ("reject", "correct"):
            first = DOCUMENT["natural"][policy][kind]["value"]
            others = [one["worst"][policy][kind]["value"] for one in DOCUMENT["results"]]
            found = lines[policy].get_ydata()
            assert np.asarray(found) == pytest.approx([100 * value for value in (first, *others)])
        ticks = [label.get_text() for label in panel.get_xticklabels()]
        assert ticks == ["0", "4", "8"]
        assert panel.get_xlabel() == "eps (linf, of 255)"
    error, accuracy = figure.axes[0].get_lines()[-1], figure.axes[2].get_lines()[-1]
    assert np.asarray(error.get_ydata()) == pytest.approx([20, 40])
    assert np.asarray(accuracy.get_ydata()) == pytest.approx([80, 60])
