"""Any torchvision classifier as an encoder: its output layer is found and removed.

Weights are random; grey images are repeated to three channels. Knows no family by name but the two
that answer with auxiliary outputs in train mode, which are switched off.
"""

import torch
import torchvision
from torch import Tensor, nn

from training.config import ConfigError

_AUXILIARY = {"googlenet", "inception_v3"}
_MARK = 1009  # a class count that no hidden layer has, so that the output layer is found by it


class TorchvisionBackbone(nn.Module):
    """(N, 1 or 3, H, W) to (N, features), features being the removed layer's input width."""

    def __init__(self, name: str, *, channels: int, height: int, width: int) -> None:
        super().__init__()
        if name not in torchvision.models.list_models(module=torchvision.models):
            raise ConfigError(f"torchvision has no classifier {name!r}")
        self.repeat = 3 // channels
        auxiliary = {"aux_logits": False, "init_weights": True} if name in _AUXILIARY else {}
        self.network = torchvision.models.get_model(
            name, weights=None, num_classes=_MARK, **auxiliary
        )
        self.features = self._behead(name)
        self._try(name, torch.zeros(1, channels, height, width))

    def _behead(self, name: str) -> int:
        for path, module in reversed(list(self.network.named_modules())):
            if isinstance(module, nn.Linear) and module.out_features == _MARK:
                inputs = module.in_features
            elif isinstance(module, nn.Conv2d) and module.out_channels == _MARK:
                inputs = module.in_channels
            else:
                continue
            parent, _, leaf = path.rpartition(".")
            setattr(self.network.get_submodule(parent), leaf, nn.Identity())
            return inputs
        raise ConfigError(f"the output layer of torchvision's {name!r} was not found")

    @torch.no_grad()
    def _try(self, name: str, image: Tensor) -> None:
        """Many families need images of some least or fixed size, and each says so differently."""
        self.eval()
        try:
            self(image)
        except (RuntimeError, ValueError, AssertionError) as error:
            size = "x".join(str(side) for side in image.shape[1:])
            raise ConfigError(f"torchvision's {name!r} cannot take images of {size}") from error
        self.train()

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image.repeat(1, self.repeat, 1, 1))
