"""The small CNN of the MNIST experiments (TRADES, and YOPO after it), without its output layer.

Four unpadded 3x3 convolutions in two pooled pairs, then two hidden layers of 200 with dropout
between them. The flattened size follows from the image's.
"""

from torch import Tensor, nn

from training.config import ConfigError

_HIDDEN = 200


class SmallCNN(nn.Module):
    """(N, channels, height, image_width) to (N, 200), the last ReLU included."""

    features = _HIDDEN

    def __init__(self, *, channels: int, height: int, image_width: int, width: int = 32) -> None:
        super().__init__()
        rows, columns = (((side - 4) // 2 - 4) // 2 for side in (height, image_width))
        if rows < 1 or columns < 1:
            raise ConfigError(
                f"small_cnn needs images of 16x16 or more, not {height}x{image_width}"
            )
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, width, 3),
            nn.ReLU(),
            nn.Conv2d(width, width, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.hidden = nn.Sequential(
            nn.Linear(2 * width * rows * columns, _HIDDEN),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight)
                nn.init.constant_(module.bias, 0.0)

    def forward(self, image: Tensor) -> Tensor:
        return self.hidden(self.convolutions(image).flatten(1))
