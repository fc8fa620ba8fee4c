"""Projected gradient descent (Madry et al. 2018; Eq. 2 of the paper) against any logits.

Knows a threat model and a function from images to logits. It neither picks a way nor stores
results, and it leaves the model as it found it: attacked in eval mode with frozen parameters, then
put back.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from training.share import WHOLE, Share
from training.threat import ThreatModel

Classifier = Callable[[Tensor], Tensor]


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients for parameters; the former state returns at the end.

    In train mode an attack would move batch statistics and draw dropout masks, so that it would
    search a different function at each step.
    """
    modes = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval()
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, requires_grad in wanted.items():
            parameter.requires_grad_(requires_grad)


@dataclass(frozen=True, kw_only=True)
class PGD:
    """`steps` steps of steepest ascent on the cross entropy, projected to the ball and to [0, 1].

    The random start is not clipped to [0, 1] before the first gradient, the last iterate is
    returned and there are no restarts: the paper's settings (section 2.1 of the YOPO code it
    follows). Zero steps return the clipped random start. `share` says which part of a larger batch
    the images are, for the start is drawn for all of it.
    """

    threat: ThreatModel
    steps: int
    step_size: float
    random_start: bool = True
    share: Share = WHOLE

    def __call__(self, classifier: Classifier, image: Tensor, label: Tensor) -> Tensor:
        """Adversarial images like `image` (N, C, H, W) in [0, 1], within the threat model."""
        delta = self.start(image)
        for _ in range(self.steps):
            delta = delta.detach().requires_grad_()
            loss = cross_entropy(classifier(image + delta), label, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, delta)
            delta = self.move(image, delta, gradient)
        return self.end(image, delta)

    def start(self, image: Tensor) -> Tensor:
        """The first perturbation, (N, C, H, W)."""
        if not self.random_start:
            return torch.zeros_like(image)
        return self.share.drawn(self.threat.random_start, image)

    @torch.no_grad()
    def move(self, image: Tensor, delta: Tensor, gradient: Tensor) -> Tensor:
        """One step up the loss, back to the ball and to images in [0, 1]."""
        moved = (image + delta + self.threat.step(gradient, self.step_size)).clamp(0, 1)
        return self.threat.project(moved - image)

    @torch.no_grad()
    def end(self, image: Tensor, delta: Tensor) -> Tensor:
        """The adversarial images. Clipping comes last, as it only shortens a perturbation."""
        return (image + self.threat.project(delta)).clamp(0, 1)
