"""Each equation against plain arithmetic on four images of three classes."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from training import losses

Rows = list[list[float]]

LABEL = [0, 1, 2, 0]
PREDICTED = [1, 1, 0, 0]  # wrong, right, wrong, right
WRONG = [0, 2]
STANDARD: Rows = [[2.0, 0.5, -1.0], [0.0, 1.0, 0.0], [1.5, 1.0, -2.0], [3.0, 0.0, 0.0]]
ROBUST: Rows = [[1.0, 0.0, 0.0], [-1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [0.2, 0.1, 0.3]]
NONROBUST: Rows = [[-0.5, 4.0, 0.0], [0.3, 0.3, 0.3], [2.0, 0.0, -2.0], [1.0, 1.0, 5.0]]


def surprise(logits: list[float], label: int) -> float:
    """Cross entropy of one image: -log of the label's softmax probability."""
    return math.log(sum(math.exp(logit) for logit in logits)) - logits[label]


def mean(rows: Rows, labels: list[int]) -> float:
    return sum(map(surprise, rows, labels)) / len(rows)


def over_batch(rows: Rows, labels: list[int], counted: list[int]) -> float:
    """Algorithm 1: the sum over the counted images, divided by all four."""
    return sum(surprise(rows[index], labels[index]) for index in counted) / len(rows)


L_ST = mean(STANDARD, LABEL) + mean(ROBUST, LABEL) + mean(NONROBUST, LABEL)
L_AS = over_batch(ROBUST, LABEL, WRONG) + over_batch(NONROBUST, PREDICTED, WRONG)
L_AN = over_batch(NONROBUST, PREDICTED, WRONG)

s, r, n = (torch.tensor(rows) for rows in (STANDARD, ROBUST, NONROBUST))
label, predicted = torch.tensor(LABEL), torch.tensor(PREDICTED)


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        pytest.param(lambda: losses.one_way_loss(n, label), mean(NONROBUST, LABEL), id="Eq. 1"),
        pytest.param(lambda: losses.standard_loss(s, r, n, label), L_ST, id="Eq. 6"),
        pytest.param(lambda: losses.asymmetric_loss(r, n, label, predicted), L_AS, id="Eq. 7"),
        pytest.param(lambda: losses.robust_loss(r, label), mean(ROBUST, LABEL), id="Eq. 9"),
        pytest.param(lambda: losses.nonrobust_loss(n, label, predicted), L_AN, id="Eq. 10"),
        pytest.param(
            lambda: losses.half_half_loss(s, r, label),
            mean(STANDARD, LABEL) + mean(ROBUST, LABEL),
            id="half-half",
        ),
    ],
)
def test_equation(loss: Callable[[], Tensor], value: float) -> None:
    assert loss().shape == ()
    assert float(loss()) == pytest.approx(value, rel=1e-6)


def test_totals_are_plain_sums() -> None:
    terms = [torch.tensor(value) for value in (1.0, 20.0, 300.0, 4000.0)]
    assert float(losses.total_loss(*terms[:2])) == 21.0  # Eq. 8
    assert float(losses.total_loss(*terms)) == 4321.0  # Eq. 11


def test_uniform_logits_cost_the_log_of_the_class_count() -> None:
    nothing = torch.zeros(4, 3)
    assert float(losses.standard_loss(nothing, nothing, nothing, label)) == pytest.approx(
        3 * math.log(3)
    )
    # Two of four images count, twice each.
    assert float(losses.asymmetric_loss(nothing, nothing, label, predicted)) == pytest.approx(
        math.log(3)
    )


def test_kept() -> None:
    mask = losses.kept(predicted, label)
    assert mask.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert mask.dtype == torch.float32
    assert float(mask.mean()) == 0.5


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(lambda rows: losses.asymmetric_loss(rows, n, label, predicted), id="7 robust"),
        pytest.param(lambda rows: losses.asymmetric_loss(r, rows, label, predicted), id="7 non"),
        pytest.param(lambda rows: losses.nonrobust_loss(rows, label, predicted), id="10"),
    ],
)
def test_dropped_images_get_no_gradient(loss: Callable[[Tensor], Tensor]) -> None:
    rows = n.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(rows), rows)
    assert gradient[[1, 3]].count_nonzero() == 0
    assert (gradient[[0, 2]] != 0).all()


def test_kept_images_pull_towards_their_asymmetric_labels() -> None:
    """By hand: (softmax - one-hot) / 4, with y for the robust way and y_hat_s for the other."""
    robust, nonrobust = r.clone().requires_grad_(), n.clone().requires_grad_()
    losses.asymmetric_loss(robust, nonrobust, label, predicted).backward()
    assert robust.grad is not None
    assert nonrobust.grad is not None
    for index in WRONG:
        for rows, target, grad in (
            (ROBUST, LABEL[index], robust.grad),
            (NONROBUST, PREDICTED[index], nonrobust.grad),
        ):
            total = sum(math.exp(logit) for logit in rows[index])
            by_hand = [
                (math.exp(logit) / total - (column == target)) / 4
                for column, logit in enumerate(rows[index])
            ]
            assert grad[index].tolist() == pytest.approx(by_hand, abs=1e-6)


def test_dropped_images_do_not_make_the_others_heavier() -> None:
    alone = losses.nonrobust_loss(n[:1], label[:1], predicted[:1])
    diluted = losses.nonrobust_loss(n[[0, 1, 3]], label[[0, 1, 3]], predicted[[0, 1, 3]])
    assert float(diluted) == pytest.approx(float(alone) / 3)


def test_nobody_fooled() -> None:
    rows = n.clone().requires_grad_()
    loss = losses.nonrobust_loss(rows, label, label)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert rows.grad is not None
    assert rows.grad.count_nonzero() == 0
