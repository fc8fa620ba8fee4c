"""A figure becomes the same file each time, and text in it stays text."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from training.files import OutputError
from training.plots import style


def draw(path: Path) -> Path:
    figure, (left, right) = style.panels(columns=2)
    left.plot([0, 1], [0, 1], color=style.NATURAL, label="natural")
    right.set_title("a title")
    left.legend()
    return style.save(figure, path)


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    first, second = draw(tmp_path / "one.svg"), draw(tmp_path / "two.svg")
    assert first.read_bytes() == second.read_bytes()
    root = ElementTree.fromstring(first.read_text())
    assert root.tag.endswith("svg")
    assert {"natural", "a title"} <= {(part.text or "").strip() for part in root.iter()}


def test_grid_has_no_empty_panels() -> None:
    figure, axes = style.grid(4)
    assert figure.axes == axes
    assert len(axes) == 4
    assert figure.get_size_inches() == pytest.approx((3 * 4.2, 2 * 3.2))
    assert style.grid(1)[0].get_size_inches() == pytest.approx((4.2, 3.2))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        draw(tmp_path / "file" / "plot.svg")
