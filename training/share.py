"""One process's share of a batch: random numbers are drawn for the whole and cut to the share.

So the step of several processes is that of one process with the whole batch, in its attacks' random
starts and its dropout masks too. Knows places in a batch, not how processes talk to each other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part `rank` of a batch in `size` equal parts, in order; the whole batch by default."""

    rank: int = 0
    size: int = 1

    def of(self, batch: Tensor) -> Tensor:
        """This share of the whole batch (N, ...): (N / size, ...)."""
        return batch if self.size == 1 else batch.chunk(self.size)[self.rank]

    def drawn(self, draw: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        """This share of `draw(whole batch)`, for a `draw` that looks at its argument's form alone.

        Every process takes as many numbers from torch's global generator as one process would.
        """
        if self.size == 1:
            return draw(image)
        return self.of(draw(torch.cat([image] * self.size)))


WHOLE = Share()


class SharedDropout(nn.Dropout):
    """Dropout whose masks are drawn for the whole batch.

    `images` is the length of a share; several batches at once (k * images, ...) get the masks that
    one process would draw for (k * size * images, ...).
    """

    def __init__(self, p: float, *, share: Share, images: int) -> None:
        super().__init__(p)
        self.share = share
        self.images = images

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return input
        batches = len(input) // self.images
        ones = input.new_ones(len(input) * self.share.size, *input.shape[1:])
        mask = dropout(ones, self.p).unflatten(0, (batches, self.share.size, self.images))
        return input * mask[:, self.share.rank].flatten(0, 1)


def share_dropout(model: nn.Module, share: Share, images: int) -> None:
    """Replace the model's dropout layers, in place, for batches of `images` a process."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, SharedDropout(child.p, share=share, images=images))
