"""Which rows a target is made of, and what is said where they are absent."""

from dataclasses import replace

import pytest

from tests.bench.runs import results
from tests.bench.targets import targets


def test_each_target_is_made_of_its_rows() -> None:
    found = targets(results())
    expected = [
        (76.0 / 80.0, True),
        (3900.0 / 1500.0, True),
        (3900.0 / 2500.0, True),
        (5000.0 / 4000.0, False),
        (96.0 * 64 / 10_240, True),
        (1.2, True),
        (1.5, True),
        (150.0, True),
        (0.1, False),
    ]
    assert [one.measured for one in found] == [pytest.approx(value) for value, _ in expected]
    assert [one.met for one in found] == [met for _, met in expected]


def test_what_was_not_measured_is_not_judged() -> None:
    nothing = replace(results(), rounds=[], usages=[], soak=None)
    for one in targets(nothing):
        assert one.met is None
        assert one.cells[2:] == ["not measured", ""]


def test_a_row_with_a_note_is_none() -> None:
    run = results()
    absent = [replace(row, note="not there", requests_s=0.0) for row in run.rounds]
    assert {one.met for one in targets(replace(run, rounds=absent))[:6]} == {None}
