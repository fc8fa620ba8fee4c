"""Several attacks on one batch in one graph: the training attacks of AAT++ at a third of the calls.

The attacks on the standard, the robust and the non-robust way move perturbations of their own, so
the gradient of the summed loss is each one's own gradient, and an encoder can look at all of its
images at once. Knows which way each attack is on, not what a way is; the arithmetic of a step is
`pgd`'s.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from training.attacks.pgd import PGD
from training.config import Way

WayClassifier = Callable[[Mapping[Way, Tensor]], Mapping[Way, Tensor]]


@dataclass(frozen=True, kw_only=True)
class FusedPGD:
    """PGD against several ways at once; equal to running `attacks` one after another.

    An attack with fewer steps than another drops out of the graph when it is done. Random starts
    are drawn in the order of `attacks`, as they would be one after another.
    """

    attacks: Mapping[Way, PGD]

    def __call__(
        self, classifier: WayClassifier, image: Tensor, label: Tensor
    ) -> dict[Way, Tensor]:
        """Adversarial images by way, each like `image` (N, C, H, W) in [0, 1].

        `classifier` maps each way's images to that way's logits.
        """
        delta = {way: attack.start(image) for way, attack in self.attacks.items()}
        for step in range(max((attack.steps for attack in self.attacks.values()), default=0)):
            going = {way: attack for way, attack in self.attacks.items() if step < attack.steps}
            moving = {way: delta[way].detach().requires_grad_() for way in going}
            logits = classifier({way: image + part for way, part in moving.items()})
            loss = torch.stack(
                [cross_entropy(logits[way], label, reduction="sum") for way in going]
            ).sum()
            gradients = torch.autograd.grad(loss, list(moving.values()))
            for (way, attack), gradient in zip(going.items(), gradients, strict=True):
                delta[way] = attack.move(image, moving[way], gradient)
        return {way: attack.end(image, delta[way]) for way, attack in self.attacks.items()}
