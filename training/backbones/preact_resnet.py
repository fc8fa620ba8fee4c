"""Pre-activation ResNet-18 for small images (He et al. 2016b), without its output layer.

In the form of the code that the paper follows: a 3x3 stem without stride, four stages of two
blocks, 1x1 shortcuts taken from the pre-activated tensor, and no normalisation after the last
block.
"""

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu

from training.precision import exact


class PreActBlock(nn.Module):
    """BN-ReLU-conv twice, added to the input or to its 1x1 projection."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            if stride != 1 or inputs != outputs
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        activated = relu(self.norm1(x))
        kept = x if self.shortcut is None else self.shortcut(activated)
        return self.conv2(relu(self.norm2(self.conv1(activated)))) + kept


class PreActResNet18(nn.Module):
    """(N, channels, H, W) to (N, 8 * width), averaged over the last stage's positions."""

    def __init__(self, *, channels: int, width: int = 64) -> None:
        super().__init__()
        self.features = 8 * width
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        inputs = width
        for stage, stride in enumerate((1, 2, 2, 2)):
            outputs = width * 2**stage
            blocks += [PreActBlock(inputs, outputs, stride), PreActBlock(outputs, outputs, 1)]
            inputs = outputs
        self.stages = nn.Sequential(*blocks)

    def forward(self, image: Tensor) -> Tensor:
        return adaptive_avg_pool2d(self.stages(exact(self.stem, image)), 1).flatten(1)
