import io
from typing import Any

import pytest
from rich.console import Console

from tests.training import examinee
from training import evaluation_table
from training.attacks import setting
from training.config import Method
from training.evaluate import Evaluation

STRONG = setting.parse("linf:0.1:0.05:10")
LIKE_THE_PAPER = setting.parse("linf:0.3:0.1:4")


def document(method: Method = "aat++", **options: Any) -> dict[str, Any]:
    console = Console(file=io.StringIO())
    settings: dict[str, Any] = {"attacks": (STRONG, LIKE_THE_PAPER)}
    evaluation = Evaluation(**(settings | options))
    return examinee.evaluated(evaluation, examinee.subject(method), console)[0]


@pytest.fixture(scope="module")
def text() -> str:
    return evaluation_table.render(document())


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_says_what_it_is_about(text: str) -> None:
    assert text.startswith("# examinee on MNIST\n")
    assert "12 of 200 images, drawn by seed 0" in text
    assert "aat++, small_cnn, trained against linf 0.1, step 6 of 6, weights `111111111111`" in text
    assert "They do not know of the detector" in text
    assert "## linf 0.1, 10 steps of 0.05" in text
    assert text.endswith("\n")


def test_matrix(text: str) -> None:
    matrix = rows(text)[:6]
    assert matrix[0] == [
        "images",
        "standard way",
        "robust way",
        "non-robust way",
        "corrected label",
        "flagged",
    ]
    assert matrix[2] == ["natural", "91.67", "91.67", "83.33", "91.67", "8.33"]
    assert matrix[3] == ["attack on the standard way", "0.00", "91.67", "0.00", "91.67", "91.67"]
    assert matrix[5][0] == "attack on the non-robust way"
    assert matrix[5][3] == "0.00"


def test_tables_are_rectangular(text: str) -> None:
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({len(row) for row in rows(block)}) == 1


def test_figures_with_their_interval(text: str) -> None:
    table = {row[0]: row[1:] for row in rows(text.split("## ")[1])[6:]}
    rad = table["RAD, all attacks on the standard way"]
    assert rad[:3] == ["91.67", "64.61 to 98.51", "91.67"]
    assert table["threshold of the score at 1 % FPR, in [0, 1]"][0] == "0.5744"
    assert "TPR of the score at 5 % FPR, successful attacks" in table


def whole(method: Method = "aat++", **options: Any) -> dict[str, Any]:
    """As if the twelve images were all of the test split."""
    values = document(method, **options)
    values["data"]["available"] = 12
    return values


def test_paper_has_a_column_of_its_own_where_it_has_the_attack(text: str) -> None:
    ours, theirs = evaluation_table.render(whole()).split("## ")[1:]
    assert "the paper's" not in ours
    assert "arXiv" not in ours
    cells = {row[0]: row for row in rows(theirs)}
    assert cells["figure"] == ["figure", "8-bit", "95 %", "float", "the paper's"]
    assert cells["robust way, attack on the robust way"][4] == "89.9 (Table 3)"
    assert cells["RAD, all attacks on the standard way"][4] == ""
    assert "arXiv 2007.01356, on MNIST, attack stated as l2 0.3" in theirs
    assert "the paper's" not in text  # some images of a split are not the paper's test set
    assert "the paper's" not in evaluation_table.render(whole() | {"split": "validation"})


def test_one_way_model_shows_its_way_alone() -> None:
    text = evaluation_table.render(whole("st", attacks=(LIKE_THE_PAPER,)))
    table = rows(text)
    assert table[0] == ["images", "non-robust way"]
    assert [row[0] for row in table[4:]] == [
        "figure",
        "---",
        "non-robust way, natural",
        "non-robust way, attack on the non-robust way",
        "ECE, non-robust way, natural",
        "ECE, non-robust way, attack on the non-robust way",
    ]
    assert table[7][-1] == "17.9 (Table 3)"
    assert "Not measured, needs a way that the method st does not train: `accuracy_st" in text


def test_all_images_of_a_split() -> None:
    assert "test split, all 12 images, `" in evaluation_table.render(whole())


def test_commit_is_short_but_honest() -> None:
    values = document() | {"commit": "0123456789abcdef+changes"}
    assert "code `0123456789ab+changes`" in evaluation_table.render(values)


def test_figure_that_is_missing_from_one_rounding_only() -> None:
    values = document(attacks=(STRONG,))
    values["results"][0]["metrics"]["rad_successful"] = None
    table = {row[0]: row[1:] for row in rows(evaluation_table.render(values))}
    assert table["RAD, successful attacks on the standard way"][0] == "–"  # noqa: RUF001  # an en dash
    assert table["RAD, successful attacks on the standard way"][2] == "91.67"


def test_every_figure_has_words(text: str) -> None:
    assert "_" not in "".join(row[0] for row in rows(text))


def test_plots_are_shown_where_there_are_any(text: str) -> None:
    assert "![" not in text
    shown = evaluation_table.render(document(), {"what it shows": "a.svg"})
    assert "![what it shows](a.svg)" in shown.split("## Plots")[1]


def test_summary() -> None:
    three, one = (
        evaluation_table.summary(document("aat++", attacks=(STRONG,))),
        evaluation_table.summary(document("st", attacks=(STRONG,))),
    )
    assert three == [
        "linf:0.1:0.05:10, 8-bit, in %: standard way 91.67 natural, 0.00 attacked; "
        "robust way 91.67 natural, 91.67 attacked; non-robust way 83.33 natural, 0.00 attacked; "
        "false alarms 8.33; successful attacks flagged 91.67"
    ]
    assert one == ["linf:0.1:0.05:10, 8-bit, in %: non-robust way 83.33 natural, 0.00 attacked"]
