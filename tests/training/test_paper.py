import pytest

from training import paper


def test_every_printed_dia_is_robust_less_nonrobust() -> None:
    """The tables' own arithmetic, 33 cells, which a slip in copying would break."""
    cells = 0
    for row in paper.ROWS:
        for attacked in row.attacked.values():
            if attacked.dia is None:
                continue
            assert attacked.ways.robust is not None
            assert attacked.ways.nonrobust is not None
            difference = attacked.ways.robust - attacked.ways.nonrobust
            assert attacked.dia == pytest.approx(difference), row
            cells += 1
    assert cells == 33


@pytest.mark.parametrize("table", [1, 2, 3])
def test_two_one_way_models_make_the_combined_row(table: int) -> None:
    rows = {row.method: row for row in paper.ROWS if row.table == table}
    natural = {method: row.natural for method, row in rows.items()}
    both, robust, nonrobust = natural["st+at"], natural["at"], natural["st"]
    assert both is not None
    assert robust is not None
    assert nonrobust is not None
    assert both == (None, robust.robust, nonrobust.nonrobust)
    for norm, attacked in rows["st+at"].attacked.items():
        assert attacked.ways.robust == rows["at"].attacked[norm].ways.robust
        assert attacked.ways.nonrobust == rows["st"].attacked[norm].ways.nonrobust


def test_rows_and_attacks_are_complete() -> None:
    count = {table: sum(row.table == table for row in paper.ROWS) for table in range(1, 9)}
    assert count == {1: 6, 2: 6, 3: 5, 4: 0, 5: 0, 6: 5, 7: 5, 8: 4}
    for row in paper.ROWS:
        assert set(row.attacked) == set(paper.THREATS[row.data])
        assert (row.natural is None) == (row.attacked_way == "standard")


def test_spot_checks() -> None:
    """A few cells against the paper's pages, one a table."""
    cell = {(row.table, row.method): row for row in paper.ROWS}
    assert cell[1, "aat++"].attacked["l2"] == ((None, 82.5, 5.3), 77.2)
    assert cell[2, "aat"].natural == (94.8, 91.8, 93.8)
    assert cell[3, "aat++"].attacked["l2"] == ((None, 89.9, 0.0), 89.9)
    assert cell[6, "aat++"].attacked["linf"] == ((9.8, 66.4, 0.0), 66.4)
    assert cell[7, "pi"].attacked["l2"] == ((21.6, 65.7, 1.3), 64.4)
    assert cell[8, "aat"].attacked["l2"] == ((51.0, 93.9, 30.4), 63.5)
    assert [(row.rad, row.raw, row.corrected) for row in paper.DETECTION] == [
        (4.9, 4.6, 15.2),
        (64.8, 61.8, 65.5),
        (68.8, 67.1, 69.1),
    ]
