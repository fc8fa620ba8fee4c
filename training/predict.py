"""What a model says of images, natural or attacked, batch by batch, in exact float32.

Gives logits by way as numpy arrays. Knows no labels to compare them with, no files and no metrics.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.arrays import joined
from training.attacks.pgd import PGD, frozen
from training.checkpoint import CheckpointError
from training.config import Way
from training.data import Images, to_float
from training.three_way import ThreeWayModel

WAYS: tuple[Way, ...] = ("standard", "robust", "nonrobust")

Answers = Mapping[Way, NDArray[np.float32]]  # logits (N, classes) by way


@contextlib.contextmanager
def examined(model: ThreeWayModel) -> Iterator[None]:
    """Frozen and in eval mode, without the shortened float32 that GPUs convolve in by default."""
    with (
        frozen(model),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        yield


def batches(images: Images, size: int, device: torch.device) -> Iterator[tuple[int, Images]]:
    """The images in order, on `device`, `size` at a time, each with its first one's position."""
    for start in range(0, len(images), size):
        yield start, batch_at(images, start, size, device)


def batch_at(images: Images, position: int, size: int, device: torch.device) -> Images:
    """The at most `size` images from `position` on, on `device`."""
    return images.take(slice(position, position + size)).to(device)


def answer(model: ThreeWayModel, image: Tensor, ways: Sequence[Way]) -> Answers:
    """Logits of `ways` for one batch (N, C, H, W) in [0, 1]; each encoder runs at most once.

    Raises:
        CheckpointError: a logit is not finite, so that no label can be read from it.
    """
    with torch.no_grad():
        if len(ways) == len(WAYS):
            logits: dict[Way, Tensor] = dict(zip(WAYS, model(image), strict=True))
        else:
            logits = {way: model.way(image, way) for way in ways}
    answers: Answers = {way: part.float().cpu().numpy() for way, part in logits.items()}
    for way, part in answers.items():
        if not np.isfinite(part).all():
            raise CheckpointError(f"the model's {way} way answers with numbers that are not finite")
    return answers


def reseed(*numbers: int) -> None:
    """Make what torch draws next follow from these numbers alone."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def natural(
    model: ThreeWayModel, images: Images, ways: Sequence[Way], batch_size: int, device: torch.device
) -> Answers:
    """What `ways` say of all images as they are."""
    return joined(
        [
            answer(model, to_float(batch.pixels), ways)
            for _, batch in batches(images, batch_size, device)
        ]
    )


def attacked(
    model: ThreeWayModel, way: Way, attack: PGD, batch: Images, *, seed: int, position: int
) -> Tensor:
    """Adversarial images (N, C, H, W) in [0, 1] for one batch, against the true labels and `way`.

    The random start follows from the seed, the way and the batch's `position` alone, so that one
    attack comes out the same whatever ran before it.
    """
    reseed(seed, WAYS.index(way), position)
    return attack(lambda x: model.way(x, way), to_float(batch.pixels), batch.label)
