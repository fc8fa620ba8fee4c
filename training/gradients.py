"""What a way's loss would have changed in an image (Figure 3; Tsipras et al. 2019).

Gradients and how they are shown. Knows a model's ways; neither files nor figures.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from training.config import Way
from training.three_way import ThreeWayModel

_DEVIATIONS = 3.0  # beyond which a gradient is clipped (appendix D.1)


def loss_gradient(model: ThreeWayModel, image: Tensor, label: Tensor, way: Way) -> Tensor:
    """Gradient of each image's loss by its pixels, (N, C, H, W); the model in eval mode."""
    image = image.detach().requires_grad_()
    loss = cross_entropy(model.way(image, way), label, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, image)
    return gradient


def shown(gradient: Tensor) -> Tensor:
    """As an image in [0, 1]: each clipped at 3 standard deviations of its mean, then rescaled.

    A gradient of nothing but one value becomes grey.
    """
    flat = gradient.flatten(1)
    mean, reach = flat.mean(dim=1, keepdim=True), _DEVIATIONS * flat.std(dim=1, keepdim=True)
    clipped = torch.clamp(flat, mean - reach, mean + reach)
    low, high = clipped.amin(dim=1, keepdim=True), clipped.amax(dim=1, keepdim=True)
    spread = high - low
    scaled = torch.where(
        spread > 0, (clipped - low) / spread.clamp_min(torch.finfo(flat.dtype).tiny), 0.5
    )
    return scaled.view_as(gradient)
