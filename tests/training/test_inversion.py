"""Inverting encoders whose inverse is known."""

import torch
from torch import Tensor

from training.inversion import Inversion, distance


def flat(image: Tensor) -> Tensor:
    return image.flatten(1)


def left_half(image: Tensor) -> Tensor:
    return image[..., :4].flatten(1)


def images() -> Tensor:
    return torch.rand(3, 1, 8, 8, generator=torch.manual_seed(5))


def test_the_identity_gives_the_image_back() -> None:
    found = Inversion(steps=200, step_size=0.5)(flat, images())
    assert (found - images()).abs().max() < 0.02


def test_what_is_not_represented_stays_noise() -> None:
    found = Inversion(steps=200, step_size=0.5, seed=1)(left_half, images())
    start = torch.rand(3, 1, 8, 8, generator=torch.manual_seed(1))
    assert (found[..., :4] - images()[..., :4]).abs().max() < 0.02
    assert torch.equal(found[..., 4:], start[..., 4:])


def test_more_steps_come_nearer_and_none_leaves_noise() -> None:
    image = images()
    near = [distance(flat, image, Inversion(steps=steps)(flat, image)) for steps in (0, 5, 100)]
    assert (near[0] > near[1]).all()
    assert (near[1] > near[2]).all()
    assert torch.equal(
        Inversion(steps=0)(flat, image), torch.rand(image.shape, generator=torch.manual_seed(0))
    )
