"""Auto-PGD (Croce & Hein 2020, algorithm 1) on any objective that has one value an image.

PGD with momentum whose step size is halved where it stopped helping, so that it needs no tuning to
the model. Knows a threat model and a function to raise; neither labels nor what the function means.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from training.threat import ThreatModel

Objective = Callable[[Tensor], Tensor]  # images (N, C, H, W) to values (N,), each of its own image

_MOMENTUM = 0.75  # alpha: the new step's share of a move
_INCREASES = 0.75  # rho: of the steps between two checkpoints, how many must have helped
_ROUNDING = 1e-9  # of a step: 0.57 * 100 is a little above 57
_FIRST, _SHORTER, _SHORTEST = 0.22, 0.03, 0.06  # distances of the checkpoints, of all steps


@dataclass(frozen=True, kw_only=True)
class Ascent:
    """The best images found and their values, (N, C, H, W) and (N,)."""

    image: Tensor
    value: Tensor


def checkpoints(steps: int) -> Iterator[int]:
    """Steps after which the step size is reconsidered: far apart first, then ever closer."""
    last, share = 0.0, _FIRST
    while share <= 1.0:
        yield math.ceil(share * steps - _ROUNDING)
        last, share = share, share + max(share - last - _SHORTER, _SHORTEST)


@dataclass(frozen=True, kw_only=True)
class APGD:
    """`steps` gradients from one start.

    The step size begins at twice eps from a random start, where there is nothing to lose. From a
    given one it begins at `warm_step` of eps: a step as long as the ball would leave it at once.
    """

    threat: ThreatModel
    steps: int
    warm_step: float = 0.1

    def __call__(self, objective: Objective, image: Tensor, start: Tensor | None = None) -> Ascent:
        """Raise `objective` within the ball around `image`, from `start` or from a random one.

        `start` is projected to the ball first. An image's value and path do not depend on the
        others of its batch.
        """
        first = 2.0 if start is None else self.warm_step
        if start is None:
            start = image + self.threat.random_start(image)
        x = self._inside(image, start)
        value, gradient = _ascend(objective, x)
        best, best_value, best_gradient = x, value, gradient
        size = torch.full_like(value, first * self.threat.eps).view(-1, 1, 1, 1)
        before, increases = x, torch.zeros_like(value)
        halved, value_then = torch.ones_like(value, dtype=torch.bool), best_value
        marks, last = set(checkpoints(self.steps)), 0
        for step in range(1, self.steps + 1):
            ahead = self._inside(image, x + size * self.threat.step(gradient, 1.0))
            share = _MOMENTUM if step > 1 else 1.0
            following = self._inside(image, x + share * (ahead - x) + (1 - share) * (x - before))
            before, x, former = x, following, value
            value, gradient = _ascend(objective, x)
            increases += value > former
            better = value > best_value
            best = torch.where(_wide(better), x, best)
            best_gradient = torch.where(_wide(better), gradient, best_gradient)
            best_value = torch.where(better, value, best_value)
            if step in marks:
                stalled = increases < _INCREASES * (step - last)
                stalled |= ~halved & (best_value <= value_then)
                size = torch.where(_wide(stalled), size / 2, size)
                x = torch.where(_wide(stalled), best, x)
                before = torch.where(_wide(stalled), best, before)
                gradient = torch.where(_wide(stalled), best_gradient, gradient)
                value = torch.where(stalled, best_value, value)
                increases, halved, value_then, last = (
                    *(torch.zeros_like(increases), stalled, best_value, step),
                )
        return Ascent(image=best, value=best_value)

    def _inside(self, image: Tensor, x: Tensor) -> Tensor:
        """Nearest image of the ball, then of [0, 1]."""
        return (image + self.threat.project(x - image)).clamp(0, 1)


def _ascend(objective: Objective, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    value = objective(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


def _wide(of_image: Tensor) -> Tensor:
    return of_image.view(-1, 1, 1, 1)
