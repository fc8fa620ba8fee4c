"""A small network that tells upright from lying stripes, and splits of such images to measure it.

Trained here in a second: an untrained one names the same class everywhere, and then there is
nothing that an int8 network could get wrong.
"""

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from tests.training import examinee
from training.checkpoint import Checkpoint, ImageShape, build_model, weights_digest
from training.config import from_dict
from training.data import Images, SplitName, to_float
from training.subject import Subject

CLASSES = ("lying", "upright")
_SIDE = 16
_STEPS = 40


def images(count: int, seed: int) -> Images:
    """(count, 1, 16, 16): stripes of any contrast on noise."""
    draw = np.random.default_rng(seed)
    label = np.arange(count) % 2
    pixels = draw.uniform(0.0, 0.3, (count, 1, _SIDE, _SIDE))
    contrast = draw.uniform(0.05, 0.3, count)
    for index, kind in enumerate(label):
        rows = pixels[index, 0].T if kind else pixels[index, 0]
        rows[::4] += contrast[index]
    return Images(
        pixels=torch.from_numpy((255 * pixels).round().astype(np.uint8)),
        label=torch.from_numpy(label),
        classes=CLASSES,
    )


def trained() -> Checkpoint:
    """All three ways by plain cross entropy."""
    config = examinee.config()
    values = config.as_dict() | {"model": {"backbone": "small_cnn", "width": 4}}
    shape = ImageShape(channels=1, height=_SIDE, width=_SIDE)
    torch.manual_seed(0)
    model = build_model(from_dict(values), shape, len(CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batch = images(64, 0)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        logits = model(to_float(batch.pixels))
        torch.stack([cross_entropy(way, batch.label) for way in logits]).sum().backward()
        optimizer.step()
    weights = dict(model.eval().state_dict())
    header = examinee.header(from_dict(values), shape, CLASSES, weights_digest(weights))
    return Checkpoint(header=header, model={}, averaged=weights, optimizer={})


def subject(source: Checkpoint, split: SplitName, count: int) -> Subject:
    """All of `count` images of a split, before the network."""
    from training.checkpoint import model_of

    seeds: dict[SplitName, int] = {"train": 0, "validation": 1, "calibration": 2, "test": 3}
    return Subject(
        model=model_of(source),
        device=torch.device("cpu"),
        header=source.header,
        source="mnist:data",
        split=split,
        images=images(count, seeds[split]),
        index=tuple(range(count)),
        available=count,
    )
