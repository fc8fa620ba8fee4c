"""What a model says of one split's images: as they are, mildly corrupted, and under each attack.

Attacked images are rounded to 8 bits within eps, as they travel. Knows which images and what is
done to them; what the answers are good for is others' business.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from training import predict
from training.corruptions import CORRUPTIONS, corrupt
from training.data import Images, to_float
from training.observed import Observed, joined, observe
from training.subject import Subject, choose
from training.threat import ThreatModel
from training.three_way import ThreeWayModel

MILD = (1, 2)  # severities

Attack = Callable[[ThreeWayModel, Tensor, Tensor], Tensor]  # images and labels to attacked images


@dataclass(frozen=True, kw_only=True)
class Specimens:
    """How images of a split are asked about; what is drawn follows from seed and position alone."""

    threat: ThreatModel
    seed: int = 0
    batch_size: int = 250

    def natural(self, subject: Subject) -> Observed:
        """All images as they are."""
        return joined(
            [
                observe(subject.model, to_float(batch.pixels), batch.label)
                for _, batch in self._batches(subject)
            ]
        )

    def corrupted(self, subject: Subject) -> Observed:
        """All images, each under a corruption of a mild severity, both drawn."""
        changed = replace(subject.images, pixels=self._mild(subject))
        return self.natural(replace(subject, images=changed))

    def attacked(self, subject: Subject, attack: Attack) -> Observed:
        """All images under one attack against their true classes."""
        return self.natural(replace(subject, images=self.adversarial(subject, attack)))

    def adversarial(self, subject: Subject, attack: Attack) -> Images:
        """The very images that `attacked` asks about."""
        pixels = []
        for position, batch in self._batches(subject):
            predict.reseed(self.seed, position)
            moved = attack(subject.model, to_float(batch.pixels), batch.label)
            pixels.append(self.threat.rounded(batch.pixels, moved).cpu())
        return replace(subject.images, pixels=torch.cat(pixels))

    def _batches(self, subject: Subject) -> Iterator[tuple[int, Images]]:
        return predict.batches(subject.images, self.batch_size, subject.device)

    def _mild(self, subject: Subject) -> Tensor:
        colours = subject.images.pixels.shape[1] > 1
        names = [name for name, one in CORRUPTIONS.items() if colours or not one.colour_only]
        drawn = []
        for row, position in enumerate(subject.index):
            draw = np.random.default_rng((self.seed, position))
            drawn.append((int(draw.integers(len(names))), int(draw.choice(MILD)), row))
        pixels = torch.empty_like(subject.images.pixels)
        for (which, severity), group in groupby(sorted(drawn), key=lambda one: one[:2]):
            rows = [row for _, _, row in group]
            pixels[rows] = corrupt(
                subject.images.pixels[rows],
                names[which],
                severity,
                seed=self.seed,
                positions=[subject.index[row] for row in rows],
            )
        return pixels


def sample(subject: Subject, count: int, seed: int) -> Subject:
    """At most `count` of the subject's images, drawn by the seed."""
    chosen = choose(len(subject.images), count, seed)
    return replace(
        subject,
        images=subject.images.take(torch.tensor(chosen)),
        index=tuple(subject.index[row] for row in chosen),
    )
