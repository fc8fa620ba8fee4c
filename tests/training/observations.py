"""Answers made by hand, in the form in which a model's are observed."""

from collections.abc import Sequence

import numpy as np
import torch

from service.scores import Features, Logits
from tests.training import examinee
from training.config import Method
from training.data import Images, SplitName
from training.observed import Observed
from training.subject import Subject


def observed(
    label: Sequence[int],
    standard: Sequence[Sequence[float]],
    robust: Sequence[Sequence[float]] | None = None,
    nonrobust: Sequence[Sequence[float]] | None = None,
) -> Observed:
    """Ways that are not given say what the standard way says; features are the first logits."""
    first = np.array(standard, dtype=np.float32)
    second = first if robust is None else np.array(robust, dtype=np.float32)
    third = first if nonrobust is None else np.array(nonrobust, dtype=np.float32)
    return Observed(
        label=np.array(label),
        logits=Logits(first, second, third),
        features=Features(second[:, :1], third[:, :1]),
    )


def subject(split: SplitName, count: int, *, method: Method = "aat++") -> Subject:
    """The model on paper and `count` images of both classes, at all distances from 0.5.

    Both pixels lie on the same side but for one image in twenty, which raises an alarm.
    """
    draw = np.random.default_rng({"train": 0, "validation": 1, "calibration": 2, "test": 3}[split])
    label = np.arange(count) % 2
    side = 2.0 * label - 1.0
    pixels = np.full((count, 1, 2, 2), 0.5)
    pixels[:, 0, 0, 0] += side * draw.uniform(0.12, 0.4, count)
    pixels[:, 0, 0, 1] += side * draw.uniform(0.01, 0.09, count)
    pixels[::20, 0, 0, 1] = 1.0 - pixels[::20, 0, 0, 1]
    images = Images(
        pixels=torch.from_numpy((255 * pixels).round().astype(np.uint8)),
        label=torch.from_numpy(label),
        classes=("dark", "bright"),
    )
    like = examinee.subject(method)
    return Subject(
        model=like.model,
        device=like.device,
        header=like.header,
        source=like.source,
        split=split,
        images=images,
        index=tuple(range(count)),
        available=count,
    )
