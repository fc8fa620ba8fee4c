"""The graded score as an attacker sees it: differentiable, and with a slope where it has none.

`score` is `training.metrics.score` in torch. Its argmax has no gradient, so the objectives here put
the attacker's own class in its place: the wrong one that all ways are meant to name. Pure
functions of the three ways' logits with one value an image. Knows no attack.
"""

import math

import torch
from torch import Tensor

from training.attacks.margin import consensus, margin, margins
from training.three_way import Logits

_UNREACHED = 1e6  # below every log-odds that float32 logits give


def odds(logits: Tensor, target: Tensor) -> Tensor:
    """Log-odds of the class `target`, (N,): log(p / (1 - p)), without the rounding of p at 1."""
    index = target[:, None]
    others = logits.scatter(1, index, -torch.inf)
    return logits.gather(1, index)[:, 0] - others.logsumexp(dim=1)


def score_of(robust: Tensor, target: Tensor) -> Tensor:
    """1 - p_robust[target], (N,) in [0, 1]: the score where the non-robust way names `target`."""
    return torch.sigmoid(-odds(robust, target))


def score(logits: Logits) -> Tensor:
    """1 - p_robust[argmax of the non-robust way], (N,): higher is more likely adversarial."""
    return score_of(logits.robust, logits.nonrobust.argmax(dim=1))


def needed_odds(threshold: float) -> float:
    """Log-odds of the robust way at which the score meets `threshold`; -inf where none are needed.

    At 0 those at which a probability in double precision is 1.
    """
    if threshold >= 1.0:
        return -math.inf
    least = max(threshold, 2.0**-53)
    return math.log1p(-least) - math.log(least)


def unsuspected(logits: Logits, target: Tensor, threshold: float) -> Tensor:
    """The standard and the non-robust way name `target` and the score stays below `threshold`.

    The least of the three distances, (N,), in units of logits: above 0 where all is reached.
    """
    named = torch.minimum(margin(logits.standard, target), margin(logits.nonrobust, target))
    return torch.minimum(named, odds(logits.robust, target) - needed_odds(threshold))


def unanimous_unsuspected(logits: Logits, target: Tensor, threshold: float) -> Tensor:
    """All three ways name `target` and the score stays below `threshold`, (N,): above 0 there."""
    return torch.minimum(consensus(logits, target), unsuspected(logits, target, threshold))


def quiet_error(logits: Logits, label: Tensor, threshold: float) -> Tensor:
    """The standard way wrong and the score below `threshold`, on whatever class, the true one too.

    (N,), above 0 where both are reached. The class is the one that the robust and the non-robust
    way agree on most, right or wrong: the graded form of `margin.escape`.
    """
    shared = torch.minimum(margins(logits.robust), margins(logits.nonrobust)).argmax(dim=1)
    believed = odds(logits.robust, shared) - needed_odds(threshold)
    quiet = torch.minimum(margin(logits.nonrobust, shared), believed)
    return torch.minimum(-margin(logits.standard, label), quiet)


def wrong_class(logits: Logits, label: Tensor) -> Tensor:
    """The wrong class that the robust way is nearest to naming, (N,): it is the hardest to turn."""
    return logits.robust.scatter(1, label[:, None], -torch.inf).argmax(dim=1)


def likelihood(logits: Logits, target: Tensor) -> Tensor:
    """log(p_robust[target] * p_nonrobust[target]), (N,): the score's smooth stand-in, falling.

    Where the non-robust way names `target`, raising the first factor lowers the score, along the
    score's own gradient but without its vanishing far from the goal; the second makes it name it.
    """
    index = target[:, None]
    ways = (logits.robust, logits.nonrobust)
    return torch.stack([way.log_softmax(dim=1).gather(1, index)[:, 0] for way in ways]).sum(dim=0)


def merit(logits: Logits, label: Tensor) -> Tensor:
    """What an attacker on the score prefers, (N,) in double precision: higher is better.

    An image that the standard way misnames before one that it does not; among the first the one of
    the lower score, among the others the one that is nearest to being misnamed.
    """
    ahead = -margin(logits.standard, label).double()
    quiet = odds(logits.robust, logits.nonrobust.argmax(dim=1)).double()
    return torch.where(ahead > 0, quiet, ahead.clamp(max=0) - _UNREACHED)
