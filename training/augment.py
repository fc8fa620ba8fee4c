"""Random translation and mirroring of a batch, on the device the batch is on.

Pure functions of the batch and torch's global generator; they know neither labels nor models.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad


def random_shift(image: Tensor, pixels: int) -> Tensor:
    """Each image moved by up to `pixels` in both directions, zeros coming in from the edge.

    One gather for the whole batch (N, C, H, W), any dtype.
    """
    if pixels == 0:
        return image
    count, _, height, width = image.shape
    padded = pad(image, (pixels,) * 4)
    offsets = torch.randint(0, 2 * pixels + 1, (2, count, 1), device=image.device)
    rows = offsets[0] + torch.arange(height, device=image.device)
    columns = offsets[1] + torch.arange(width, device=image.device)
    index = torch.arange(count, device=image.device)
    picked = padded[index[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def random_flip(image: Tensor) -> Tensor:
    """Each image mirrored left to right with probability one half."""
    mirrored = torch.rand(len(image), 1, 1, 1, device=image.device) < 0.5
    return torch.where(mirrored, image.flip(3), image)
