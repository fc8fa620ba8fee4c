"""Rows of ours under rows of the paper's: where they may stand, and that neither leaks."""

import pytest

from tests.training import evaluations
from tests.training.evaluations import figure
from training import paper, reproduction
from training.figures import NAMES

OWN = ("accuracy_robust_under_robust_attack", "accuracy_nonrobust_under_nonrobust_attack")


def rows(lines: list[str]) -> list[list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return [row for row in cells[2:] if len(row) > 1]


@pytest.mark.parametrize("number", [1, 2, 3, 6, 7, 8])
def test_without_evaluations_every_row_says_so(number: int) -> None:
    found = rows(reproduction.paper_table(number, []))
    methods = [row.method for row in paper.ROWS if row.table == number]
    assert [row[0] for row in found] == [method for method in methods for _ in range(2)]
    for theirs, ours in zip(found[::2], found[1::2], strict=True):
        assert theirs[1] == "the paper's"
        assert any(character.isdigit() for character in "".join(theirs[2:]))
        assert ours[1] == "ours: not run"
        assert set(ours[2:]) == {""}


def test_every_figure_of_the_paper_is_in_its_column() -> None:
    """Each row is what the paper prints, in its order, absent figures as dashes."""
    for row in paper.ROWS:
        found = rows(reproduction.paper_table(row.table, []))
        theirs = next(line for line in found if line[0] == row.method)
        values = list(row.natural) if row.natural is not None else []
        for attacked in row.attacked.values():
            ways = list(attacked.ways)
            values += [*(ways[1:] if row.natural is not None else ways), attacked.dia]
        printed = ["–" if value is None else f"{value:.1f}" for value in values]  # noqa: RUF001
        assert theirs[3:] == printed


def test_an_unfinished_run_says_so() -> None:
    ours = evaluations.document("aat", name="mine", step=7)
    (mine,) = (row for row in rows(reproduction.paper_table(3, [ours])) if "mine" in row[1])
    assert "trained under linf 0.3, at step 7 of 100" in mine[1]


def test_ours_stand_under_their_method() -> None:
    attacks = ("linf:0.3:0.01:40", "linf:0.3:0.01:10", "l2:2:0.1:20")
    ours = evaluations.document("aat++", name="mine", attacks=attacks)
    found = rows(reproduction.paper_table(3, [ours]))
    mine = [row for row in found if "mine" in row[1]]
    assert [row[0] for row in mine] == ["aat++", "aat++"]  # l2 2 is none of the paper's attacks
    for shift, row in enumerate(mine):
        assert f"`{attacks[shift]}`" in row[1]
        assert row[2] == "2000"
        natural = [figure(name) for name in NAMES[:3]]
        assert row[3:6] == natural
        assert row[6:] == [figure(name, shift=shift) for name in (*OWN, "dia_own_attacks")]
    assert [row for row in found if row[0] == "aat"][1][1] == "ours: not run"


def test_attack_on_the_standard_way() -> None:
    ours = [evaluations.document("aat", name="mine"), evaluations.document("st", name="other")]
    found = rows(reproduction.paper_table(8, ours))
    (mine,) = (row for row in found if "mine" in row[1])
    under = [f"accuracy_{way}_under_standard_attack" for way in ("standard", "robust", "nonrobust")]
    assert mine[3:] == [figure(name) for name in (*under, "dia_standard_attack")]
    (other,) = (row for row in found if "other" in row[1])  # attacked by the one way it has
    assert other[3:] == ["–", "–", figure(OWN[1]), "–"]  # noqa: RUF001  # en dashes


def test_two_one_way_models_together() -> None:
    at = evaluations.document("at", name="at", base=0.7)
    st = evaluations.document("st", name="st", base=0.2)
    found = rows(reproduction.paper_table(3, [at, st]))
    (both,) = (row for row in found if "at + st" in row[1])
    robust, other = figure(OWN[0], base=0.7), figure(OWN[1], base=0.2)
    assert both[0] == "st+at"
    assert both[6:8] == [robust, other]
    assert float(both[8]) == pytest.approx(float(robust) - float(other), abs=0.11)
    longer = evaluations.document("st", name="st", steps=999)
    found = rows(reproduction.paper_table(3, [at, longer]))
    assert not any("at + st" in row[1] for row in found)


def test_sign_steps_come_first_in_the_l2_column() -> None:
    ours = evaluations.document(
        "aat++",
        dataset="CIFAR-10 (JPEG)",
        backbone="preact_resnet18",
        attacks=("linf:8/255:2/255:20", "l2:0.3:0.03:20", "l2_sign:0.3:0.1:20"),
    )
    found = [row for row in rows(reproduction.paper_table(2, [ours])) if "JPEG" in row[1]]
    assert "`linf:8/255:2/255:20`, `l2_sign:0.3:0.1:20`" in found[0][1]
    assert "`l2:0.3:0.03:20`" in found[1][1]
    assert found[0][-1] == figure("dia_own_attacks", shift=2)
    assert found[1][6:9] == ["–"] * 3  # noqa: RUF001  # en dashes
    assert not any("JPEG" in row[1] for row in rows(reproduction.paper_table(1, [ours])))


def test_an_ablated_model_is_no_aat_plus_plus() -> None:
    less = evaluations.document("aat++", name="less", loss={**evaluations.PLAIN, "robust": 0.0})
    assert not any("less" in row[1] for row in rows(reproduction.paper_table(3, [less])))
    assert not any("less" in row[1] for row in rows(reproduction.detection([less])))


def test_ablation_takes_models_of_one_length() -> None:
    nothing = {"asymmetric": 0.0, "robust": 0.0, "nonrobust": 0.0}
    documents = [
        evaluations.document("aat++", loss=nothing, base=0.1),
        evaluations.document("aat", base=0.2),
        evaluations.document("aat++", base=0.4),
        evaluations.document("aat++", base=0.3, steps=999),
    ]
    ((words, stages),) = reproduction.ablations(documents)
    assert words == "MNIST, 2000 images, small_cnn, 100 steps, seed 0, `linf:0.3:0.01:40`"
    assert list(stages) == [
        "L_ST",
        "L_ST + L_AS (AAT)",
        "L_ST + L_AS + L_AR + L_AN (AAT++)",
    ]
    found = rows(reproduction.ablation_table(stages))
    assert [row[0] for row in found] == list(reproduction.STAGES)
    assert found[2][1:] == ["not run", "", "", "", "", ""]
    assert found[3][4] == figure(OWN[0], base=0.4)


def test_detection_cell_by_cell() -> None:
    found = rows(reproduction.detection([evaluations.document("aat", name="mine", base=0.3)]))
    assert [row[0] for row in found] == ["pi", "pi", "aat", "aat", "aat++", "aat++"]
    mine = found[3]
    assert "mine" in mine[1]
    false_alarms = float(figure("false_alarm_rate", base=0.3))
    assert float(mine[3]) == pytest.approx(100 - false_alarms, abs=0.06)
    assert mine[4:6] == [figure("rad_all", base=0.3), figure("rad_mixture", base=0.3)]
    assert mine[11] == figure("accuracy_corrected_mixture", base=0.3)
