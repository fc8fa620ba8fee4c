"""Attacks that know the detector: the ways must agree on a wrong class, not only one be fooled.

`Adaptive` raises an objective over the three ways (`margin`, `score`) with APGD from several starts
and towards several classes, and keeps what succeeded. Knows no policy; what its aim means is the
caller's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.attacks.apgd import APGD, Ascent
from training.attacks.margin import consensus, margin
from training.threat import ThreatModel
from training.three_way import Logits

Answer = Callable[[Tensor], Logits]  # images (N, C, H, W) to the three ways' logits
Aim = Callable[[Logits, Tensor], Tensor]  # logits and a class (N,) to values (N,), above 0: reached


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """`aim` at each of the likeliest wrong classes, from random starts and from a robust fool.

    `targets` classes an image, by the robust way's logits, as it is the way that is hard to turn;
    for each, APGD of `steps` from `restarts` random starts, and in small steps from where as many
    steps brought the robust way alone towards that class.
    """

    threat: ThreatModel
    steps: int = 100
    restarts: int = 1
    targets: int = 9
    aim: Aim = consensus

    def __call__(self, answer: Answer, image: Tensor, label: Tensor) -> Tensor:
        """Adversarial images (N, C, H, W); one that got through nowhere is its best attempt."""
        with torch.no_grad():
            natural = answer(image)
            best = image
            best_value = torch.full_like(natural.robust[:, 0], -torch.inf)
            named = natural.standard.argmax(dim=1)
            done = (named != label) & (self.aim(natural, named) > 0)
            order = natural.robust.scatter(1, label[:, None], -torch.inf).argsort(descending=True)
        classes = natural.robust.shape[1]
        for rank in range(min(self.targets, classes - 1)):
            target = order[:, rank]
            for attempt in range(self.restarts + 1):
                if done.all():
                    return best
                left = (~done).nonzero()[:, 0]
                ascent = self._towards(answer, image[left], target[left], dragged=attempt == 0)
                better = ascent.value > best_value[left]
                best = best.clone()
                best[left[better]] = ascent.image[better]
                best_value[left[better]] = ascent.value[better]
                done[left] = ascent.value > 0
        return best

    def _towards(self, answer: Answer, image: Tensor, target: Tensor, *, dragged: bool) -> Ascent:
        apgd = APGD(threat=self.threat, steps=self.steps)
        start = None
        if dragged:
            start = apgd(lambda x: margin(answer(x).robust, target), image).image
        return apgd(lambda x: self.aim(answer(x), target), image, start)
