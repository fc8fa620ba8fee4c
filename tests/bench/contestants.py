"""Who can be measured, and ours: how it is started and asked. Knows nothing of how it is measured.

All of them answer the same images with the same ONNX file.
"""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.bench import wire

PEERS = Path(__file__).with_name("peers")
OURS, BARE = "Parallax", "ONNX Runtime"
HEAVY = "preact-resnet18"
CLIENTS = (1, 8, 32, 64)
MANY = "v2, 64 images"
_FEW = (1, 8)  # times 64 images: 32 such clients would be more than the service admits at once

Labels = tuple[int, ...]


@dataclass(frozen=True)
class Kind:
    """A sort of request. `read` finds the standard way's labels in an answer."""

    name: str
    requests: tuple[bytes, ...]
    labels: tuple[Labels, ...]  # those that a right answer holds, for each request
    read: Callable[[bytes], Labels]
    images: int = 1
    clients: tuple[int, ...] = CLIENTS
    needs: str = ""  # a path that answers 200 where the server knows this kind


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """In the command and in variables `{port}` stands for the port, as does every other name that
    ends in it for one that is free, and `{folder}` for an empty folder.
    """

    name: str
    model: str = "mnist"
    command: tuple[str, ...]
    kinds: tuple[Kind, ...]
    ready: str = "/health/ready"
    processes: int = 1
    env: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[Mapping[str, str], ...] = ({},)  # more variables; the best is measured

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return Path(self.command[0]).with_name("python")


@dataclass(frozen=True)
class Samples:
    """PNG files with the label that the standard way gives them, and the same as float32."""

    files: tuple[bytes, ...]
    labels: tuple[Labels, ...]
    pixels: NDArray[np.float32]


def newest(models: Path, name: str) -> Path:
    """The folder of the highest version."""
    versions = [place for place in (models / name).iterdir() if place.name.isdecimal()]
    return max(versions, key=lambda place: int(place.name))


def samples(folder: Path) -> Samples:
    """Those that are shipped with the model."""
    with (folder / "samples" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    paths = [folder / "samples" / row["file"] for row in rows]
    levels = [np.asarray(Image.open(path), np.float32) for path in paths]
    return Samples(
        tuple(path.read_bytes() for path in paths),
        tuple((int(row["standard"]),) for row in rows),
        np.stack(levels)[:, None] / np.float32(255),
    )


def ours(python: Path, models: Path, shown: Samples, *, workers: int = 1) -> Contestant:
    """The service with its own defaults, everything on."""
    v2, ready = "/v2/models/mnist/infer", "/v2/health/ready"
    indices = np.arange(64) % len(shown.files)
    many = wire.tensor(v2, shown.pixels[indices])
    labels_of_many = tuple(label for index in indices for label in shown.labels[index])
    files = [wire.png("/detect", one) for one in shown.files]
    forms = [wire.multipart("/detect", one) for one in shown.files]
    tensors = [wire.tensor(v2, one[None]) for one in shown.pixels]
    png = Kind("PNG", tuple(files), shown.labels, _way)
    others = (
        Kind("multipart", tuple(forms), shown.labels, _way),
        Kind("v2, 1 image", tuple(tensors), shown.labels, _likeliest, needs=ready),
        Kind(MANY, (many,), (labels_of_many,), _likeliest, 64, _FEW, ready),
    )
    command = [str(python), "-m", "service.cli", "serve", "--port", "{port}"]
    command += ["--models", str(models)]
    if workers > 1:
        command += ["--workers", str(workers)]
    return Contestant(
        name=OURS,
        command=tuple(command),
        kinds=(png,) if workers > 1 else (png, *others),
        processes=workers,
    )


def _way(answer: bytes) -> Labels:
    return (int(json.loads(answer)["ways"]["standard"]["label"]),)


def _likeliest(answer: bytes) -> Labels:
    return tuple(wire.tensor_in(answer, "probabilities_standard").argmax(1).tolist())
