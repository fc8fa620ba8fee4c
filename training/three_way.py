"""The three-way model, Eq. 4-5: two encoders, one shared head, three ways to combine them.

Knows neither losses nor attacks, and what a backbone is only by its contract: images (N, C, H, W)
in [0, 1] to features (N, H).
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.config import Way
from training.precision import full_precision


class Logits(NamedTuple):
    """Each way's logits, (N, classes)."""

    standard: Tensor
    robust: Tensor
    nonrobust: Tensor


class Encoded(NamedTuple):
    """The two representations, (N, H) each."""

    z_robust: Tensor
    z_nonrobust: Tensor


class ThreeWayModel(nn.Module):
    """g_r, g_n and f of the paper. `features` is H, the width of one representation."""

    def __init__(
        self, robust: nn.Module, nonrobust: nn.Module, *, features: int, classes: int
    ) -> None:
        super().__init__()
        self.encoder_robust = robust
        self.encoder_nonrobust = nonrobust
        self.features = features
        self.classes = classes
        # Appendix B.1: Linear(2H, H), ReLU, Linear(H, C).
        self.head = nn.Sequential(
            nn.Linear(2 * features, features), nn.ReLU(), nn.Linear(features, classes)
        )

    def encode(self, image: Tensor) -> Encoded:
        """Eq. 4: both representations of one image."""
        return Encoded(self.encoder_robust(image), self.encoder_nonrobust(image))

    def decide(self, encoded: Encoded) -> Logits:
        """Eq. 5: the shared head on [z_r, z_n], [z_r, 0] and [0, z_n]."""
        z_robust, z_nonrobust = encoded
        return Logits(
            standard=self._head(torch.cat((z_robust, z_nonrobust), dim=1)),
            robust=self.decide_robust(z_robust),
            nonrobust=self.decide_nonrobust(z_nonrobust),
        )

    def forward(self, image: Tensor) -> Logits:
        """All three ways, each encoder run once."""
        return self.decide(self.encode(image))

    def way(self, image: Tensor, way: Way) -> Tensor:
        """One way's logits; an encoder that the way does not look at is not run."""
        if way == "robust":
            return self.decide_robust(self.encoder_robust(image))
        if way == "nonrobust":
            return self.decide_nonrobust(self.encoder_nonrobust(image))
        return self._head(torch.cat(self.encode(image), dim=1))

    def ways(self, images: Mapping[Way, Tensor]) -> dict[Way, Tensor]:
        """Each way's logits, (N, classes), on images of its own; encoders and head run once each.

        In eval mode the same as `way` one by one; in train mode all images that an encoder looks
        at are one batch to it.
        """
        z_robust = _together(self.encoder_robust, images, blind="nonrobust")
        z_nonrobust = _together(self.encoder_nonrobust, images, blind="robust")
        rows = []
        for way in images:
            absent = torch.zeros_like(z_nonrobust[way] if way == "nonrobust" else z_robust[way])
            rows.append(torch.cat((z_robust.get(way, absent), z_nonrobust.get(way, absent)), dim=1))
        logits = self._head(torch.cat(rows)).split([len(row) for row in rows])
        return dict(zip(images, logits, strict=True))

    def decide_robust(self, z_robust: Tensor) -> Tensor:
        """Eq. 5b, the head on [z_r, 0]."""
        return self._head(torch.cat((z_robust, torch.zeros_like(z_robust)), dim=1))

    def decide_nonrobust(self, z_nonrobust: Tensor) -> Tensor:
        """Eq. 5c, the head on [0, z_n]."""
        return self._head(torch.cat((torch.zeros_like(z_nonrobust), z_nonrobust), dim=1))

    def _head(self, halves: Tensor) -> Tensor:
        """f on [z_r, z_n] with either half perhaps zero; float32 logits, also under autocast."""
        with full_precision(halves.device):
            return self.head(halves.float())


def _together(encoder: nn.Module, images: Mapping[Way, Tensor], *, blind: Way) -> dict[Way, Tensor]:
    """Features of the images of all ways but `blind`, from one run of the encoder."""
    seeing = {way: image for way, image in images.items() if way != blind}
    if not seeing:
        return {}
    features = encoder(torch.cat(list(seeing.values())))
    return dict(zip(seeing, features.split([len(part) for part in seeing.values()]), strict=True))
