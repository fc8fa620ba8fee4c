"""Medians over rounds, and what follows from a row."""

from dataclasses import replace

import pytest

from tests.bench.rows import medians
from tests.bench.runs import row


def test_each_figure_is_the_median_of_its_own() -> None:
    rounds = [
        row("a", "PNG", 1, 30.0, p50_ms=1.0),
        row("b", "PNG", 1, 7.0),
        row("a", "PNG", 1, 10.0, p50_ms=3.0),
        row("a", "PNG", 1, 20.0, p50_ms=8.0),
    ]
    first, other = medians(rounds)
    assert (first.server, first.requests_s, first.p50_ms) == ("a", 20.0, 3.0)
    assert (other.server, other.requests_s) == ("b", 7.0)


def test_another_place_is_another_row() -> None:
    one = row("a", "PNG", 1, 1.0)
    changed = [{"model": "b"}, {"kind": "b"}, {"processes": 2}, {"clients": 8}]
    others = [replace(one, **change) for change in changed]  # type: ignore[arg-type]
    assert len(medians([one, *others])) == 5


def test_the_processors_time_of_an_image() -> None:
    one = row("a", "PNG", 1, 100.0, images=5)
    assert one.images_s == 500.0
    assert one.cpu_us == pytest.approx(1e6 * 2.0 / (4.0 * 500.0))
    assert replace(one, requests_s=0.0).cpu_us == 0.0
