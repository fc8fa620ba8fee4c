"""Selective and orthogonal PGD (Bryniarski et al. 2022, section 3) against the graded score.

Two goals in turn instead of a weighted sum: while the standard way is right, a step makes it wrong;
once it is wrong, a step lowers the score. Knows no threshold: it brings the score as low as it can.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.attacks.adaptive import Answer
from training.attacks.margin import margin
from training.attacks.score import likelihood, merit, wrong_class
from training.threat import ThreatModel

_TINY = 1e-30  # of a squared length


@dataclass(frozen=True, kw_only=True)
class Selective:
    """`steps` steps of `step` times eps from a random start; the best image on the way is kept.

    The score is lowered towards the wrong class that the robust way is nearest to naming.

    Where `orthogonal`, the gradient of the score loses what it has in common with the gradient of
    the standard way's margin, so that a step on the score does not undo the error it hides.
    """

    threat: ThreatModel
    steps: int
    orthogonal: bool = False
    step: float = 0.1

    def __call__(self, answer: Answer, image: Tensor, label: Tensor) -> Tensor:
        """Adversarial images (N, C, H, W) in [0, 1] within the threat model."""
        x = self._inside(image, image + self.threat.random_start(image))
        best, best_merit = x, torch.full((len(image),), -torch.inf, device=image.device).double()
        for _ in range(self.steps):
            gradient, value = self._uphill(answer, x, label)
            best, best_merit = _better(best, best_merit, x, value)
            moved = x + self.threat.step(gradient, self.step * self.threat.eps)
            x = self._inside(image, moved)
        with torch.no_grad():
            value = merit(answer(x), label)
        return _better(best, best_merit, x, value)[0]

    def _uphill(self, answer: Answer, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Each image's gradient towards its present goal, like `x`, and its merit, (N,)."""
        x = x.detach().requires_grad_()
        logits = answer(x)
        error = -margin(logits.standard, label)
        quiet = likelihood(logits, wrong_class(logits, label))
        wrong, value = error.detach() > 0, merit(logits, label).detach()
        if not self.orthogonal:
            (gradient,) = torch.autograd.grad(torch.where(wrong, quiet, error).sum(), x)
            return gradient, value
        (of_error,) = torch.autograd.grad(error.sum(), x, retain_graph=True)
        (of_score,) = torch.autograd.grad(quiet.sum(), x)
        of_score = without(of_score, of_error)
        return torch.where(wrong.view(-1, 1, 1, 1), of_score, of_error), value

    def _inside(self, image: Tensor, x: Tensor) -> Tensor:
        return (image + self.threat.project(x - image)).clamp(0, 1)


def without(gradient: Tensor, direction: Tensor) -> Tensor:
    """What of each image's `gradient` (N, C, H, W) is orthogonal to its `direction`."""
    flat, along = gradient.flatten(1), direction.flatten(1)
    # Scaled first: a sure model's gradients are so small that their squares vanish.
    along = along / along.abs().amax(dim=1, keepdim=True).clamp_min(_TINY)
    share = (flat * along).sum(dim=1, keepdim=True)
    share = share / along.square().sum(dim=1, keepdim=True).clamp_min(_TINY)
    return (flat - share * along).view_as(gradient)


def _better(best: Tensor, best_merit: Tensor, x: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    ahead = value > best_merit
    return torch.where(ahead.view(-1, 1, 1, 1), x, best), torch.where(ahead, value, best_merit)
