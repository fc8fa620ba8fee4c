"""What a model says of labelled images, as the service would read it: logits and representations.

Numpy arrays in the types of `service.scores`, so that the service's own functions score them. Knows
no split and no attack.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service import scores
from service.scores import Features, Head, Logits, ScoreName, Scores, Temperature
from training.checkpoint import CheckpointError
from training.metrics import Flags
from training.three_way import ThreeWayModel


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Answers to N images whose true classes are `label` (N,)."""

    label: NDArray[np.intp]
    logits: Logits
    features: Features

    def __len__(self) -> int:
        return len(self.label)

    @property
    def named(self) -> NDArray[np.intp]:
        """The standard way's labels, (N,)."""
        return np.asarray(self.logits.standard.argmax(axis=1))

    @property
    def fooled(self) -> Flags:
        """Where the standard way is wrong: of attacked images, the successful attacks."""
        return np.asarray(self.named != self.label)

    def take(self, which: Flags) -> "Observed":
        """Those of the images."""
        logits, features = self.logits, self.features
        return Observed(
            label=self.label[which],
            logits=Logits(logits.standard[which], logits.robust[which], logits.nonrobust[which]),
            features=Features(features.robust[which], features.nonrobust[which]),
        )

    def score(self, name: ScoreName, temperature: Temperature, head: Head | None) -> Scores:
        """The service's score, (N,) in [0, 1]."""
        return scores.score(name, self.logits, temperature, self.features, head)


def observe(model: ThreeWayModel, image: Tensor, label: Tensor) -> Observed:
    """Of one batch (N, C, H, W) in [0, 1]; each encoder runs once.

    Raises:
        CheckpointError: an answer is not finite.
    """
    with torch.no_grad():
        encoded = model.encode(image)
        parts = [part.float().cpu().numpy() for part in (*model.decide(encoded), *encoded)]
    if not all(np.isfinite(part).all() for part in parts):
        raise CheckpointError("the model answers with numbers that are not finite")
    standard, robust, nonrobust, z_robust, z_nonrobust = parts
    return Observed(
        label=label.cpu().numpy().astype(np.intp),
        logits=Logits(standard, robust, nonrobust),
        features=Features(z_robust, z_nonrobust),
    )


def joined(parts: Sequence[Observed]) -> Observed:
    """The images of all parts, in their order."""
    logits = [(part.logits.standard, part.logits.robust, part.logits.nonrobust) for part in parts]
    features = [(part.features.robust, part.features.nonrobust) for part in parts]
    return Observed(
        label=np.concatenate([part.label for part in parts]),
        logits=Logits(*(np.concatenate(way) for way in zip(*logits, strict=True))),
        features=Features(*(np.concatenate(half) for half in zip(*features, strict=True))),
    )
