"""Labelled images in memory, from a source named by a string, cut into four splits.

Sources: `mnist:DIR`, `cifar10:DIR` (torchvision's formats, downloaded where absent),
`imagefolder:DIR` and `parquet:DIR` (Hugging Face layout). Validation and calibration are cut from
the training set; the test split is the source's own and is touched by evaluation alone. Knows
nothing of models; images stay uint8 until they are used.
"""

import hashlib
import io
import json
import tempfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet
import torch
import torchvision
from PIL import Image, ImageOps
from torch import Tensor

from training.config import DataConfig
from training.errors import TrainingError

SplitName = Literal["train", "validation", "calibration", "test"]


_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_ELSEWHERE = "where the files lie already, name that folder, as in data.source=mnist:DIR"
# What torchvision and the decompressors raise for absent, damaged and unreachable files.
_UNREADABLE = (RuntimeError, OSError, EOFError, ValueError, AssertionError, zlib.error)


class DataError(TrainingError):
    """A source cannot be read; the message names it and what was expected."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """`pixels` uint8 (N, C, H, W), `label` int64 (N,), `classes` the names in label order."""

    pixels: Tensor
    label: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Tensor | slice) -> "Images":
        """The images at `index`, in that order."""
        return Images(pixels=self.pixels[index], label=self.label[index], classes=self.classes)

    def to(self, device: torch.device) -> "Images":
        """The same images on another device."""
        return Images(
            pixels=self.pixels.to(device), label=self.label.to(device), classes=self.classes
        )

    def digest(self) -> str:
        """SHA-256 of pixels and labels."""
        state = hashlib.sha256(self.pixels.cpu().numpy().tobytes())
        state.update(self.label.cpu().numpy().tobytes())
        return state.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Splits:
    train: Images
    validation: Images
    calibration: Images
    test: Images

    def named(self, name: SplitName) -> Images:
        return {
            "train": self.train,
            "validation": self.validation,
            "calibration": self.calibration,
            "test": self.test,
        }[name]


def to_float(pixels: Tensor) -> Tensor:
    """uint8 pixels as float32 in [0, 1]; exactly what the service makes of the same PNG."""
    return pixels.to(torch.float32) / 255.0


def load(config: DataConfig) -> Splits:
    """Read the source and cut the splits; the same seed always gives the same cut.

    Raises:
        DataError: unknown scheme, missing or unreadable files, too few training images, a class of
            the source's own without any, or only one class.
    """
    scheme, colon, place = config.source.partition(":")
    readers = {
        "mnist": _read_mnist,
        "cifar10": _read_cifar10,
        "imagefolder": _read_imagefolder,
        "parquet": _read_parquet,
    }
    if not colon or scheme not in readers:
        raise DataError(f"{config.source!r} is not a source; write one of {'|'.join(readers)}:DIR")
    train, test = (readers[scheme](Path(place), part, config) for part in ("train", "test"))
    if train.classes != test.classes:
        raise DataError(f"{config.source}: train and test have different classes")
    _check(train, test, config.source)
    return split(train, test, config)


def split(train: Images, test: Images, config: DataConfig) -> Splits:
    """Cut validation and calibration from `train`, at random but fixed by `split_seed`.

    Raises:
        DataError: nothing would be left to train on.
    """
    held_out = config.validation + config.calibration
    if held_out >= len(train):
        raise DataError(f"{held_out} held-out images leave none of {len(train)} to train on")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(config.split_seed))
    return Splits(
        validation=train.take(order[: config.validation]),
        calibration=train.take(order[config.validation : held_out]),
        train=train.take(order[held_out:]),
        test=test,
    )


def _check(train: Images, test: Images, source: str) -> None:
    """Refuse what a classifier cannot be trained on or measured with."""
    classes = train.classes
    if len(classes) < 2:
        raise DataError(f"{source}: one class, {classes[0]}; there is nothing to tell apart")
    if twice := [name for name in classes if classes.count(name) > 1]:
        raise DataError(f"{source}: two classes are named {twice[0]}")
    for part, images in (("train", train), ("test", test)):
        if not len(images):
            raise DataError(f"{source}: no {part} images")
        if int(images.label.max()) >= len(classes):
            highest = int(images.label.max())
            raise DataError(f"{source}: {part} label {highest}, but {len(classes)} classes")
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        raise DataError(f"{source}: train and test images differ in size; set data.image_size")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _read_mnist(place: Path, part: str, config: DataConfig) -> Images:
    raw = place / "MNIST" / "raw"
    archives = [raw / f"{name}.gz" for name in _MNIST_FILES]
    try:
        if all(path.exists() for path in archives) and not (raw / _MNIST_FILES[0]).exists():
            # A read-only copy that is still compressed: unpack it out of the way, keep nothing.
            with tempfile.TemporaryDirectory() as scratch:
                unpacked = Path(scratch) / "MNIST" / "raw"
                unpacked.mkdir(parents=True)
                for archive in archives:
                    torchvision.datasets.utils.extract_archive(str(archive), str(unpacked))
                source = torchvision.datasets.MNIST(scratch, train=part == "train")
        else:
            source = torchvision.datasets.MNIST(str(place), train=part == "train", download=True)
    except _UNREADABLE as error:
        raise DataError(f"mnist:{place}: {_one_line(error)}; {_ELSEWHERE}") from error
    if len(source.data) != len(source.targets):
        raise DataError(f"mnist:{place}: {len(source.data)} images, {len(source.targets)} labels")
    return Images(
        pixels=source.data.unsqueeze(1).contiguous(),
        label=source.targets,
        classes=tuple(str(digit) for digit in range(10)),
    )


def _read_cifar10(place: Path, part: str, config: DataConfig) -> Images:
    try:
        source = torchvision.datasets.CIFAR10(str(place), train=part == "train", download=True)
    except _UNREADABLE as error:
        raise DataError(f"cifar10:{place}: {_one_line(error)}; {_ELSEWHERE}") from error
    return Images(
        pixels=torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous(),
        label=torch.tensor(source.targets),
        classes=tuple(source.classes),
    )


def _read_imagefolder(place: Path, part: str, config: DataConfig) -> Images:
    """DIR/train/CLASS/*.png and DIR/test/CLASS/*.png, all of one size or resized to one."""
    try:
        source = torchvision.datasets.ImageFolder(str(place / part), loader=_decode)
    except OSError as error:
        raise DataError(f"imagefolder:{place}: {_one_line(error)}") from error
    decoded = (image for image, _ in source)
    return _stack(decoded, source.targets, source.classes, config)


def _read_parquet(place: Path, part: str, config: DataConfig) -> Images:
    """DIR/train-*.parquet and DIR/test-*.parquet with `image.bytes` (encoded) and `label`."""
    files = sorted(place.glob(f"{part}-*.parquet"))
    if not files:
        raise DataError(f"parquet:{place}: no {part}-*.parquet there")
    try:
        table = pyarrow.parquet.read_table(files, columns=["image", "label"])
        labels, rows = (table[name].to_pylist() for name in ("label", "image"))
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise DataError(f"parquet:{place}: {_one_line(error)}") from error
    if not labels or not all(type(label) is int and label >= 0 for label in labels):
        raise DataError(f"parquet:{place}: the {part} labels are not whole numbers from 0")
    names = _class_names(table.schema.metadata or {}, place)
    if names is None:
        if (count := len(set(labels))) <= max(labels):
            raise DataError(
                f"parquet:{place}: {count} different {part} labels, the highest {max(labels)}; "
                "some classes have no image"
            )
        names = [str(label) for label in range(count)]
    if max(labels) >= len(names):
        raise DataError(f"parquet:{place}: label {max(labels)}, but only {len(names)} class names")
    if part == "train" and (empty := set(range(len(names))) - set(labels)):
        classes = ", ".join(names[label] for label in sorted(empty))
        raise DataError(f"parquet:{place}: no training image of class {classes}")
    decoded = (_decode_row(row, f"{part} image {number}") for number, row in enumerate(rows))
    return _stack(decoded, labels, names, config)


def _class_names(metadata: dict[bytes, bytes], place: Path) -> list[str] | None:
    """As the Hugging Face library writes them into the schema; None where it did not."""
    try:
        info = json.loads(metadata.get(b"huggingface", b"{}"))["info"]
        names = info["features"]["label"]["names"]
    except KeyError:
        return None
    except (TypeError, ValueError) as error:
        raise DataError(f"parquet:{place}: the metadata is damaged: {_one_line(error)}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"parquet:{place}: the class names in the metadata are no list of names")
    return names


def _decode_row(row: Any, name: str) -> Image.Image:
    encoded = row.get("bytes") if isinstance(row, dict) else None
    if not isinstance(encoded, bytes):
        raise DataError(f"{name} has no bytes; embed the images in the file")
    return _decode(io.BytesIO(encoded), name)


def _decode(file: str | io.BytesIO, name: str = "") -> Image.Image:
    """Upright and in colours, grey repeated, as the service reads the same file."""
    name = name or str(file)
    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{name} has {image.mode} pixels; training takes 8 bits a channel")
            if image.has_transparency_data and _alpha(image) != (255, 255):
                raise DataError(f"{name} has transparent pixels; training takes opaque images")
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be read as an image") from error


def _alpha(image: Image.Image) -> tuple[float, float] | tuple[tuple[int, int], ...]:
    return image.convert("RGBA").getchannel("A").getextrema()


def _stack(
    images: Iterable[Image.Image], labels: list[int], names: list[str], config: DataConfig
) -> Images:
    if config.image_size is not None:
        square = (config.image_size, config.image_size)
        images = (image.resize(square, Image.Resampling.BILINEAR) for image in images)
    try:
        arrays = [np.asarray(image) for image in images]
    except MemoryError as error:
        raise DataError(f"{config.source}: the images do not fit into memory") from error
    if len({array.shape for array in arrays}) != 1:
        raise DataError(f"{config.source}: images differ in size; set data.image_size")
    return Images(
        pixels=torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous(),
        label=torch.as_tensor(labels, dtype=torch.int64),
        classes=tuple(names),
    )
