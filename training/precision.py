"""Where a computation must be exact inside an autocast region: stems, heads and losses.

bfloat16 keeps 8 bits of a number: enough for the blocks of a network, too few for a pixel that
moved by 1/255 and for differences of logits.
"""

import contextlib

import torch
from torch import Tensor, nn


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Within, float32 tensors are computed with as such; nothing is done outside autocast."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def exact(module: nn.Module, image: Tensor) -> Tensor:
    """`module(image)` in float32, handed on in the precision of the region around it.

    A float32 tensor handed on would make every residual sum after it float32 as well.
    """
    device = image.device.type
    with full_precision(image.device):
        result = module(image)
    return (
        result.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else result
    )
