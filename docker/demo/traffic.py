"""Requests as a pipeline sends them: mostly one image, now and then several or a broken one."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

Kind = Literal["natural", "attacked", "broken"]

_PATHS = {  # and how often
    "/detect": 12,
    "/classify": 4,
    "/detect?policy=score&fpr=0.01": 3,
    "/detect?policy=strict": 1,
}
_SEVERAL = 0.15  # of requests
_MOST = 8  # images of one
_BROKEN = 0.01  # of requests: half of a file


@dataclass(frozen=True, slots=True)
class Samples:
    """Encoded images, at least one of each."""

    natural: tuple[bytes, ...]
    attacked: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """`kinds` are those of its images, in their order."""

    path: str
    content_type: str
    body: bytes
    kinds: tuple[Kind, ...]


def load_samples(models: Path, name: str) -> Samples:
    """Those of the newest version of a model that has some.

    Raises:
        FileNotFoundError: none has.
    """
    folders = sorted(models.glob(f"{name}/[0-9]*/samples"), key=lambda at: -int(at.parent.name))
    for folder in folders:
        found = Samples(*(_images(folder / kind) for kind in ("natural", "attacked")))
        if found.natural and found.attacked:
            return found
    raise FileNotFoundError(
        f"no version of {models / name} has samples/natural and samples/attacked"
    )


def draw(random: Random, samples: Samples, attacked_share: float) -> Request:
    """The next request. Each of its images is attacked with this probability, in [0, 1]."""
    (path,) = random.choices(list(_PATHS), list(_PATHS.values()))
    count = random.randint(2, _MOST) if random.random() < _SEVERAL else 1
    kinds: list[Kind] = []
    images = []
    for _ in range(count):
        attacked = random.random() < attacked_share
        kinds.append("attacked" if attacked else "natural")
        images.append(random.choice(samples.attacked if attacked else samples.natural))
    if count > 1:
        texts = [base64.b64encode(image).decode() for image in images]
        body = json.dumps({"images": texts}).encode()
        return Request(path, "application/json", body, tuple(kinds))
    (image,) = images
    if random.random() < _BROKEN:
        return Request(path, "image/png", image[: len(image) // 2], ("broken",))
    return Request(path, "image/png", image, tuple(kinds))


def _images(folder: Path) -> tuple[bytes, ...]:
    return tuple(file.read_bytes() for file in sorted(folder.glob("*.png")))
