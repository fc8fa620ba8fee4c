"""The graded score in torch is the one that is measured, and its objectives point down it."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from training import metrics
from training.attacks.margin import margin
from training.attacks.score import (
    likelihood,
    merit,
    needed_odds,
    odds,
    quiet_error,
    score,
    score_of,
    unanimous_unsuspected,
    unsuspected,
    wrong_class,
)
from training.three_way import Logits


def drawn(scale: float, classes: int = 10) -> Logits:
    generator = torch.Generator().manual_seed(0)
    return Logits(*(scale * torch.randn(200, classes, generator=generator) for _ in range(3)))


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 1000.0])
def test_score_is_the_measured_one(scale: float) -> None:
    logits = drawn(scale)
    expected = metrics.score(logits.robust.numpy(), logits.nonrobust.numpy())
    assert np.allclose(score(logits).numpy(), expected, rtol=1e-4, atol=1e-7)


def test_score_of_the_class_that_the_nonrobust_way_names() -> None:
    logits = drawn(1.0)
    named = logits.nonrobust.argmax(dim=1)
    assert torch.equal(score_of(logits.robust, named), score(logits))
    expected = 1 - logits.robust.softmax(dim=1)[torch.arange(200), named]
    torch.testing.assert_close(score(logits), expected)


def test_odds_do_not_round_away() -> None:
    assert odds(torch.tensor([[200.0, 0.0]]), torch.tensor([0])).tolist() == [200.0]


@pytest.mark.parametrize("threshold", [0.001, 0.3, 0.5, 0.9])
def test_needed_odds(threshold: float) -> None:
    assert 1 / (1 + math.exp(needed_odds(threshold))) == pytest.approx(threshold)


def test_needed_odds_at_the_ends() -> None:
    assert needed_odds(1.0) == -math.inf
    robust = np.array([[needed_odds(0.0) + 1, 0.0]])
    assert metrics.score(robust, robust).tolist() == [0.0]


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8, 1.0])
def test_unsuspected_is_above_zero_where_the_policy_lets_it_through(threshold: float) -> None:
    logits = drawn(2.0, classes=3)
    target = logits.standard.argmax(dim=1)
    named = logits.nonrobust.argmax(dim=1) == target
    through = named & (score(logits) < threshold)
    agreed = through & (logits.robust.argmax(dim=1) == target)
    assert torch.equal(unsuspected(logits, target, threshold) > 0, through)
    assert torch.equal(unanimous_unsuspected(logits, target, threshold) > 0, agreed)
    assert through.any()


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_quiet_error_is_above_zero_only_where_the_policy_lets_it_through(threshold: float) -> None:
    """With every error that is quiet on the class that the other ways agree on most."""
    logits, label = drawn(2.0, classes=3), torch.zeros(200, dtype=torch.long)
    through = (logits.standard.argmax(dim=1) != 0) & (score(logits) < threshold)
    found = quiet_error(logits, label, threshold) > 0
    assert (found <= through).all()
    agreed = logits.robust.argmax(dim=1) == logits.nonrobust.argmax(dim=1)
    assert torch.equal(found & agreed, through & agreed)
    assert (found & agreed).any()


def test_wrong_class() -> None:
    logits = drawn(1.0)
    label = logits.robust.argmax(dim=1)
    named = wrong_class(logits, label)
    assert torch.equal(named, logits.robust.argsort(dim=1)[:, -2])
    assert torch.equal(wrong_class(logits, named), label)


def gradient(value: Tensor, robust: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(value.sum(), robust)
    return found / found.norm(dim=1, keepdim=True)


def test_likelihood_points_down_the_score() -> None:
    """On the robust way's logits, where the non-robust way names the target."""
    logits = drawn(1.0)
    robust = logits.robust.clone().requires_grad_()
    target = logits.nonrobust.argmax(dim=1)
    moved = logits._replace(robust=robust)
    torch.testing.assert_close(
        gradient(likelihood(moved, target), robust), gradient(-score(moved), robust)
    )


def test_merit_puts_errors_first_and_quiet_ones_before_loud_ones() -> None:
    logits = drawn(3.0)
    label = torch.zeros(200, dtype=torch.long)
    found, ahead = merit(logits, label), margin(logits.standard, label)
    wrong = ahead < 0
    assert found[wrong].min() > found[~wrong].max()
    by_merit = found[wrong].argsort(descending=True)
    assert (score(logits)[wrong][by_merit].diff() >= -1e-6).all()
    assert torch.equal(found[~wrong].argsort(), ahead[~wrong].argsort(descending=True))
