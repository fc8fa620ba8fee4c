"""What an attacker may do: a norm ball around the image, and how to move inside it.

Functions of a perturbation (after the idea that a threat model is project, step and random
start); none knows a model or a loss. Pixels lie in [0, 1], perturbations are (N, C, H, W) and every
image of a batch is treated on its own.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.config import Norm

_TINY = 1e-12  # keeps the direction of a vanishing gradient finite
_HALVINGS = 12  # of the share of a perturbation that is kept
_LEVEL = 1e-3  # of a pixel level: what float32 loses on the way from a level and back


def _length(delta: Tensor) -> Tensor:
    """Euclidean length of each image's perturbation, (N, 1, 1, 1)."""
    return delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """All perturbations with ||delta|| <= eps.

    `linf` and `l2` are the balls of those norms. `l2_sign` has the ball of `l2` but moves by the
    sign of the gradient and starts from the l_inf box, as the public code that the paper builds on
    does; it is a weak attack, kept so that the paper's l2 tables can be compared.
    """

    norm: Norm
    eps: float

    def scaled(self, factor: float) -> "ThreatModel":
        """The same ball, `factor` times as wide."""
        return ThreatModel(norm=self.norm, eps=self.eps * factor)

    def project(self, delta: Tensor) -> Tensor:
        """Nearest perturbation inside the ball."""
        if self.norm == "linf":
            return delta.clamp(-self.eps, self.eps)
        return delta * (self.eps / _length(delta).clamp_min(_TINY)).clamp_max(1.0)

    def step(self, gradient: Tensor, step_size: float) -> Tensor:
        """Steepest ascent of length `step_size` in the norm that this attack moves by."""
        if self.norm == "l2":
            # Scaled first: a sure model's gradients are so small that their squares vanish.
            largest = gradient.abs().flatten(1).amax(dim=1).view(-1, 1, 1, 1)
            scaled = gradient / largest.clamp_min(torch.finfo(gradient.dtype).tiny)
            return step_size * scaled / _length(scaled).clamp_min(_TINY)
        return step_size * gradient.sign()

    def random_start(self, image: Tensor) -> Tensor:
        """A perturbation drawn uniformly: from the ball, or for `l2_sign` from the l_inf box."""
        if self.norm != "l2":
            return torch.empty_like(image).uniform_(-self.eps, self.eps)
        direction = torch.randn_like(image)
        radius = torch.rand(len(image), 1, 1, 1, device=image.device, dtype=image.dtype)
        radius = self.eps * radius ** (1.0 / image[0].numel())
        return radius * direction / _length(direction).clamp_min(_TINY)

    def rounded(self, natural: Tensor, adversarial: Tensor) -> Tensor:
        """Adversarial images in [0, 1] as uint8 levels, how they travel, still in the ball.

        To the nearest level, unless that leaves the ball around `natural` (uint8): then to the
        nearest one within it for `linf`, and for l2 after the whole perturbation was shortened as
        little as brings its rounding inside.
        """
        origin = natural.to(torch.float32)
        exact = adversarial * 255.0 - origin
        moved = exact.round()
        if self.norm == "linf":
            reach = math.floor(self.eps * 255.0 + _LEVEL)
            moved = moved.clamp(-reach, reach)
        else:
            limit = self.eps * 255.0 + _LEVEL
            shorter, longer = torch.zeros_like(_length(exact)), torch.ones_like(_length(exact))
            for _ in range(_HALVINGS):
                middle = (shorter + longer) / 2
                inside = _length((middle * exact).round()) <= limit
                shorter = torch.where(inside, middle, shorter)
                longer = torch.where(inside, longer, middle)
            moved = torch.where(_length(moved) <= limit, moved, (shorter * exact).round())
        return (origin + moved).clamp(0, 255).to(torch.uint8)

    def distance(self, delta: Tensor) -> Tensor:
        """Length of each image's perturbation in the norm of the ball, (N,)."""
        if self.norm == "linf":
            return delta.abs().flatten(1).amax(dim=1)
        return _length(delta).flatten()
