import pytest

from training import paper_column
from training.figures import NAMES


def test_mnist_beside_linf() -> None:
    cells = paper_column.cells("MNIST", "small_cnn", "aat++", "linf", "0.3")
    assert cells == {
        "accuracy_standard_natural": (99.6, "Table 3"),
        "accuracy_robust_natural": (99.5, "Table 3"),
        "accuracy_nonrobust_natural": (99.4, "Table 3"),
        "accuracy_robust_under_robust_attack": (89.9, "Table 3"),
        "accuracy_nonrobust_under_nonrobust_attack": (0.0, "Table 3"),
        "dia_own_attacks": (89.9, "Table 3"),
        "accuracy_standard_under_standard_attack": (12.6, "Table 8"),
        "accuracy_robust_under_standard_attack": (97.8, "Table 8"),
        "accuracy_nonrobust_under_standard_attack": (7.3, "Table 8"),
        "dia_standard_attack": (90.5, "Table 8"),
    }
    assert "l2 is read as linf" in paper_column.about("MNIST", "linf", "0.3")


def test_cifar10_with_detection() -> None:
    arguments = ("preact_resnet18", "aat", "linf", "8/255")
    cells = paper_column.cells("CIFAR-10 (JPEG)", *arguments)
    assert cells["accuracy_robust_under_robust_attack"] == (10.8, "Table 2")
    assert cells["accuracy_robust_under_standard_attack"] == (38.9, "Table 7")
    assert cells["rad_mixture"] == (64.8, "Table 4b")
    assert set(cells) <= set(NAMES)
    about = paper_column.about("CIFAR-10 (JPEG)", "linf", "8/255")
    assert "linf 8/255, 20 steps of 2/255" in about
    assert about.endswith("Ours are other images, CIFAR-10 (JPEG).")
    assert "other images" not in paper_column.about("CIFAR-10", "linf", "8/255")


@pytest.mark.parametrize("norm", ["l2", "l2_sign"])
def test_both_kinds_of_l2_stand_beside_the_papers(norm: str) -> None:
    cells = paper_column.cells("CIFAR-10", "wide_resnet34_10", "aat++", norm, "0.3")
    assert cells["dia_own_attacks"] == (77.2, "Table 1")
    assert ("sign-step" in paper_column.about("CIFAR-10", norm, "0.3")) == (norm == "l2")


@pytest.mark.parametrize(
    "arguments",
    [
        ("Fashion-MNIST", "small_cnn", "aat++", "linf", "0.3"),
        ("MNIST-C", "small_cnn", "aat++", "linf", "0.3"),
        ("CIFAR-100", "preact_resnet18", "aat++", "linf", "8/255"),
        ("MNIST", "preact_resnet18", "aat++", "linf", "0.3"),
        ("MNIST", "small_cnn", "aat++", "linf", "0.2"),
        ("MNIST", "small_cnn", "aat++", "l2", "0.3"),
        ("CIFAR-10", "preact_resnet18", "aat++", "linf", "0.3"),
        ("CIFAR-10", "preact_resnet18", "aat++", "l2", "0.5"),
        ("CIFAR-10", "small_cnn", "aat++", "linf", "8/255"),
    ],
)
def test_no_counterpart(arguments: tuple[str, str, str, str, str]) -> None:
    assert paper_column.cells(*arguments) == {}


def test_nothing_to_say_of_another_data_set() -> None:
    assert paper_column.about("Fashion-MNIST", "linf", "0.3") == ""
