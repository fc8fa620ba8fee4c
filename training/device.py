"""Which device a stage computes on."""

import torch

from training.config import ConfigError


def choose(name: str) -> torch.device:
    """`auto` takes CUDA where there is a device; `cuda` insists on one.

    Raises:
        ConfigError: CUDA was asked for and is absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch finds no CUDA device here")
    cuda = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")
