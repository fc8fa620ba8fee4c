"""PGD against classifiers whose strongest attack is known in closed form."""

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from training.attacks.pgd import PGD, frozen
from training.config import Norm
from training.threat import ThreatModel

NORMS = get_args(Norm)
WEIGHT = torch.tensor([3.0, -1.0, 0.5, -2.0])  # of four pixels, in favour of class 1


def linear(image: Tensor) -> Tensor:
    score = image.flatten(1) @ WEIGHT
    return torch.stack((-score, score), dim=1)


def pgd(norm: Norm, eps: float, *, steps: int = 10, step_size: float | None = None) -> PGD:
    return PGD(
        threat=ThreatModel(norm=norm, eps=eps),
        steps=steps,
        step_size=eps / 2 if step_size is None else step_size,
    )


def grey(count: int = 2) -> Tensor:
    return torch.full((count, 1, 2, 2), 0.5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("eps", [0.0, 8 / 255, 0.3, 5.0])
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_constraint_set(norm: Norm, eps: float, steps: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    image, label = torch.rand(16, 3, 6, 6), torch.randint(0, 3, (16,))
    image[0], image[1] = 0.0, 1.0  # at the walls of the box
    attack = pgd(norm, eps, steps=steps)
    adversarial = attack(network, image, label)
    assert not adversarial.requires_grad
    assert float(adversarial.min()) >= 0.0
    assert float(adversarial.max()) <= 1.0
    assert (attack.threat.distance(adversarial - image) <= eps + 1e-6).all()


def test_linf_optimum_is_the_sign() -> None:
    """Against a linear score the worst of the box is eps against each weight's sign."""
    torch.manual_seed(0)
    label = torch.tensor([1, 0])
    adversarial = pgd("linf", 0.1)(linear, grey(), label)
    away = -0.1 * WEIGHT.sign()
    expected = torch.stack((0.5 + away, 0.5 - away)).view(2, 1, 2, 2)
    torch.testing.assert_close(adversarial, expected)


def test_l2_optimum_is_the_direction() -> None:
    torch.manual_seed(0)
    label = torch.tensor([1, 0])
    adversarial = pgd("l2", 0.1, steps=40)(linear, grey(), label)
    away = -0.1 * WEIGHT / math.sqrt(9 + 1 + 0.25 + 4)
    expected = torch.stack((0.5 + away, 0.5 - away)).view(2, 1, 2, 2)
    torch.testing.assert_close(adversarial, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_raises_the_loss_of_every_image(norm: Norm) -> None:
    torch.manual_seed(0)
    image, label = torch.rand(32, 1, 2, 2) * 0.8 + 0.1, torch.randint(0, 2, (32,))
    adversarial = pgd(norm, 0.05)(linear, image, label)
    before, after = (
        cross_entropy(linear(shown), label, reduction="none") for shown in (image, adversarial)
    )
    assert (after > before).all()


def test_images_do_not_depend_on_their_batch() -> None:
    attack = PGD(threat=ThreatModel(norm="l2", eps=0.2), steps=3, step_size=0.1, random_start=False)
    image, label = torch.linspace(0.2, 0.8, 12).view(3, 1, 2, 2), torch.tensor([0, 1, 1])
    together = attack(linear, image, label)
    alone = [attack(linear, image[[row]], label[[row]]) for row in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_walls_of_the_box_hold_each_step() -> None:
    """A pixel at 1 that is pushed up stays there, and the rest of the budget is still spent."""
    attack = PGD(threat=ThreatModel(norm="linf", eps=0.2), steps=2, step_size=0.2)
    image = torch.tensor([1.0, 0.5, 0.0, 0.0]).view(1, 1, 2, 2)
    adversarial = attack(linear, image, torch.tensor([0]))
    assert adversarial.flatten().tolist() == pytest.approx([1.0, 0.3, 0.2, 0.0])


def test_zero_steps_are_the_clipped_random_start() -> None:
    torch.manual_seed(3)
    start = torch.empty(2, 1, 2, 2).uniform_(-0.7, 0.7)
    torch.manual_seed(3)
    adversarial = pgd("linf", 0.7, steps=0)(linear, grey(), torch.tensor([0, 1]))
    torch.testing.assert_close(adversarial, (0.5 + start).clamp(0, 1))


def test_without_random_start_or_steps_nothing_moves() -> None:
    attack = PGD(threat=ThreatModel(norm="l2", eps=1.0), steps=0, step_size=1.0, random_start=False)
    assert torch.equal(attack(linear, grey(), torch.tensor([0, 1])), grey())


@pytest.mark.parametrize("norm", NORMS)
def test_a_seed_decides_the_attack(norm: Norm) -> None:
    def attacked(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return pgd(norm, 0.3, steps=1, step_size=0.01)(linear, grey(), torch.tensor([0, 1]))

    assert torch.equal(attacked(1), attacked(1))
    assert not torch.equal(attacked(1), attacked(2))


def test_one_step_of_l2_sign() -> None:
    """Sign step from a start in the box, clip to [0, 1], then scale to the ball."""
    torch.manual_seed(5)
    start = torch.empty(1, 1, 2, 2).uniform_(-0.4, 0.4).flatten().tolist()
    torch.manual_seed(5)
    adversarial = pgd("l2_sign", 0.4, steps=1, step_size=0.3)(linear, grey(1), torch.tensor([0]))
    signs = [1, -1, 1, -1]  # the loss of class 0 rises with the score
    moved = [
        min(1.0, max(0.0, 0.5 + delta + 0.3 * sign)) - 0.5
        for delta, sign in zip(start, signs, strict=True)
    ]
    length = math.sqrt(sum(delta**2 for delta in moved))
    assert length > 0.4
    by_hand = [0.5 + delta * 0.4 / length for delta in moved]
    assert adversarial.flatten().tolist() == pytest.approx(by_hand, abs=1e-6)


class Moody(nn.Module):
    """Batch statistics and dropout, one frozen parameter and one part already in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.settled = nn.BatchNorm2d(1).eval()
        self.drop = nn.Dropout(0.5)
        self.output = nn.Linear(4, 2)
        self.norm.bias.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        return self.output(self.drop(self.settled(self.norm(image)).flatten(1)))


def state(model: nn.Module) -> tuple[list[bool], list[bool], list[list[float]]]:
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [tensor.flatten().tolist() for tensor in model.state_dict().values()],
    )


def attack_it(model: nn.Module) -> None:
    pgd("linf", 0.1)(model, grey(), torch.tensor([0, 1]))


def fail(model: nn.Module) -> None:
    raise RuntimeError("in the middle")


def test_frozen_leaves_the_model_as_found() -> None:
    model = Moody()
    before = state(model)
    with frozen(model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        attack_it(model)
    assert state(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("act", [fail, lambda model: model(torch.zeros(1, 7))])
def test_frozen_after_an_exception(act: Callable[[nn.Module], None]) -> None:
    model = Moody()
    before = state(model)
    with pytest.raises((RuntimeError, ValueError)), frozen(model):
        act(model)
    assert state(model) == before


def test_attack_draws_no_dropout() -> None:
    """In eval mode only the random start is drawn, however many steps follow."""
    model = Moody()
    draws = []
    for steps in (1, 5):
        torch.manual_seed(0)
        with frozen(model):
            pgd("linf", 0.1, steps=steps)(model, grey(), torch.tensor([0, 1]))
        draws.append(float(torch.rand(1)))
    assert draws[0] == draws[1]
