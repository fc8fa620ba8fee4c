"""What a figure says in words and in lines, for the tests of the plots."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def titles(figure: Figure) -> list[str]:
    return [part.get_title() for part in figure.axes]


def legend(part: Axes) -> list[str]:
    found = part.get_legend()
    return [text.get_text() for text in found.get_texts()] if found else []
