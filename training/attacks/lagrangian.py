"""The weighted sum of both goals (Carlini & Wagner 2017): fool the standard way at a low score.

The usual first attempt on a detector, kept as a baseline to the attacks that need no weight. Knows
no threshold.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from training.attacks.adaptive import Answer
from training.attacks.apgd import APGD
from training.attacks.score import merit, score_of, wrong_class
from training.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class Lagrangian:
    """APGD of `steps` down cross entropy + weight * score, once a weight; the best of them is kept.

    Both towards the wrong class that the robust way is nearest to naming at each step, which gets
    further than the standard way's: the other ways follow easily.
    """

    threat: ThreatModel
    steps: int
    weights: tuple[float, ...] = (1.0, 10.0, 100.0)

    def __call__(self, answer: Answer, image: Tensor, label: Tensor) -> Tensor:
        """Adversarial images (N, C, H, W) in [0, 1] within the threat model."""
        apgd = APGD(threat=self.threat, steps=self.steps)
        found = [
            apgd(partial(self._objective, answer, label, weight), image).image
            for weight in self.weights
        ]
        with torch.no_grad():
            merits = torch.stack([merit(answer(x), label) for x in found])
        return torch.stack(found)[merits.argmax(dim=0), torch.arange(len(image))]

    def _objective(self, answer: Answer, label: Tensor, weight: float, x: Tensor) -> Tensor:
        logits = answer(x)
        target = wrong_class(logits, label)
        loss = cross_entropy(logits.standard, target, reduction="none")
        return -(loss + weight * score_of(logits.robust, target))
