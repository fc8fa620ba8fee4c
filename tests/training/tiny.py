"""The smallest experiment that has everything: two ways' worth of network, images that differ."""

from typing import Any

import torch

from training.checkpoint import ImageShape, build_model
from training.config import Config, from_dict
from training.data import Images, Splits
from training.three_way import ThreeWayModel


def values(**sections: Any) -> dict[str, Any]:
    """Plain values; each keyword replaces keys of a section, or the top-level value itself."""
    base: dict[str, Any] = {
        "name": "tiny",
        "method": "aat++",
        "seed": 3,
        "data": {"source": "mnist:data", "validation": 4, "calibration": 4},
        "model": {"backbone": "small_cnn", "width": 1},
        "attack": {
            "norm": "linf",
            "eps": "0.2",
            "standard": {"steps": 1, "step_size": "0.1"},
            "robust": {"steps": 1, "step_size": "0.1"},
            "nonrobust": {"steps": 1, "step_size": "0.1"},
        },
        "optimizer": {"lr": 0.05, "batch_size": 4, "epochs": 3},
        "compute": {},
        "loss": {},
    }
    for name, value in sections.items():
        base[name] = {**base[name], **value} if isinstance(value, dict) else value
    return base


def config(**sections: Any) -> Config:
    return from_dict(values(**sections))


def model(backbone: str = "small_cnn", *, width: int = 2, channels: int = 1) -> ThreeWayModel:
    """For images of 16 x 16 and three classes, the same weights each time."""
    torch.manual_seed(0)
    experiment = config(model={"backbone": backbone, "width": width})
    return build_model(experiment, ImageShape(channels=channels, height=16, width=16), 3)


def images(count: int = 13, *, seed: int = 0, side: int = 16) -> Images:
    """Grey noise of two classes."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, side, side), generator=generator, dtype=torch.uint8)
    return Images(pixels=pixels, label=torch.arange(count) % 2, classes=("even", "odd"))


def splits(count: int = 13, *, seed: int = 0) -> Splits:
    return Splits(
        train=images(count, seed=seed),
        validation=images(6, seed=100),
        calibration=images(6, seed=101),
        test=images(6, seed=102),
    )
