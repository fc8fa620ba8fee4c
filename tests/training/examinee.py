"""A model whose answers can be worked out on paper, and twelve images to ask it about.

An image is 1 x 2 x 2. Its first pixel speaks to the robust way and is far from 0.5, the second to
the non-robust way and is near; the standard way adds both. So an l_inf attack of 0.1 turns the
second pixel over and never the first, and each figure of an evaluation is known.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from training.answers import Answered
from training.checkpoint import (
    Checkpoint,
    Header,
    ImageShape,
    build_model,
    save,
    weights_digest,
)
from training.config import Config, Method, from_dict
from training.data import Images
from training.evaluate import Evaluation
from training.subject import Subject
from training.three_way import ThreeWayModel

_HIGH, _LOW = 204, 51  # 0.8 and 0.2: an attack of 0.1 does not cross 0.5
_ABOVE, _BELOW = 135, 120  # 0.529 and 0.471: it does


class Pixel(nn.Module):
    """The signed distance of one pixel from 0.5, as a pair that a ReLU keeps: (N, 2)."""

    def __init__(self, column: int, gain: float) -> None:
        super().__init__()
        self.column = column
        self.gain = gain

    def forward(self, image: Tensor) -> Tensor:
        distance = self.gain * (image[:, 0, 0, self.column] - 0.5)
        return torch.stack((-distance, distance), dim=1)


def model() -> ThreeWayModel:
    """Class 1 where the pixel is above 0.5; logits are the distance's two halves."""
    made = ThreeWayModel(Pixel(0, 1.0), Pixel(1, 10.0), features=2, classes=2)
    identity = torch.eye(2)
    made.head = nn.Sequential(nn.Linear(4, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    made.head.load_state_dict(
        {"0.weight": torch.cat((identity, identity), dim=1), "2.weight": identity}
    )
    return made.eval()


def images() -> Images:
    """Five plain images of each class, then two odd ones of class 1.

    Image 10: the non-robust way alone is wrong, so that it is a false alarm. Image 11: every way
    is wrong, so that no attack makes them disagree.
    """
    pixels = torch.full((12, 1, 2, 2), 128, dtype=torch.uint8)
    pixels[:5, 0, 0] = torch.tensor([_LOW, _BELOW], dtype=torch.uint8)
    pixels[5:10, 0, 0] = torch.tensor([_HIGH, _ABOVE], dtype=torch.uint8)
    pixels[10, 0, 0] = torch.tensor([_HIGH, _BELOW], dtype=torch.uint8)
    pixels[11, 0, 0] = torch.tensor([_LOW, _BELOW], dtype=torch.uint8)
    label = torch.tensor([0] * 5 + [1] * 7)
    return Images(pixels=pixels, label=label, classes=("dark", "bright"))


def config(method: Method = "aat++", source: str = "mnist:data") -> Config:
    """An experiment whose attack is l_inf 0.1."""
    step = {"steps": 1, "step_size": "0.1"}
    return from_dict(
        {
            "name": "examinee",
            "method": method,
            "data": {"source": source, "validation": 1, "calibration": 1},
            "model": {"backbone": "small_cnn", "width": 2},
            "attack": {
                "norm": "linf",
                "eps": "0.1",
                "standard": step,
                "robust": step,
                "nonrobust": step,
            },
            "optimizer": {"lr": 0.1, "epochs": 2},
        }
    )


def header(experiment: Config, shape: ImageShape, classes: tuple[str, ...], digest: str) -> Header:
    """Of a run that has finished."""
    return Header(
        config=experiment,
        shape=shape,
        classes=classes,
        step=6,
        steps_per_epoch=3,
        seconds=1.0,
        commit="c0ffee",
        data_sha256="0" * 64,
        weights_sha256=digest,
        device="CPU",
        torch=torch.__version__,
    )


def subject(method: Method = "aat++") -> Subject:
    """The model on paper with its twelve images."""
    pictures = images()
    return Subject(
        model=model(),
        device=torch.device("cpu"),
        header=header(
            config(method),
            ImageShape(channels=1, height=2, width=2),
            pictures.classes,
            "1" * 64,
        ),
        source="mnist:data",
        split="test",
        images=pictures,
        index=tuple(range(100, 112)),
        available=200,
    )


def evaluated(
    evaluation: Evaluation, about: Subject, console: Console
) -> tuple[dict[str, Any], Answered]:
    """The document and the answers, without writing them."""
    with tempfile.TemporaryDirectory() as place:
        collected = evaluation(about, evaluation.scratch(about, Path(place)), console)
    assert collected is not None
    return evaluation.document(about, collected), collected.answered


def write_images(place: Path, classes: tuple[str, ...], *, size: int = 16, count: int = 6) -> None:
    """An image folder of noise, `count` colour images of each class and part."""
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in classes:
            (place / part / name).mkdir(parents=True)
            for index in range(count):
                levels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(levels).save(place / part / name / f"{index}.png")


def write_checkpoint(
    path: Path, source: str, classes: tuple[str, ...], method: Method = "aat++"
) -> None:
    """A real checkpoint: an untrained small CNN for colour images of 16 x 16."""
    torch.manual_seed(0)
    experiment = config(method, source)
    shape = ImageShape(channels=3, height=16, width=16)
    weights = dict(build_model(experiment, shape, len(classes)).state_dict())
    save(
        path,
        Checkpoint(
            header=header(experiment, shape, classes, weights_digest(weights)),
            model={},
            averaged=weights,
            optimizer={},
        ),
    )
