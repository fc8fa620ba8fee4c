"""From a representation back to an image that has it (Figures 2a and 4; Engstrom et al. 2019).

Gradient descent from noise on the distance of representations. Knows an encoder, (N, C, H, W) to
(N, H); neither ways nor figures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Encoder = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """Steps of steepest descent in l2 whose length falls from `step_size` to 0 along a cosine.

    The paper states a learning rate of 1.0 and 10,000 steps, but neither the distance nor its
    scale. Here the distance is relative to the length of the target, and a step's length does not
    depend on the gradient's.
    """

    steps: int = 1500
    step_size: float = 4.0  # l2 length of the first step, pixels in [0, 1]
    seed: int = 0

    def __call__(self, encoder: Encoder, image: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] whose representation is near that of `image`."""
        with torch.no_grad():
            target = encoder(image)
            length = target.norm(dim=1).clamp_min(torch.finfo(target.dtype).tiny)
        generator = torch.Generator(device=image.device).manual_seed(self.seed)
        x = torch.rand(image.shape, generator=generator, device=image.device, dtype=image.dtype)
        best, nearest = x, torch.full_like(length, math.inf)
        for step in range(self.steps + 1):
            x = x.detach().requires_grad_()
            distance = (encoder(x) - target).norm(dim=1) / length
            (gradient,) = torch.autograd.grad(distance.sum(), x)
            better = distance.detach() < nearest
            best = torch.where(better.view(-1, 1, 1, 1), x.detach(), best)
            nearest = torch.where(better, distance.detach(), nearest)
            size = self.step_size * 0.5 * (1 + math.cos(math.pi * step / max(1, self.steps)))
            steepness = gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
            x = (x.detach() - size * gradient / steepness).clamp(0, 1)
        return best


def distance(encoder: Encoder, image: Tensor, other: Tensor) -> Tensor:
    """Of the representations, relative to the length of `image`'s, (N,)."""
    with torch.no_grad():
        target = encoder(image)
        return (encoder(other) - target).norm(dim=1) / target.norm(dim=1)
