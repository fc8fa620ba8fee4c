"""What a stage looks at: a checkpoint's model and some images of one split of its data.

Checks that the two fit each other. Neither attacks nor measures.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from training import checkpoint, data
from training.checkpoint import Header, shape_of
from training.config import ConfigError, Way
from training.data import DataError, Images, SplitName, Splits
from training.objective import TRAINED_WAYS
from training.three_way import ThreeWayModel

_KNOWN_DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10"}  # by scheme of the source


@dataclass(frozen=True, kw_only=True)
class Subject:
    """`images` are those at `index` (ascending) of the `available` images of a split."""

    model: ThreeWayModel  # in eval mode, on `device`
    device: torch.device
    header: Header
    source: str
    split: SplitName
    images: Images
    index: tuple[int, ...]
    available: int

    @property
    def dataset(self) -> str:
        """What figures are quoted with, where the user gives no name."""
        scheme, _, place = self.source.partition(":")
        return _KNOWN_DATA.get(scheme, f"{scheme}:{Path(place).name}")

    @property
    def drawn(self) -> list[int] | None:
        """The index where some images were drawn, None where they are all of the split."""
        return None if len(self.index) == self.available else list(self.index)

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways that the model's method trained; the others of a one-way model mean nothing."""
        return TRAINED_WAYS[self.header.config.method]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A checkpoint's model and its data, read once, for a subject of any split."""

    model: ThreeWayModel  # in eval mode, on `device`
    device: torch.device
    header: Header
    source: str
    splits: Splits

    def subject(self, split: SplitName, *, count: int | None, seed: int) -> Subject:
        """The model and images of one split.

        At most `count` images are drawn by `seed`, not taken from the front: a split may be sorted,
        and the first half of MNIST's test images is easier than the second.

        Raises:
            DataError: the data is of another shape or other classes, or its splits are not those
                of the training.
        """
        header = self.header
        if split != "test" and self.splits.train.digest() != header.data_sha256:
            raise DataError(
                f"{self.source} is cut otherwise than in training: its {split} split may hold "
                "images that the model was trained on"
            )
        images = self.splits.named(split)
        available = len(images)
        if shape_of(images) != header.shape:
            raise DataError(
                f"{self.source} has {_size(shape_of(images))} images; "
                f"the model takes {_size(header.shape)}"
            )
        if images.classes != header.classes:
            raise DataError(f"{self.source} has other classes than the model was trained on")
        index = choose(available, count, seed)
        return Subject(
            model=self.model,
            device=self.device,
            header=header,
            source=self.source,
            split=split,
            images=images.take(torch.tensor(index)),
            index=index,
            available=available,
        )


def open_checkpoint(path: Path, *, source: str | None, device: torch.device) -> Opened:
    """Read a checkpoint (the file, or the folder of its run) and its data.

    `source` replaces the config's data source, for data that has moved.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        DataError: the data cannot be read.
    """
    model, header = checkpoint.load_model(checkpoint.of(path), device)
    config = header.config.data
    if source is not None:
        config = dataclasses.replace(config, source=source)
    splits = data.load(config)
    # This layout makes convolutions about half as fast again on a CPU and costs nothing elsewhere.
    model.to(memory_format=torch.channels_last)
    return Opened(model=model, device=device, header=header, source=config.source, splits=splits)


def choose(available: int, count: int | None, seed: int) -> tuple[int, ...]:
    """Ascending positions of at most `count` of `available` images, all of them for None.

    A smaller sample of one seed lies within a larger one.

    Raises:
        ConfigError: fewer than one image.
    """
    if count is None or count >= available:
        return tuple(range(available))
    if count < 1:
        raise ConfigError(f"{count} images are too few to look at")
    order = torch.randperm(available, generator=torch.Generator().manual_seed(seed))
    return tuple(sorted(order[:count].tolist()))


def _size(shape: checkpoint.ImageShape) -> str:
    return f"{shape.channels}x{shape.height}x{shape.width}"
