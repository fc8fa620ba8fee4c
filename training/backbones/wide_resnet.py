"""Wide ResNet 34-10 (Zagoruyko & Komodakis 2016), without its output layer and without dropout."""

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu

from training.backbones.preact_resnet import PreActBlock
from training.precision import exact

_STEM = 16
_BLOCKS_A_STAGE = 5  # depth 34 = 6 * 5 + 4


class WideResNet34(nn.Module):
    """(N, channels, H, W) to (N, 4 * width); `width` is the first stage's, 160 for widening 10.

    Its blocks are the pre-activation blocks of ResNet-18: where the number of channels stays, the
    identity is added, else a 1x1 projection of the pre-activated tensor.
    """

    def __init__(self, *, channels: int, width: int = 160) -> None:
        super().__init__()
        self.features = 4 * width
        self.stem = nn.Conv2d(channels, _STEM, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        inputs = _STEM
        for stage, stride in enumerate((1, 2, 2)):
            outputs = width * 2**stage
            for position in range(_BLOCKS_A_STAGE):
                blocks.append(PreActBlock(inputs, outputs, stride if position == 0 else 1))
                inputs = outputs
        self.stages = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(inputs)

    def forward(self, image: Tensor) -> Tensor:
        activated = relu(self.norm(self.stages(exact(self.stem, image))))
        return adaptive_avg_pool2d(activated, 1).flatten(1)
