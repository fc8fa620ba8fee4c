"""The stage `round`: a checkpoint whose kernels and matrices are rounded to half precision.

Another model, so it is made before it is measured, and `evaluate`, `stress`, `attack` and `export`
take it like any checkpoint: none can look at other weights than the ones that are shipped. Vectors
(biases, all of BatchNorm) stay float32: they weigh nothing, and running variances span more
than half precision can. Rounds; measures nothing.
"""

from dataclasses import replace

import torch
from torch import Tensor

from training.checkpoint import Checkpoint, weights_digest
from training.config import ConfigError

FOLDER = "float16"  # of the rounded weights, in the run's

_HALF_STEP = 2.0**-11  # what half precision may err by, relative to a number within its range


def rounded(checkpoint: Checkpoint) -> Checkpoint:
    """The weights to use alone, stored as float16 where they were rounded.

    A tensor that half precision would change by more than its rounding step, in norm, is too large
    or too small for it and stays float32. What BatchNorm counts while it trains is left out.

    Raises:
        ConfigError: the weights are rounded already.
    """
    header = checkpoint.header
    if header.rounded:
        raise ConfigError("these weights are rounded already")
    weights = {
        name: _rounded(weight)
        for name, weight in checkpoint.averaged.items()
        if not name.endswith("num_batches_tracked")
    }
    header = replace(
        header, weights_sha256=weights_digest(weights), rounded_from=header.weights_sha256
    )
    return Checkpoint(header=header, model={}, averaged=weights, optimizer={})


def summary(weights: dict[str, Tensor]) -> str:
    """How many tensors, and what share of all numbers, are in half precision."""
    halves = [weight for weight in weights.values() if weight.dtype == torch.float16]
    numbers = sum(weight.numel() for weight in weights.values())
    share = sum(half.numel() for half in halves) / numbers
    return f"{len(halves)} of {len(weights)} tensors in half precision, {share:.2%} of the weights"


def _rounded(weight: Tensor) -> Tensor:
    if weight.dtype != torch.float32 or weight.ndim < 2:
        return weight
    half = weight.half()
    error = (half.double() - weight.double()).norm()
    return half if error <= _HALF_STEP * weight.double().norm() else weight
