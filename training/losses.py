"""The paper's training losses, one pure function an equation.

Every function takes logits and labels and returns a scalar; none attacks, steps, detaches or knows
a model. Logits are (N, C), labels are (N,) class indices. "Kept" masks are Algorithm 1's: an
adversarial image counts only if it is misclassified, and the mean is over the whole batch of N, so
that an image that is discarded weighs nothing rather than making the others heavier.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def kept(predicted: Tensor, label: Tensor) -> Tensor:
    """Algorithm 1: the images whose adversarial prediction is wrong, (N,) of 0.0 and 1.0."""
    return (predicted != label).to(torch.float32)


def masked_cross_entropy(logits: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy of the kept images, summed and divided by the whole batch."""
    return (mask * cross_entropy(logits, label, reduction="none")).mean()


def one_way_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Standard training of a single way, Eq. 1."""
    return cross_entropy(logits, label)


def standard_loss(standard: Tensor, robust: Tensor, nonrobust: Tensor, label: Tensor) -> Tensor:
    """L_ST, Eq. 6: all three ways name the natural image's class."""
    return (
        cross_entropy(standard, label)
        + cross_entropy(robust, label)
        + cross_entropy(nonrobust, label)
    )


def asymmetric_loss(robust: Tensor, nonrobust: Tensor, label: Tensor, predicted: Tensor) -> Tensor:
    """L_AS, Eq. 7, on x_adv^s: the robust way keeps the label, the non-robust way follows.

    `robust` and `nonrobust` are those ways' logits on the standard way's adversarial image and
    `predicted` (y_hat_s) what the standard way made of it; correctly classified images are dropped.
    """
    mask = kept(predicted, label)
    return masked_cross_entropy(robust, label, mask) + masked_cross_entropy(
        nonrobust, predicted, mask
    )


def robust_loss(robust: Tensor, label: Tensor) -> Tensor:
    """L_AR, Eq. 9, on x_adv^r: adversarial training of the robust way, no image dropped."""
    return cross_entropy(robust, label)


def nonrobust_loss(nonrobust: Tensor, label: Tensor, predicted: Tensor) -> Tensor:
    """L_AN, Eq. 10, on x_adv^n: the non-robust way learns what it was fooled into (y_hat_n)."""
    return masked_cross_entropy(nonrobust, predicted, kept(predicted, label))


def total_loss(
    standard: Tensor,
    asymmetric: Tensor | float = 0.0,
    robust: Tensor | float = 0.0,
    nonrobust: Tensor | float = 0.0,
) -> Tensor:
    """Total of AAT++, Eq. 11: L_ST + L_AS + L_AR + L_AN; of AAT, Eq. 8, without the last two."""
    return standard + asymmetric + robust + nonrobust


def half_half_loss(natural: Tensor, adversarial: Tensor, label: Tensor) -> Tensor:
    """Half-half adversarial training (the paper's footnote 2): natural plus adversarial."""
    return cross_entropy(natural, label) + cross_entropy(adversarial, label)
