"""Who can be measured, and ours: how it is started and asked. Knows nothing of how it is measured.

All of them answer the same images with the same ONNX file.
"""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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

Label = Callable[[Any], int]


@dataclass(frozen=True)
class Kind:
    """A sort of request. `label` finds the standard way's label in a JSON answer."""

    name: str
    requests: tuple[bytes, ...]
    images: int = 1
    clients: tuple[int, ...] = CLIENTS
    label: Label | None = None
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
    labels: tuple[int, ...]
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
        tuple(int(row["standard"]) for row in rows),
        np.stack(levels)[:, None] / np.float32(255),
    )


def ours(python: Path, models: Path, shown: Samples, *, workers: int = 1) -> Contestant:
    """The service with its own defaults, everything on."""
    of_v2: dict[str, Any] = {"needs": "/v2/health/ready"}
    path = "/v2/models/mnist/infer"
    many = np.resize(shown.pixels, (64, *shown.pixels.shape[1:]))
    png = Kind("PNG", tuple(wire.png("/detect", one) for one in shown.files), label=_way)
    others = (
        Kind("multipart", tuple(wire.multipart("/detect", one) for one in shown.files), label=_way),
        Kind("v2, 1 image", tuple(wire.tensor(path, one[None]) for one in shown.pixels), **of_v2),
        Kind(MANY, (wire.tensor(path, many),), 64, _FEW, **of_v2),
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


def _way(answer: Any) -> int:
    return int(answer["ways"]["standard"]["label"])


def label_of(kind: Kind, body: bytes) -> int | None:
    """The standard way's label in an answer; None where this kind of answer is not read."""
    return None if kind.label is None else kind.label(json.loads(body))
