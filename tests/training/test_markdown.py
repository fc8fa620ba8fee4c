"""Tables and shares as the reports print them."""

import pytest

from training.markdown import interval, percent, table


def test_table() -> None:
    assert table(["a", "b"], [["x", "1"]]) == ["| a | b |", "|---|---:|", "| x | 1 |"]


@pytest.mark.parametrize(
    ("digits", "alone", "behind"),
    [(1, "12.3", "12.3 (10.0 to 20.0)"), (2, "12.34", "12.34 (10.00 to 20.00)")],
)
def test_a_share(digits: int, alone: str, behind: str) -> None:
    share = {"value": 0.1234, "interval": [0.1, 0.2]}
    assert percent(share, digits) == alone
    assert interval(share, digits) == behind


def test_a_share_of_nothing() -> None:
    share = {"value": None}
    assert percent(share) == interval(share) == ""
    assert percent(share, absent="-") == interval(share, absent="-") == "-"
