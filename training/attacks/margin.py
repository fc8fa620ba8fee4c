"""How far the ways are from naming a class: objectives that are above zero where they do.

Pure functions of the logits of one way or of all three, with one value an image. Knows neither
attacks nor scores.
"""

import torch
from torch import Tensor

from training.three_way import Logits


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
