"""The plot has every number of the map and a line for each figure."""

from typing import Any

import numpy as np
import pytest

from training.plots import shift

FIGURES = (
    *("accuracy_standard", "accuracy_robust", "accuracy_nonrobust", "accuracy_corrected"),
    *("false_alarm_rate", "alarm_rate_1", "alarm_rate_5"),
)


def shares(value: float) -> dict[str, Any]:
    return {name: {"value": value, "interval": [value / 2, value]} for name in FIGURES}


def document() -> dict[str, Any]:
    return {
        "settings": {"corruptions": ["fog", "jpeg"]},
        "thresholds": {"1": 0.5, "5": 0.1},
        "natural": shares(0.01),
        "means": [{"severity": level, "figures": shares(level / 10)} for level in (1, 2)],
        "results": [
            {"corruption": name, "severity": level, "figures": shares(level * step / 10)}
            for name, step in (("fog", 2), ("jpeg", 1))
            for level in (1, 2)
        ],
    }


def test_map_and_lines() -> None:
    heat, alarms, accuracy = shift.draw(document()).axes
    assert [text.get_text() for text in heat.texts] == ["20.0", "40.0", "10.0", "20.0"]
    assert [label.get_text() for label in heat.get_yticklabels()] == ["fog", "jpeg"]
    assert "clean: 1.0" in heat.get_title()
    assert [len(axes.lines) for axes in (alarms, accuracy)] == [3, 4]
    for line in (*alarms.lines, *accuracy.lines):
        assert np.asarray(line.get_ydata()) == pytest.approx(np.array([1, 10, 20]))


def test_no_alarm_at_all() -> None:
    """An empty map is pale, not dark."""
    calm = document()
    for result in calm["results"]:
        result["figures"] = shares(0.0)
    heat = shift.draw(calm).axes[0]
    assert {text.get_color() for text in heat.texts} == {"black"}
