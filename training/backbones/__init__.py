"""Encoders by name: classifiers without their output layer, (N, C, H, W) to (N, features)."""

from typing import NamedTuple

from torch import nn

from training.backbones.preact_resnet import PreActResNet18
from training.backbones.small_cnn import SmallCNN
from training.backbones.torchvision_backbone import TorchvisionBackbone
from training.backbones.wide_resnet import WideResNet34
from training.config import ConfigError, ModelConfig


class Encoder(NamedTuple):
    """A fresh encoder and the width of what it returns."""

    network: nn.Module
    features: int


def build(config: ModelConfig, *, channels: int, height: int, width: int) -> Encoder:
    """A fresh encoder for images of this shape.

    Raises:
        ConfigError: unknown name, images that the network cannot take, or a width where it has no
            such knob.
    """
    name, _, variant = config.backbone.partition(":")
    options = {} if config.width is None else {"width": config.width}
    network: SmallCNN | PreActResNet18 | WideResNet34 | TorchvisionBackbone
    if name == "small_cnn":
        network = SmallCNN(channels=channels, height=height, image_width=width, **options)
    elif name == "preact_resnet18":
        network = PreActResNet18(channels=channels, **options)
    elif name == "wide_resnet34_10":
        network = WideResNet34(channels=channels, **options)
    elif name == "torchvision" and variant:
        if options:
            raise ConfigError(f"model.width={config.width}: torchvision networks have no width")
        network = TorchvisionBackbone(variant, channels=channels, height=height, width=width)
    else:
        raise ConfigError(
            f"unknown backbone {config.backbone!r}; "
            "known: small_cnn, preact_resnet18, wide_resnet34_10, torchvision:NAME"
        )
    return Encoder(network, network.features)
