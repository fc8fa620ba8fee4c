"""APGD on functions whose maximum is known."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from training.attacks.apgd import APGD, checkpoints
from training.config import Norm
from training.threat import ThreatModel

NORMS = get_args(Norm)
WEIGHTS = torch.tensor([[1.0, -2.0], [0.5, 3.0]])


def grey(count: int = 3) -> Tensor:
    return torch.full((count, 1, 2, 2), 0.5)


def linear(x: Tensor) -> Tensor:
    return (x * WEIGHTS).flatten(1).sum(dim=1)


def bowl(x: Tensor) -> Tensor:
    """Highest, 0, at a point near 0.5 that no step of the usual size would meet."""
    return -((x - 0.513) ** 2).flatten(1).sum(dim=1)


def test_checkpoints_come_closer_and_closer() -> None:
    """By the paper's rule: 0.22, then 0.19, 0.16, ... and 0.06 at least, of all steps."""
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize(("norm", "reach"), [("linf", 0.1 * 6.5), ("l2", 0.1 * 14.25**0.5)])
def test_reaches_the_corner_of_a_linear_function(norm: Norm, reach: float) -> None:
    found = APGD(threat=ThreatModel(norm=norm, eps=0.1), steps=40)(linear, grey())
    assert (found.value - linear(grey())).tolist() == pytest.approx([reach] * 3, rel=1e-3)


def test_halves_its_step_until_it_meets_a_maximum_inside() -> None:
    found = APGD(threat=ThreatModel(norm="linf", eps=0.3), steps=100)(bowl, grey())
    assert found.value.min() > -1e-5


@pytest.mark.parametrize("norm", NORMS)
def test_stays_in_the_ball_and_in_the_image(norm: Norm) -> None:
    threat = ThreatModel(norm=norm, eps=0.2)
    image = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    far = image + 3.0
    for start in (None, far):
        found = APGD(threat=threat, steps=7)(linear, image, start)
        assert (threat.distance(found.image - image) <= 0.2 + 1e-6).all()
        assert found.image.min() >= 0
        assert found.image.max() <= 1
        assert torch.equal(linear(found.image), found.value)


def test_never_ends_below_its_start() -> None:
    image = grey()
    top = (image + 0.1 * WEIGHTS.sign()).clamp(0, 1)
    found = APGD(threat=ThreatModel(norm="linf", eps=0.1), steps=5)(linear, image, top)
    assert (found.value >= linear(top) - 1e-6).all()


def test_images_do_not_depend_on_their_batch() -> None:
    apgd = APGD(threat=ThreatModel(norm="l2", eps=0.3), steps=30)
    image = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    start = image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    together = apgd(bowl, image, start)
    for row in range(4):
        alone = apgd(bowl, image[[row]], start[[row]])
        torch.testing.assert_close(alone.image, together.image[[row]])


def test_a_given_start_is_left_in_small_steps() -> None:
    """A peak beside the start is found, which a step as long as the ball would jump over."""

    def peak(x: Tensor) -> Tensor:
        return -(x - 0.72).abs().flatten(1).sum(dim=1)

    image = grey()
    threat = ThreatModel(norm="linf", eps=0.3)
    start = torch.full_like(image, 0.7)
    small = APGD(threat=threat, steps=1)(peak, image, start)
    large = APGD(threat=threat, steps=1, warm_step=2.0)(peak, image, start)
    assert (small.value > peak(start) + 0.01).all()
    assert torch.equal(large.image, start)
