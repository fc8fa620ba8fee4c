"""Attacks that know the detector: the ways must agree on a wrong class, not only one be fooled.

Each objective is a pure function of the three ways' logits with one value an image, above zero
where the attack has reached what it is after. `Adaptive` raises them with APGD from several starts
and keeps what succeeded. Knows no policy but agreement; the thresholds of scores are `calibrate`'s.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.attacks.apgd import APGD, Ascent
from training.threat import ThreatModel
from training.three_way import Logits

Answer = Callable[[Tensor], Logits]  # images (N, C, H, W) to the three ways' logits


def margin(logits: Tensor, label: Tensor) -> Tensor:
    """How far the class `label` is ahead of the best other one, (N,): above 0 where it is named."""
    index = label[:, None]
    others = logits.scatter(1, index, -torch.inf)
    return logits.gather(1, index)[:, 0] - others.amax(dim=1)


def consensus(logits: Logits, target: Tensor) -> Tensor:
    """The least margin of `target` over the three ways, (N,): above 0 where all of them name it."""
    return torch.stack([margin(way, target) for way in logits]).amin(dim=0)


def margins(logits: Tensor) -> Tensor:
    """`margin` of every class at once, (N, classes)."""
    best = logits.topk(2, dim=1).values
    leads = logits == best[:, :1]
    return torch.where(leads, logits - best[:, 1:], logits - best[:, :1])


def escape(logits: Logits, label: Tensor) -> Tensor:
    """Eq. 12 silent and the standard way wrong, (N,): above 0 where both are reached.

    The robust and the non-robust way may agree on any class, the true one too: the head is not
    linear, so the standard way is not the sum of the two.
    """
    agreed = torch.minimum(margins(logits.robust), margins(logits.nonrobust)).amax(dim=1)
    return torch.minimum(-margin(logits.standard, label), agreed)


def alarm(logits: Logits, label: Tensor) -> Tensor:
    """How far the non-robust way is from naming `label`, (N,): above 0 where it names another.

    With the robust way unmoved at `label`, that is a natural image that Eq. 12 flags.
    """
    return -margin(logits.nonrobust, label)


def unanimous(logits: Logits, label: Tensor) -> Tensor:
    """All three ways name the same wrong class, (N,): what strict agreement would accept."""
    named = [way.argmax(dim=1) for way in logits]
    return (named[0] == named[1]) & (named[1] == named[2]) & (named[0] != label)


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """Consensus on each of the likeliest wrong classes, from random starts and from a robust fool.

    `targets` classes an image, by the robust way's logits, as it is the way that is hard to turn;
    for each, APGD of `steps` from `restarts` random starts, and in small steps from where as many
    steps brought the robust way alone towards that class.
    """

    threat: ThreatModel
    steps: int = 100
    restarts: int = 1
    targets: int = 9

    def __call__(self, answer: Answer, image: Tensor, label: Tensor) -> Tensor:
        """Adversarial images (N, C, H, W); one that got through nowhere is its best attempt."""
        with torch.no_grad():
            natural = answer(image)
            best = image
            best_value = torch.full_like(natural.robust[:, 0], -torch.inf)
            done = unanimous(natural, label)
            order = natural.robust.scatter(1, label[:, None], -torch.inf).argsort(descending=True)
        classes = natural.robust.shape[1]
        for rank in range(min(self.targets, classes - 1)):
            target = order[:, rank]
            for attempt in range(self.restarts + 1):
                if done.all():
                    return best
                left = (~done).nonzero()[:, 0]
                ascent = self._towards(answer, image[left], target[left], dragged=attempt == 0)
                with torch.no_grad():
                    through = unanimous(answer(ascent.image), label[left])
                better = through | (ascent.value > best_value[left])
                best = best.clone()
                best[left[better]] = ascent.image[better]
                best_value[left[better]] = ascent.value[better]
                done[left[through]] = True
        return best

    def _towards(self, answer: Answer, image: Tensor, target: Tensor, *, dragged: bool) -> Ascent:
        apgd = APGD(threat=self.threat, steps=self.steps)
        start = None
        if dragged:
            start = apgd(lambda x: margin(answer(x).robust, target), image).image
        return apgd(lambda x: consensus(answer(x), target), image, start)
